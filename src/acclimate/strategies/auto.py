"""auto: the probe, then the last stages on cached activations, then all layers if time allows; each kept only if validation gains."""

from __future__ import annotations

from dataclasses import replace

from acclimate.engine.phase import Clock, Phase, Trial
from acclimate.strategies.last import tail
from acclimate.strategies.probe import solved
from acclimate.strategies.strategy import Context, Plan, Strategy, better

TAIL = 0.40
"""The tail is the longest run of last stages that makes at most this share of the operations of a forward pass."""
ENOUGH = 1000
"""Validation samples from which on they alone decide; with fewer, cross-validation over all that is not test helps them."""
FOLDS = 3
FEWEST = 2
"""Epochs below which a phase is not worth beginning."""


def auto(context: Context) -> Plan:
    first = tail_start(context, TAIL)
    probe = solved(context, keep=first)
    best = yield probe
    pace = max(
        1.0, best.seconds / context.seconds(probe)
    )  # a busy machine is slower than what was measured at the start
    left = yield Clock()
    tail = fitting(context, last_stages(context, first, best.index), left / pace)
    if tail is None:
        return best
    proved = False
    if context.validation < ENOUGH and trial_seconds(context, tail) <= left / pace - context.seconds(tail):
        plain, deeper = yield Trial((probe, trial_of(tail)), FOLDS)
        proved = better(deeper, plain)
    outcome = yield tail
    best = outcome if better(outcome, best) or (proved and not better(best, outcome)) else best
    left = yield Clock()
    if left < float("inf") and (phase := fitting(context, all_layers(context, best.index), left / pace)):
        outcome = yield phase
        best = outcome if better(outcome, best) else best
    return best


def trial_of(tail: Phase) -> Phase:
    """The tail at half its length: enough to tell whether it gains."""
    return replace(tail, epochs=max(1, tail.epochs // 2))


def trial_seconds(context: Context, tail: Phase) -> float:
    """About what the trial costs: every fold trains on all but its own share of training and validation samples."""
    more = (FOLDS - 1) * (context.samples + context.validation) / context.samples
    return more * context.seconds(trial_of(tail))


def last_stages(context: Context, first: int, start: int) -> Phase:
    return tail(context, first, start, "most of what fine-tuning gains is in the last stages")


def all_layers(context: Context, start: int) -> Phase:
    """From the best so far, at a low rate: only where the user gave a budget, since it costs the most and gains the least."""
    why = "the budget leaves time, and earlier layers may gain a little"
    return context.phase("all layers", why, 0, 5e-4, decay=0.8, epochs=8, start=start, average=0.5, label_smoothing=0.1)


def tail_start(context: Context, most: float) -> int:
    """The number of the first stage of the tail."""
    first = len(context.stages)
    while first > context.first_free and sum(stage.share for stage in context.stages[first - 1 :]) <= most:
        first -= 1
    return min(first, len(context.stages) - 1) if context.first_free < len(context.stages) else first


def fitting(context: Context, phase: Phase, left: float) -> Phase | None:
    """The phase with as many epochs as fit into `left` seconds; None where too few do. Asked epochs are not changed."""
    needed = context.seconds(phase)
    if needed <= left:
        return phase
    epochs = int(phase.epochs * left / needed)
    if context.options.epochs is not None or epochs < FEWEST:
        return None
    return replace(phase, epochs=epochs)


AUTO = Strategy("auto", "probe, last stages, all layers: each only while it pays", auto, augments=("none", "light"))
