"""last:N: the last N stages and the head, from the probe on, reading cached activations of a few fixed views."""

from __future__ import annotations

from acclimate.engine.phase import Phase
from acclimate.strategies.probe import solved
from acclimate.strategies.strategy import TRAINING, Context, Plan, Strategy


def tail(context: Context, first: int, start: int | None, why: str) -> Phase:
    """Stages from `first` on, trained on what flows into them. The rate falls with depth where batch norm stays frozen: deep
    tails collapse at a rate that suits the last stage (docs/log.md)."""
    tuning = context.tuning
    lr = tuning.tail_rate(sum(stage.share for stage in context.stages[first:]))
    first = max(first, context.first_free)
    names = context.stages[first:]
    wanted = 1 if context.options.augment == "none" else tuning.views
    views = 0 if first == 0 else context.fitting_views(wanted, first) if names else wanted
    if 0 < first < len(context.stages) and views < wanted:
        kept = f"only {views} of {wanted} views fit" if views else "no view fits, so samples are augmented afresh:"
        why += f"; {kept} the cache (its limit, ACCLIMATE_CACHE_GB, or its disk)"
    return context.phase(
        why,
        first,
        lr,
        epochs=tuning.tail_epochs,
        start=start,
        first=first if views else 0,
        views=views,
    )


def tail_start(context: Context, most: float) -> int:
    """The number of the first stage of the longest tail of at most this share of the operations."""
    first = len(context.stages)
    while first > context.first_free and sum(stage.share for stage in context.stages[first - 1 :]) <= most:
        first -= 1
    return min(first, len(context.stages) - 1) if context.first_free < len(context.stages) else first


def last(context: Context) -> Plan:
    first = max(0, len(context.stages) - (context.argument or 1))
    stages = f"{context.argument} stages" if (context.argument or 1) > 1 else "stage"
    begun = yield solved(context, keep=first)
    return (yield tail(context, first, begun.index, f"the last {stages}, as asked"))


LAST = Strategy(
    "last",
    "the last N stages and the head, on cached activations",
    last,
    reads=TRAINING - {"freeze"},
    augments=("none", "light"),
    numbered=True,
)
