"""Adaptations: what is done where the model is to work on samples that look different, from the source-only outcome on."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import Any

from scipy.special import bdtrc

from acclimate.alignments import ALIGNMENTS
from acclimate.core.errors import fail, near
from acclimate.engine.phase import HEAD, Audit, Compare, Comparison, Outcome, Phase, Remark
from acclimate.objectives import ADAPTING
from acclimate.strategies import ADAPTATIONS
from acclimate.strategies.strategy import Context, Plan

Adapting = Generator[Any, Any, Outcome]

AUTO, NONE, STATISTICS = "auto", "none", "adabn"
BEGUN = "standardise"
"""The alignment that training on features begins from."""
RANK, STEPS, RATE = 64, 100, 1e-3
"""Of training on features: rank of the bridge, steps, rate."""
TAIL_EPOCHS, TAIL_TOGETHER = 4, 64
"""Of training stages."""
SURE, CLEAR, LARGE, UNEVEN = 0.01, 0.75, 0.10, 2.8
"""auto adapts where the two sides are told apart with p at most `SURE` and AUC from `CLEAR`, the predicted drop is `LARGE` or more, and
no class gets more than `UNEVEN` times its even share of the predictions, unless class shares were declared (docs/log.md)."""
COLLAPSED = 0.5
"""Effective number of predicted classes, as a share of that of the class shares that are expected, below which nothing is believed."""
TOLD = 0.05
"""Chance of a false answer of each test on the target's labels."""
LEARNED = "labels"
"""The alignment that learns from the target's labels."""
BLIND = "shot"
"""The adaptation that auto uses where labels of the target do not train."""
TRIED = ("source only", "with labels", "without labels")
"""What labels of the target decide between, in the order of the questions that `by_labels` asks."""
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
    return list(ADAPTATIONS)


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
    plan = {AUTO: auto, NONE: none, STATISTICS: statistics}.get(stem, closed if stem in ALIGNMENTS else trained)
    return Adaptation(stem, int(number) if colon else 0, plan)


def needs_labels(name: str) -> bool:
    """Whether an adaptation learns from labels of the target."""
    return name in ALIGNMENTS and ALIGNMENTS[name].labelled


def reads_shares(name: str) -> bool:
    """Whether declared class shares of the target change what an adaptation does."""
    stem = name.partition(":")[0]
    if stem in ALIGNMENTS:
        return ALIGNMENTS[stem].shared
    return stem == AUTO or (stem in ADAPTING and ADAPTING[stem].shared)


def adapted(context: Context, plan: Plan, adaptation: Adaptation, audited: bool = False) -> Plan:
    """The strategy's plan, and what is done with the outcome it chose; `audited`: samples of the target have labels, which decide."""
    source = yield from plan
    if audited and adaptation.name != NONE:
        return (yield from by_labels(context, source, adaptation, context.options.seed))
    if adaptation.name in (AUTO, NONE):
        return (yield from adaptation.plan(context, source, adaptation, context.options.seed))
    return (yield from watched(context, source, adaptation, context.options.seed))


def watched(context: Context, source: Outcome, adaptation: Adaptation, seed: int) -> Adapting:
    """As asked by name, with what is to be seen of it without labels: it is done even where that speaks against it."""
    before: Comparison = yield Compare(source.index)
    outcome: Outcome = yield from adaptation.plan(context, source, adaptation, seed)
    after: Comparison = yield Compare(outcome.index)
    yield Remark(diagnosed(before, after))
    if collapsed(after):
        left = f"{effective(after.predicted):.1f} of {after.classes} classes"
        yield Remark(f"mind: predictions collapsed to {left}; the source-only model is likely better (--adapt none)")
    return outcome


def by_labels(context: Context, source: Outcome, adaptation: Adaptation, seed: int) -> Adapting:
    """Labels decide between the source-only model, learning from the labels too, and an adaptation without labels: what is better beyond
    chance by an exact test, paired by sample, and of several what has most right; that is then done with all labels. What learns from
    them and was asked for by name is done as asked."""
    _, taught, without = TRIED
    before: tuple[float, ...] = yield Audit(source.index)
    tried = {taught: (yield Audit(source.index, LEARNED))}
    blind = yield from by_assumption(context, source, adaptation, seed)
    if blind is not None:
        tried[without] = yield Audit(blind.index)
    sure = {name: chance(scores, before) for name, scores in tried.items()}
    for name, scores in tried.items():
        yield Remark(
            f"{name}: {right(scores)} of the target's {len(before)} labels right, source only {right(before)}; p {sure[name]:.2g}"
        )
    better = [taught] if adaptation.name == LEARNED else [name for name, p in sure.items() if p < TOLD]
    if not better:
        yield Remark("not adapted: the labels do not tell anything to be better than the source-only model")
        return source
    if blind is not None and max(better, key=lambda name: sum(tried[name])) == without:
        return blind
    return (yield alignment(context, LEARNED, source, seed))


def by_assumption(
    context: Context, source: Outcome, adaptation: Adaptation, seed: int
) -> Generator[Any, Any, Outcome | None]:
    """The adaptation without labels that these are to judge: the one asked for, else `BLIND` where a large drop is expected, since where
    none is there is little to gain, and a test may be wrong. None where there is none to judge."""
    if adaptation.name == LEARNED:
        return None
    if adaptation.plan is not auto:
        return (yield from adaptation.plan(context, source, adaptation, seed))
    seen: Comparison = yield Compare(source.index)
    if seen.drop < LARGE:
        yield Remark(f"no adaptation without labels is tried, for no large drop of accuracy is expected: {told(seen)}")
        return None
    fixed = find(BLIND)
    return (yield from fixed.plan(context, source, fixed, seed))


