"""auto: the probe, then the last stages on cached activations and all layers, in the order that gains sooner; each kept only if
validation gains."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable
from dataclasses import replace
from typing import Any

from acclimate.engine.estimate import SOLVE
from acclimate.engine.phase import PASS, Clock, Outcome, Phase, Remark, Trial
from acclimate.strategies import contrastive
from acclimate.strategies.probe import begun_with, solved
from acclimate.strategies.strategy import Context, Plan, Strategy, better, compared, gain
from acclimate.strategies.tail import tail, tail_start

Chain = tuple[Phase, ...]
"""The phases that led to an outcome, in order."""

FOLDS = 3
TELLING = 200
"""Samples below which folds tell nothing about contrastive training: 48 of six classes gained 7 points, and folds saw none."""
FEWEST = 1 / 8
"""Share of a phase's epochs below which it is not worth beginning."""
LEAST = 1 / 4
"""Share of the tail's operations below which a shorter tail is not worth training."""


def auto(context: Context) -> Plan:
    tuning = context.tuning
    first = tail_start(context, tuning.tail_share)
    probe = begun_with(context, keep=first)
    if context.samples + context.validation <= tuning.few:
        return (yield from few(context, solved(context, keep=contrastive.start(context))))
    deep = deeper(context) if tuning.deep_share else []
    patience = tuning.patience if context.options.minutes is None else math.inf  # an asked budget is there to be used
    if deep:
        left = yield Clock()
        likely = first_fitting(context, deep, min(left - context.seconds(probe), patience), tuning.deep_least)
        probe = begun_with(context, keep=(likely.first if likely else 0) or first)
    if not probe.solve:
        left = yield Clock()
        probe = shortened(context, probe, left)
    best = yield probe
    pace = pace_of(context, probe, best)
    chain: Chain = (probe,)
    far = best.value < tuning.known
    if deep and far:
        left = yield Clock()
        phase = first_fitting(context, deep, min(left, patience) / pace, tuning.deep_least)
        if phase is not None:
            reached, _ = yield from step(context, pace, best, chain, phase)
            if reached is not best:
                return reached
        else:
            yield Remark(f"all layers: not begun at once, about {pace * context.seconds(deep[0]):.0f} s are needed")
    elif deep:
        yield Remark(
            f"all layers: not begun at once, the network knows such samples ({best.phase} alone: {best.value:.3f})"
        )
    if probe.first != first:  # else it was the tail
        best, chain = yield from step(context, pace, best, chain, *tails(context, first, best.index))
    deepest = all_layers(context, best.index)
    if context.options.minutes is not None or (
        not (deep and far) and pace * context.seconds(deepest) <= tuning.patience
    ):
        best, chain = yield from step(context, pace, best, chain, deepest)
    return best


def pace_of(context: Context, probe: Phase, outcome: Outcome) -> float:
    """How many times as long as was thought the pass took: a busy machine is slower than what was measured at the start."""
    thought = context.seconds(probe) - SOLVE
    return max(1.0, outcome.notes.get(PASS, 0.0) / thought) if thought > 0 else 1.0


def few(context: Context, probe: Phase) -> Plan:
    """Where samples are few: the probe on features that were drawn together by class before, unless folds can tell and do not say
    that this gains."""
    chain: Chain = (probe, *contrastive.gathering(context, 1))
    samples = context.samples + context.validation
    trial = Trial(tuple(replace(phase, blind=phase.solve) for phase in chain), FOLDS, new=len(chain))
    judging = context.trial_seconds(trial) if samples >= TELLING else 0.0
    needed = sum(map(context.seconds, chain))
    left = yield Clock()
    if needed + judging > left:
        yield Remark(f"contrastive: not tried, about {needed + judging:.0f} s are needed, {left:.0f} left")
        return (yield probe)
    gains = True
    if samples >= TELLING:
        gains = yield from gathering_gains(trial, judging, needed, left)
    else:
        yield Remark(f"contrastive: adopted, for {samples} samples are too few to tell out of fold what usually gains")
    begun = best = yield on_everything(context, probe)
    for phase in chain[1:] if gains else ():
        best = yield on_everything(context, phase)
    return contrastive.usable(best, begun)


def gathering_gains(trial: Trial, judging: float, needed: float, before: float) -> Generator[Any, Any, bool]:
    """Whether folds tell that contrastive training gains, and there is time for it: `needed` seconds, or more in the measure in which
    the trial took more than the `judging` seconds that were thought."""
    plain, _, drawn = yield trial
    if not better(drawn, plain):
        yield Remark(f"contrastive: not begun ({compared(drawn, plain, 'out of fold')})")
        return False
    left = yield Clock()
    if left < before:  # without a budget both are infinite
        needed *= max(1.0, (before - left) / judging)
    if needed > left:
        yield Remark(f"contrastive: gains out of fold, not begun: about {needed:.0f} s are needed, {left:.0f} left")
        return False
    yield Remark(f"contrastive: adopted ({compared(drawn, plain, 'out of fold')})")
    return True


