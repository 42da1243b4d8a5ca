"""Adaptations: what is done where the model is to work on samples that look different, from the source-only outcome on."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import Any

from acclimate.alignments import ALIGNMENTS
from acclimate.core.errors import fail, near
from acclimate.engine.phase import HEAD, Compare, Comparison, Outcome, Phase, Remark
from acclimate.objectives import ADAPTING
from acclimate.strategies.strategy import Context, Plan

Adapting = Generator[Any, Any, Outcome]

AUTO, NONE = "auto", "none"
BEGUN = "standardise"
"""The alignment that training on features begins from."""
RANK, STEPS, TOGETHER, RATE = 64, 100, 1024, 1e-3
"""Of training on features: rank of the bridge, steps, samples of each side in a step (statistics of a whole data set are
better the more of it they see), rate."""
TAIL_EPOCHS, TAIL_TOGETHER = 4, 64
"""Of training stages."""
SURE, CLEAR, LARGE, UNEVEN = 0.01, 0.75, 0.10, 2.8
"""auto adapts where the two sides are told apart with p at most `SURE` and AUC from `CLEAR`, the predicted drop is `LARGE` or more, and
no class gets more than `UNEVEN` times its even share of the predictions, unless class shares were declared (docs/log.md)."""
COLLAPSED = 0.5
"""Effective number of predicted classes, as a share of that of the class shares that are expected, below which nothing is believed."""
SEEDS = 3
"""Runs with other random numbers whose average auto takes."""


@dataclass(frozen=True)
class Adaptation:
    """`stages`: how many of the last stages learn too, beside the features; 0: the features alone."""

    name: str
    stages: int
    plan: Callable[[Context, Outcome, Adaptation, int], Adapting]
    """From (context, source-only outcome, itself, seed)."""


def known() -> list[str]:
    return [AUTO, NONE, *ALIGNMENTS, *ADAPTING]


def find(name: str) -> Adaptation:
    """Raises `UserError` for an unknown name, or a number out of place."""
    stem, colon, number = name.partition(":")
    if stem not in known():
        raise fail(f"--adapt {name}", "is not an adaptation", near(stem, known(), most=40))
    if colon and stem not in ADAPTING:
        raise fail(
            f"--adapt {name}",
            "takes no number",
            f"write {stem}; of {', '.join(ADAPTING)} it is how many of the last stages learn",
        )
    if colon and not (number.isdigit() and int(number) > 0):
        raise fail(f"--adapt {name}", "must end in a whole number from 1", f"for example {stem}:2")
    plan = {AUTO: auto, NONE: none}.get(stem, closed if stem in ALIGNMENTS else trained)
    return Adaptation(stem, int(number) if colon else 0, plan)


def adapted(context: Context, plan: Plan, adaptation: Adaptation) -> Plan:
    """The strategy's plan, and what is done with the outcome it chose."""
    source = yield from plan
    return (yield from adaptation.plan(context, source, adaptation, context.options.seed))


def none(context: Context, source: Outcome, adaptation: Adaptation, seed: int) -> Adapting:
    """Source only, with what is to be said about that."""
    seen: Comparison = yield Compare(source.index)
    yield Remark(f"not adapted, as asked: {told(seen)}")
    return source


def closed(context: Context, source: Outcome, adaptation: Adaptation, seed: int) -> Adapting:
    return (yield alignment(context, adaptation.name, source, seed))


def alignment(context: Context, name: str, source: Outcome, seed: int) -> Phase:
    """The phase that fits the head for the target in closed form."""
    why = ALIGNMENTS[name].summary
    phase = Phase(f"adapt: {name}", why, (HEAD,), (), epochs=0, solve=True, start=source.index, seed=seed)
    return replace(phase, align=name, shares=context.shares)


def trained(context: Context, source: Outcome, adaptation: Adaptation, seed: int) -> Adapting:
    """On features a bridge learns, from the alignment that all begin from; with stages these and the head learn, from the source."""
    if adaptation.stages:
        return (yield tail(context, source, adaptation))
    begun = yield alignment(context, BEGUN, source, seed)
    return (yield bridge(context, begun, adaptation.name, seed))


