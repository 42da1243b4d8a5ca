"""lp-ft: probe, then all layers from the probe's head at a small rate (Kumar et al., 2022)."""

from __future__ import annotations

from acclimate.strategies.probe import begun_with
from acclimate.strategies.strategy import TRAINING, Context, Plan, Strategy


def lp_ft(context: Context) -> Plan:
    begun = yield begun_with(context)
    rate = context.tuning.rate(3e-4)
    why = "all layers from the probe's head, so that features are not distorted while the head is still random"
    return (
        yield context.phase(
            why,
            0,
            rate,
            head=3 * rate,
            epochs=context.tuning.epochs(8),
            start=begun.index,
            reinit=context.options.reinit or 0,
        )
    )


LP_FT = Strategy("lp-ft", "probe, then all layers at a small rate", lp_ft, reads=TRAINING | {"reinit"})
