"""gradual: stages are unfrozen from the top, one group after another, earlier ones at lower rates (Howard and Ruder, 2018)."""

from __future__ import annotations

from acclimate.strategies.probe import begun_with
from acclimate.strategies.strategy import TRAINING, Context, Plan, Strategy

GROUPS = 4
DECAY = 1 / 2.6


def gradual(context: Context) -> Plan:
    outcome = yield begun_with(context)
    depth = len(context.stages)
    fresh = context.options.reinit or 0
    sizes = (max(fresh, round(depth * group / GROUPS)) for group in range(1, GROUPS + 1))
    firsts = [max(depth - size, context.first_free) for size in sizes]
    for first in dict.fromkeys(firsts):
        why = "one group of stages after another joins from the top; each stage at 1/2.6 of the next one's rate"
        outcome = yield context.phase(
            why,
            first,
            context.tuning.rate(1e-3),
            decay=DECAY,
            epochs=context.tuning.epochs(2),
            start=outcome.index,
            average=0.0,
            reinit=fresh,
        )
        fresh = 0
    return outcome


GRADUAL = Strategy("gradual", "unfreeze from the top, group by group", gradual, reads=TRAINING | {"reinit"})
