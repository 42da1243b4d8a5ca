"""contrastive: samples of a class are drawn together before a head is fitted, which pays where they are few (Tunstall et al., 2022)."""

from __future__ import annotations

import math
from dataclasses import replace

from acclimate.core.errors import fail
from acclimate.engine.phase import CUT, Outcome, Phase
from acclimate.strategies.probe import solved
from acclimate.strategies.strategy import TRAINING, Context, Plan, Strategy
from acclimate.strategies.tail import tail_start

STEPS = 12
"""Few and gentle: more, or higher rates, gain no more where this gains and lose where it does not (docs/log.md)."""
BATCH, GROUP = 48, 4
"""Samples a step, and of a class among them."""


def contrastive(context: Context) -> Plan:
    begun = yield solved(context, keep=start(context))
    drawn, fitted = gathering(context, begun.index + 1)
    yield drawn
    found = yield fitted
    return usable(found, begun)


def usable(found: Outcome, begun: Outcome) -> Outcome:
    """What has been found, or what it began from where there was no time to fit the head: that knows the features of before."""
    return begun if found.notes.get(CUT) else found


def start(context: Context) -> int:
    """The number of the first stage that learns: where `auto` trains most of the network, the rest gains nothing here (docs/log.md)."""
    most = context.tuning.deep_share
    return tail_start(context, most) if most else 0


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
    first = start(context)
    kept = first if context.fitting_views(1, first) else 0
    phase = context.phase(
        "these layers learn to put samples of a class side by side, without a head",
        first,
        context.tuning.rate(3.3e-4),
        epochs=max(1, round(STEPS / math.ceil(context.samples / size))),
        batch_size=size,
        label_smoothing=0.0,
        average=0.0,
        objective="contrastive",
        per_class=min(GROUP, size // 2),
        first=kept,
        views=1 if kept else 0,
    )
    if len(phase.stages) == 1:
        raise fail(f"--freeze {context.options.freeze}", "leaves no stage to learn", "freeze fewer stages")
    drawn = replace(phase, name="contrastive", stages=phase.stages[:-1], lr=phase.lr[:-1])
    why = "the head, fitted to the features that have changed"
    return drawn, replace(
        solved(context, keep=first), name="probe on what was learned", why=why, start=index, reread=False
    )


CONTRASTIVE = Strategy(
    "contrastive",
    "draw samples of a class together, then fit the head",
    contrastive,
    reads=TRAINING - {"objective", "strength", "patience", "label_smoothing", "ema"},
)
