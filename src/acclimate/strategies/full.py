"""full: all layers from a fresh head, the head at ten times the backbone's rate."""

from __future__ import annotations

from acclimate.strategies.strategy import Context, Plan, Strategy


def full(context: Context) -> Plan:
    why = "from a fresh head, with batch norm in training mode"
    return (yield context.phase(why, 0, 3e-4, head=3e-3, epochs=10, norm="batch", label_smoothing=0.1))


FULL = Strategy("full", "all layers from a fresh head", full)
