"""The tail: the last stages and the head, trained on cached activations of a few fixed views; what most strategies are made of."""

from __future__ import annotations

from acclimate.engine.phase import Phase
from acclimate.strategies.strategy import Context


def tail(context: Context, first: int, start: int | None, why: str, keep: int = 0) -> Phase:
    """Stages from `first` on, trained on what flows into them; the head alone where `first` is behind the last. The rate falls with
    depth where batch norm stays frozen: deep tails collapse at a rate that suits the last stage (docs/log.md)."""
    tuning = context.tuning
    lr = tuning.tail_rate(sum(stage.share for stage in context.stages[first:]))
    first = max(first, context.first_free)
    policy = context.options.augment or tuning.defaults["augment"]
    epochs = tuning.tail_epochs if first < len(context.stages) else tuning.head_epochs
    epochs = context.options.epochs or epochs
    # a view is a pass over all samples: in few epochs it is not read often enough to be worth it
    wanted = min(context.views.get(policy, 1), max(1, epochs // 2))
    views = context.fitting_views(wanted, first) if first else 0
    if first and views < wanted:
        kept = f"only {views} of {wanted} views fit" if views else "no view fits, so samples are augmented afresh:"
        why += f"; {kept} the cache (its limit, ACCLIMATE_CACHE_GB, or its disk)"
    return context.phase(
        why,
        first,
        lr,
        head=lr * tuning.head_rate,
        epochs=epochs,
        start=start,
        first=first if views else 0,
        views=views,
        keep=keep,
    )


def tail_start(context: Context, most: float) -> int:
    """The number of the first stage of the tail: of the stage that the tuning names, else of the longest one of at most this share of
    the operations."""
    names = [stage.name for stage in context.stages]
    if context.tuning.tail_from in names:
        return max(names.index(context.tuning.tail_from), context.first_free)
    first = len(context.stages)
    while first > context.first_free and sum(stage.share for stage in context.stages[first - 1 :]) <= most:
        first -= 1
    return min(first, len(context.stages) - 1) if context.first_free < len(context.stages) else first