def step(
    context: Context, pace: float, best: Outcome, chain: Chain, *wanted: Phase
) -> Generator[Any, Any, tuple[Outcome, Chain]]:
    """Run the first phase of `wanted` for which there is time after those of `chain`, which led to `best`; keep it if it is better.

    Where validation is small, a trial judges it first; what that proves learns from the validation samples too.
    """
    left = yield Clock()
    phase = first_fitting(context, wanted, left / pace, FEWEST)
    if phase is None:
        needed = pace * context.seconds(wanted[0])
        yield Remark(f"{wanted[0].name}: not begun, about {needed:.0f} s are needed, {left:.0f} left")
        return best, chain
    proof = ""
    if context.validation < context.tuning.enough and fits_with_trial(context, phase, left / pace):
        *_, plain, deeper = yield Trial((*map(trial_of, chain), trial_of(phase)), FOLDS)
        found = compared(deeper, plain, "out of fold")
        proof = found if better(deeper, plain) else ""
        if gain(deeper, plain)[0] < 0:
            yield Remark(f"{phase.name}: not begun ({found})")
            return best, chain
    if best.learned_from_validation and not proof:
        yield Remark(f"{phase.name}: not begun, validation samples were learned from and no trial speaks for it")
        return best, chain
    phase = on_everything(context, phase) if proof else phase
    outcome = yield phase
    kept = not better(best, outcome) if proof else better(outcome, best)
    verdict = "kept" if kept else "not kept, validation does not tell it to be better"
    yield Remark(f"{phase.name}: {verdict} ({proof if proof and kept else compared(outcome, best)})")
    return (outcome, (*chain, phase)) if kept else (best, chain)


def on_everything(context: Context, phase: Phase) -> Phase:
    """The phase on validation samples too: a proof out of fold frees them, where a test judges in the end and no patience needs them."""
    if not context.tested or phase.patience is not None:
        return phase
    why = f"{phase.why}; proved out of fold, it learns from validation samples too"
    return replace(phase, everything=True, why=why)


def trial_of(phase: Phase) -> Phase:
    """The phase at half its length: enough to tell whether it gains."""
    return phase if phase.solve else replace(phase, epochs=max(1, phase.epochs // 2), everything=False)


def fits_with_trial(context: Context, phase: Phase, left: float) -> bool:
    """Whether there is time to judge the phase out of fold and then to run it on all samples."""
    return (
        context.trial_seconds(Trial((trial_of(phase),), FOLDS)) + context.seconds(on_everything(context, phase)) <= left
    )


def tails(context: Context, first: int, start: int) -> list[Phase]:
    """The tail from stage `first` on, then shorter ones for shorter budgets."""
    shares = [stage.share for stage in context.stages]
    starts = range(first, max(first + 1, len(shares)))
    worth = [k for k in starts if sum(shares[k:]) >= LEAST * sum(shares[first:])]
    return [tail(context, k, start, "most of what fine-tuning gains is in the last stages") for k in worth]


def deeper(context: Context) -> list[Phase]:
    """From the probe: all layers, then most of them, which gain nearly as much in two thirds of the time (docs/log.md)."""
    whole = "pretrained layers gain most from all of them learning at once, and there is time for it"
    most = "for all layers there is no time, and most of them gain nearly as much"
    return [all_layers(context, 0, whole), tail(context, tail_start(context, context.tuning.deep_share), 0, most)]


def all_layers(
    context: Context, start: int, why: str = "there is time left, and earlier layers may gain a little"
) -> Phase:
    """From the best so far, at a low rate."""
    tuning = context.tuning
    rates = {"lr": tuning.deep_rate, "decay": tuning.deep_decay, "head": tuning.deep_rate * tuning.head_rate}
    return context.phase(why, 0, **rates, epochs=tuning.deep_epochs, start=start)


def first_fitting(context: Context, wanted: Iterable[Phase], left: float, fewest: float) -> Phase | None:
    """The first of them that fits (see `fitting`)."""
    return next(filter(None, (fitting(context, one, left, fewest) for one in wanted)), None)


def shortened(context: Context, phase: Phase, left: float) -> Phase:
    """As much of the phase as fits into `left` seconds, an epoch of one view at least: without it there is no model. Asked epochs stay."""
    least = replace(phase, epochs=1, views=min(phase.views, 1), why=f"{phase.why}; there is no time for more")
    found = fitting(context, phase, left, 1 / phase.epochs)
    return found or (least if context.options.epochs is None else phase)


def fitting(context: Context, phase: Phase, left: float, fewest: float) -> Phase | None:
    """The phase with as many epochs as fit into `left` seconds, and views in proportion; None where too few do.

    Asked epochs are not changed.
    """
    if context.seconds(phase) <= left:
        return phase
    least = math.ceil(fewest * phase.epochs)
    fewer = range(phase.epochs - 1, least - 1, -1) if context.options.epochs is None else ()
    for epochs in fewer:
        why = f"{phase.why}; there is time for {epochs} of {phase.epochs} epochs"
        shorter = replace(phase, epochs=epochs, views=math.ceil(phase.views * epochs / phase.epochs), why=why)
        if context.seconds(shorter) <= left:
            return shorter
    return None


AUTO = Strategy("auto", "probe, last stages, all layers: each only while it pays", auto, cached=True)
