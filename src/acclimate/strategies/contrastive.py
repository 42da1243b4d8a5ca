"""contrastive: samples of a class are drawn together before a head is fitted, which pays where they are few (Tunstall et al., 2022)."""

from __future__ import annotations

from dataclasses import replace

from acclimate.core.errors import fail
from acclimate.engine.phase import Phase
from acclimate.strategies.probe import solved
from acclimate.strategies.strategy import TRAINING, Context, Plan, Strategy

STEPS = 50
BATCH, GROUP = 48, 4
"""Samples a step, and of a class among them."""


def contrastive(context: Context) -> Plan:
    begun = yield solved(context)
    drawn, fitted = gathering(context, begun.index + 1)
    yield drawn
    found = yield fitted
    return begun if found.notes.get("cut by the budget") else found  # then its head knows the features of before


def gathering(context: Context, index: int) -> tuple[Phase, Phase]:
    """(the phase that draws samples of a class together, whose outcome will be number `index`; the phase after it that fits the head).

    The first begins from the plain mean of the features, not from what a probe chose to read (docs/log.md).

    Raises `UserError` where nothing can be drawn together.
    """
    size = context.options.batch_size or BATCH
    if size < 4:
        raise fail(
            f"--batch-size {size}", "leaves no two samples of two classes in a batch", f"4 or more; {BATCH} is usual"
        )
    phase = context.phase(
        "all layers learn to put samples of a class side by side, without a head",
        0,
        context.tuning.rate(5e-4),
        epochs=max(1, round(STEPS * size / context.samples)),
        batch_size=size,
        label_smoothing=0.0,
        average=0.0,
        objective="contrastive",
        per_class=min(GROUP, size // 2),
    )
    if len(phase.stages) == 1:
        raise fail(f"--freeze {context.options.freeze}", "leaves no stage to learn", "freeze fewer stages")
    drawn = replace(phase, name="contrastive", stages=phase.stages[:-1], lr=phase.lr[:-1])
    why = "the head, fitted to the features that have changed"
    return drawn, replace(solved(context), name="probe on what was learned", why=why, start=index, reread=False)


CONTRASTIVE = Strategy(
    "contrastive",
    "draw samples of a class together, then fit the head",
    contrastive,
    reads=TRAINING - {"objective", "strength", "patience", "label_smoothing", "ema"},
)
