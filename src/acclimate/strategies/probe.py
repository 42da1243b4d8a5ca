"""probe: everything frozen, the head fitted to features that are computed once, or trained on them where it has no closed form."""

from __future__ import annotations

from dataclasses import replace

from acclimate.engine.phase import HEAD, Phase
from acclimate.strategies.strategy import Context, Plan, Strategy
from acclimate.strategies.tail import tail, tail_start


def solved(context: Context, keep: int = 0) -> Phase:
    """The phase that fits the head in closed form; the pass leaves the activations at boundary `keep` in the cache as well."""
    why = "the frozen network's features, computed once; the penalty is chosen on validation"
    balance, seed = context.options.balance or "none", context.options.seed
    return Phase("probe", why, (HEAD,), (), epochs=0, solve=True, keep=keep, balance=balance, seed=seed)


def begun_with(context: Context, keep: int = 0) -> Phase:
    """The phase that gives a fresh head a meaning before anything else moves; the pass leaves boundary `keep` in the cache as well."""
    if context.tuning.solved:
        return solved(context, keep)
    if not context.tuning.head_epochs:
        why = "neck and head are new, so they learn together, on what the frozen network sees, computed once"
        return tail(context, tail_start(context, context.tuning.tail_share), None, why)
    why = "a fresh head on the frozen network's features, computed once, so that it does no harm to them later"
    return tail(context, len(context.stages), None, why, keep)


def probe(context: Context) -> Plan:
    tuning = context.tuning
    alone = replace(tuning, head_epochs=tuning.tail_epochs) if tuning.head_epochs else tuning
    return (yield begun_with(replace(context, tuning=alone)))


PROBE = Strategy("probe", "fit only a new head, on cached features", probe, reads=frozenset({"balance"}))
