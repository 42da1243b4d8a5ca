"""full: all layers from a fresh head, the head at ten times the backbone's rate."""

from __future__ import annotations

from acclimate.strategies.strategy import TRAINING, Context, Plan, Strategy


def full(context: Context) -> Plan:
    rate = context.tuning.rate(3e-4)
    why = "from a fresh head; batch norm, where there is some, in training mode"
    return (
        yield context.phase(
            why,
            0,
            rate,
            head=10 * rate,
            epochs=context.tuning.epochs(10),
            norm="batch",
            average=0.0,
            reinit=context.options.reinit or 0,
        )
    )


FULL = Strategy("full", "all layers from a fresh head", full, reads=TRAINING | {"reinit"})
