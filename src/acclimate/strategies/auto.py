"""auto: the probe, then the last stages on cached activations, then all layers if time allows; each kept only if validation gains."""

from __future__ import annotations

from dataclasses import replace

from acclimate.engine.phase import Clock, Phase
from acclimate.strategies.last import tail
from acclimate.strategies.probe import solved
from acclimate.strategies.strategy import Context, Plan, Strategy, better

TAIL = 0.40
"""The tail is the longest run of last stages that makes at most this share of the operations of a forward pass."""
FEWEST = 2
"""Epochs below which a phase is not worth beginning."""


def auto(context: Context) -> Plan:
    first = tail_start(context, TAIL)
    best = yield solved(context, keep=first)
    left = yield Clock()
    phase = fitting(
        context, tail(context, first, best.index, "most of what fine-tuning gains is in the last stages"), left
    )
    if phase is not None:
        outcome = yield phase
        best = outcome if better(outcome, best) else best
    left = yield Clock()
    deep = context.phase(
        "all layers",
        "the budget leaves time, and more layers may gain",
        0,
        1e-3,
        decay=0.75,
        epochs=8,
        start=best.index,
        average=0.5,
        label_smoothing=0.1,
    )
    phase = None if left == float("inf") else fitting(context, deep, left)
    if phase is not None:
        outcome = yield phase
        best = outcome if better(outcome, best) else best
    return best


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
