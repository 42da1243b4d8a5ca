"""layer-decay: all layers from the probe's head, each stage at a share of the next one's rate (Clark et al., 2020; Bao et al., 2022)."""

from __future__ import annotations

from acclimate.strategies.probe import begun_with
from acclimate.strategies.strategy import TRAINING, Context, Plan, Strategy

DECAY = 0.75


def layer_decay(context: Context) -> Plan:
    begun = yield begun_with(context)
    rate = context.tuning.rate(1e-3)
    why = f"early stages hold what is general and move least: each at {DECAY} of the next one's rate"
    return (
        yield context.phase(
            why,
            0,
            rate,
            decay=DECAY,
            epochs=context.tuning.epochs(8),
            start=begun.index,
            reinit=context.options.reinit or 0,
        )
    )


LAYER_DECAY = Strategy("layer-decay", "all layers, earlier ones slower", layer_decay, reads=TRAINING | {"reinit"})
