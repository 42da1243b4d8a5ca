"""lp-ft: probe, then all layers from the probe's head at a small rate (Kumar et al., 2022)."""

from __future__ import annotations

from acclimate.strategies.probe import solved
from acclimate.strategies.strategy import Context, Plan, Strategy


def lp_ft(context: Context) -> Plan:
    begun = yield solved(context)
    why = "all layers from the probe's head, so that features are not distorted while the head is still random"
    return (yield context.phase(why, 0, 3e-4, head=1e-3, epochs=8, start=begun.index, average=0.5, label_smoothing=0.1))


LP_FT = Strategy("lp-ft", "probe, then all layers at a small rate", lp_ft)