def bridge(context: Context, begun: Outcome, name: str, seed: int) -> Phase:
    """The phase that moves features by a map of low rank before the head, on cached features of both sides."""
    epochs = max(1, round(STEPS / math.ceil(context.samples / TOGETHER)))
    why = f"features of both sides, computed once, are moved by a map of rank {RANK}; the head stays, and takes the map in at the end"
    return Phase(
        f"adapt: {name}",
        why,
        (HEAD,),
        (RATE,),
        epochs=epochs,
        start=begun.index,
        first=len(context.stages),
        views=1,
        batch_size=TOGETHER,
        augment="none",
        objective=name,
        strength=context.options.strength or 1.0,
        bridge=RANK,
        shares=context.shares,
        seed=seed,
    )


def tail(context: Context, source: Outcome, adaptation: Adaptation) -> Phase:
    """The phase that trains the last stages and the head on both streams: on cached activations, or all layers on the samples."""
    first = max(0, len(context.stages) - adaptation.stages)
    rate = context.tuning.tail_rate(sum(stage.share for stage in context.stages[first:])) / 3
    return context.phase(
        f"the last {adaptation.stages} stages learn from both sides; batch norm keeps the statistics it has",
        first,
        rate,
        epochs=TAIL_EPOCHS,
        start=source.index,
        first=first,
        views=1 if first else 0,
        batch_size=TAIL_TOGETHER,
        augment="none" if first else context.tuning.defaults["augment"],
        objective=adaptation.name,
        shares=context.shares,
    )


def auto(context: Context, source: Outcome, adaptation: Adaptation, seed: int) -> Adapting:
    """Adapts only where that is likelier to help than to harm; then by one fixed method, several times."""
    seen: Comparison = yield Compare(source.index)
    against = reason_against(seen, declared=bool(context.shares))
    if against:
        yield Remark(f"not adapted: {against} ({told(seen)})")
        return source
    yield Remark(f"adapted, for a large drop is expected: {told(seen)}")
    begun = yield alignment(context, BEGUN, source, seed)
    each = []
    for number in range(SEEDS):
        each.append((yield bridge(context, begun, "shot", seed + number)))
    mean = yield average(each, seed)
    after: Comparison = yield Compare(mean.index)
    if effective(after.predicted) < COLLAPSED * effective(after.source):
        left = f"{effective(after.predicted):.1f} of {after.classes} classes"
        yield Remark(f"given up: predictions collapsed to {left}; the source-only model stays")
        return source
    yield Remark(diagnosed(seen, after))
    return mean


def average(each: list[Outcome], seed: int) -> Phase:
    """The phase that takes the mean of the weights of outcomes."""
    outcomes = tuple(one.index for one in each)
    why = f"the mean of {len(each)} runs with other random numbers"
    return Phase("adapt: average", why, (HEAD,), (), epochs=0, solve=True, merge=outcomes, start=outcomes[0], seed=seed)


def reason_against(seen: Comparison, declared: bool) -> str:
    """Why not to adapt; nothing where all speaks for it."""
    if seen.p > SURE or seen.auc < CLEAR:
        return "the two sides are hardly told apart"
    if seen.drop < LARGE:
        return "no large drop of accuracy is expected"
    if seen.kind == "shares":
        return "class shares differ rather than looks, and every adaptation would undo that"
    if max(seen.predicted) > UNEVEN / seen.classes and not declared:
        return (
            "predictions are so uneven that class shares may differ: say what they are, by --target-shares, if you know"
        )
    return ""


def effective(shares: tuple[float, ...]) -> float:
    """The number of equal classes with as much entropy."""
    return math.exp(-sum(share * math.log(share) for share in shares if share > 0))


def told(seen: Comparison) -> str:
    lost = (
        f"a drop of at least {100 * seen.drop:.0f} points"
        if seen.drop >= LARGE
        else f"a drop of {100 * max(0, seen.drop):.0f} points"
    )
    return f"told apart with AUC {seen.auc:.2f}, p {seen.p:.2g}; {lost} expected; most predicted class {max(seen.predicted):.0%}"


def diagnosed(before: Comparison, after: Comparison) -> str:
    apart = f"told apart by what is answered on {before.apart:.0%} of samples before, {after.apart:.0%} after"
    largest = f"most predicted class {max(before.predicted):.0%} before, {max(after.predicted):.0%} after"
    return f"after adapting: {apart}; {largest}; accuracy there is not known without labels"