def right(scores: tuple[float, ...]) -> int:
    return round(sum(scores))


def chance(scores: tuple[float, ...], before: tuple[float, ...]) -> float:
    """One-sided exact p that `scores` of 0 and 1 are better by chance alone (McNemar, 1947, by the binomial distribution)."""
    gained = sum(new > old for new, old in zip(scores, before, strict=True))
    lost = sum(new < old for new, old in zip(scores, before, strict=True))
    return float(bdtrc(gained - 1, gained + lost, 0.5)) if gained else 1.0


def none(context: Context, source: Outcome, adaptation: Adaptation, seed: int) -> Adapting:
    """Source only, with what is to be said about that."""
    seen: Comparison = yield Compare(source.index)
    yield Remark(f"not adapted, as asked: {told(seen)}")
    return source


def statistics(context: Context, source: Outcome, adaptation: Adaptation, seed: int) -> Adapting:
    """AdaBN (Li et al., 2016): batch norm of every layer has the statistics of the samples it sees. The head is fitted to the source with
    the source's own, and works with the target's: pretrained ones are neither's."""
    why = "batch norm with the statistics of the source, and the head fitted anew to what comes of it"
    own = Phase("statistics of the source", why, (HEAD,), (), epochs=0, solve=True, start=source.index, seed=seed)
    begun = yield replace(own, restate="source")
    why = "batch norm with the statistics of the target; nothing else changes"
    last = Phase("adapt: adabn", why, (HEAD,), (), epochs=0, solve=True, start=begun.index, seed=seed)
    return (yield replace(last, merge=(begun.index,), restate="target"))


def closed(context: Context, source: Outcome, adaptation: Adaptation, seed: int) -> Adapting:
    return (yield alignment(context, adaptation.name, source, seed))


def alignment(context: Context, name: str, source: Outcome, seed: int) -> Phase:
    """The phase that fits the head for the target in closed form."""
    why = ALIGNMENTS[name].summary
    phase = Phase(f"adapt: {name}", why, (HEAD,), (), epochs=0, solve=True, start=source.index, seed=seed)
    return replace(phase, align=name, shares=context.shares)


def trained(context: Context, source: Outcome, adaptation: Adaptation, seed: int) -> Adapting:
    """On features a bridge learns, from the alignment that all begin from; with stages these and the head learn, from the source."""
    if adaptation.stages > len(context.stages):
        names = ", ".join(stage.name for stage in context.stages)
        rule = f"is more stages than the model has: {len(context.stages)}"
        raise fail(f"--adapt {adaptation.name}:{adaptation.stages}", rule, f"the stages are {names}")
    if adaptation.stages:
        return (yield tail(context, source, adaptation))
    begun = yield alignment(context, BEGUN, source, seed)
    return (yield bridge(context, begun, adaptation.name, seed))


def bridge(context: Context, begun: Outcome, name: str, seed: int) -> Phase:
    """The phase that moves features by a map of low rank before the head, on cached features of both sides."""
    together = ADAPTING[name].together
    epochs = max(1, round(STEPS / math.ceil(context.samples / together)))
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
        batch_size=together,
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
    phase = context.phase(
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
    return replace(phase, name=f"adapt: {adaptation.name}, {phase.name}")


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
        one = yield bridge(context, begun, BLIND, seed + number)
        alone: Comparison = yield Compare(one.index)
        yield Remark(f"seed {seed + number}: {effective(alone.predicted):.1f} classes in use, {answered(alone)}")
        each.append(one)
    mean = yield average(each, seed)
    after: Comparison = yield Compare(mean.index)
    if collapsed(after):
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
        return "the two sides differ too little"
    if seen.drop < LARGE:
        return "no large drop of accuracy is expected"
    if seen.kind == "shares":
        return "class shares differ rather than looks, and every adaptation would undo that"
    if max(seen.predicted) > UNEVEN / seen.classes and not declared:
        return (
            "predictions are so uneven that class shares may differ: say what they are, by --target-shares, if you know"
        )
    return ""


def collapsed(seen: Comparison) -> bool:
    return effective(seen.predicted) < COLLAPSED * effective(seen.source)


def effective(shares: tuple[float, ...]) -> float:
    """The number of equal classes with as much entropy."""
    return math.exp(-sum(share * math.log(share) for share in shares if share > 0))


def told(seen: Comparison) -> str:
    least = math.floor(100 * seen.least) if seen.drop >= LARGE else 0
    lost = f"a drop of at least {least} points" if least else f"a drop of {100 * max(0, seen.drop):.0f} points"
    return f"told apart with AUC {seen.auc:.2f}, p {seen.p:.2g}; {lost} expected; most predicted class {max(seen.predicted):.0%}"


def answered(seen: Comparison) -> str:
    """What the answers for the target look like."""
    sure = sum(doubt * share for doubt, share in zip(seen.entropy, seen.predicted, strict=True))
    return (
        f"most predicted {max(seen.predicted):.0%}, entropy {sure:.2f}, told apart by its answers on {seen.apart:.0%}"
    )


def diagnosed(before: Comparison, after: Comparison) -> str:
    changed = f"{answered(before)} before; {answered(after)} after"
    source = f"of the source {before.accuracy:.0%} right before, {after.accuracy:.0%} after"
    return f"adapted: {changed}; {source}; how accurate it is on the target is not known without labels"
