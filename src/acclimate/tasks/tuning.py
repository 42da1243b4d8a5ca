"""`Tuning`: how fast and how far the pretrained networks of a task are best moved; strategies read it and know no task."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class Tuning:
    """Measured in docs/log.md. Rates are those of the last stage."""

    tail_share: float
    """The tail that `auto` trains on cached activations makes at most this share of the operations of a forward pass."""
    tail_rates: tuple[tuple[float, float], ...]
    """(share of the operations, rate): the rate of the first entry whose share is not below the tail's."""
    tail_epochs: int
    deep_rate: float
    """Of all layers from a fitted head."""
    deep_decay: float
    deep_epochs: int
    deep_share: float
    """Of the operations: where it is above 0, `auto` tries all layers before the tail, or the last that make this share, and
    without a budget that asks for it, as long as they take at most `patience` seconds."""
    deep_least: float
    """The share of `deep_epochs` for which there must be time, else the tail would gain more in it."""
    known: float
    """The value of the probe from which on the network knows such samples, so that all layers do not come before the tail."""
    patience: float
    enough: int
    """Validation samples from which on they alone tell two outcomes apart; with fewer, cross-validation helps."""
    few: int
    """Samples, without those of the test, up to which contrastive training is tried."""
    scale: float
    """What rates are multiplied with that a strategy names for networks of pictures; and in the same way `length`, epochs."""
    length: float
    solved: bool = True
    """A fresh head is fitted in closed form; else by steps, `head_epochs` long before anything else, on cached features; with 0 the tail
    begins. Alone it takes as long as a tail."""
    head_epochs: int = 0
    head_rate: float = 1.0
    """The head's rate in a tail and in all layers, as a multiple of the last stage's."""
    tail_from: str = ""
    """The stage that the tail begins with, where the network has one of this name; `tail_share` decides for others."""
    width: int | None = None
    """Of the networks that the rates were measured on, where rates go with it; see `at`."""
    defaults: dict[str, Any] = field(default_factory=dict)
    """Of every phase: augment, schedule, warmup, weight_decay, average, label_smoothing."""

    def at(self, width: int) -> Tuning:
        """For networks of another width: rates of Adam go with its inverse (Yang et al. 2021, Tensor Programs V, maximal update)."""
        by = 1.0 if self.width is None else self.width / width
        return replace(
            self,
            tail_rates=tuple((share, rate * by) for share, rate in self.tail_rates),
            deep_rate=self.deep_rate * by,
            scale=self.scale * by,
            width=width,
        )

    def rate(self, of_pictures: float) -> float:
        return of_pictures * self.scale

    def epochs(self, of_pictures: int) -> int:
        return max(1, round(of_pictures * self.length))

    def tail_rate(self, share: float) -> float:
        return next(rate for most, rate in self.tail_rates if share <= most)


PICTURES = Tuning(
    tail_share=0.40,
    tail_rates=((0.15, 3e-3), (1.0, 1e-3)),
    tail_epochs=16,
    deep_rate=5e-4,
    deep_decay=0.8,
    deep_epochs=8,
    deep_share=0.0,
    deep_least=0.5,
    known=math.inf,
    patience=0.0,
    enough=1000,
    few=0,
    scale=1.0,
    length=1.0,
    defaults={"augment": "light", "label_smoothing": 0.1, "average": 0.5},
)
TEXTS = Tuning(
    tail_share=0.34,
    tail_rates=((0.5, 4e-4), (1.0, 2e-4)),
    tail_epochs=3,
    deep_rate=1.5e-4,
    deep_decay=1.0,
    deep_epochs=3,
    deep_share=0.67,
    deep_least=0.5,
    known=math.inf,
    patience=200.0,
    enough=500,
    few=1000,
    scale=0.3,
    length=0.4,
    width=384,
    defaults={"augment": "none", "schedule": "linear", "warmup": 0.06, "weight_decay": 0.01},
)
LANGUAGE_MODELS = {
    "transformer": TEXTS,
    "static": replace(
        TEXTS,
        tail_rates=((1.0, 5e-3),),
        deep_rate=5e-3,
        few=0,
        scale=7.0,
        head_rate=0.1,
        width=None,  # a table's rate does not go with its width
    ),
}
"""Of texts, by the family of the model (`models.texts.FAMILIES`)."""
POINTS = Tuning(
    tail_share=0.40,
    tail_rates=((1.0, 6e-4),),
    tail_epochs=6,
    deep_rate=6e-4,
    deep_decay=1.0,
    deep_epochs=8,
    deep_share=1.0,
    deep_least=0.25,
    known=0.42,
    patience=900.0,
    enough=0,
    few=0,
    scale=1.0,
    length=1.0,
    solved=False,
    head_epochs=1,
    head_rate=3.3,
    tail_from="neck",
    defaults={
        "augment": "flip",
        "closing": 0.25,
        "batch_size": 8,
        "norm": "batch",
        "recentre": True,
        "clip": 10.0,
        "weight_decay": 5e-4,
        "average": 0.25,
    },
)
BOXES = {
    "points": POINTS,
    "proposals": replace(POINTS, tail_rates=((1.0, 2e-4),), deep_rate=1e-4, head_rate=2.5),
    "fresh": replace(
        POINTS,
        deep_share=0.0,
        head_epochs=0,
        tail_rates=((1.0, 7e-4),),
        tail_epochs=14,
        deep_rate=1e-4,
        deep_epochs=4,
        head_rate=1.0,
        defaults={**POINTS.defaults, "average": 0.1},
    ),
    "queries": replace(
        POINTS,
        tail_rates=((1.0, 1e-4),),
        tail_epochs=8,
        head_epochs=4,
        deep_rate=5e-5,
        deep_epochs=20,
        head_rate=2.0,
        defaults={**POINTS.defaults, "norm": "frozen", "recentre": False, "clip": 0.1, "weight_decay": 1e-4},
    ),
}
"""Of detectors, by how their heads were made (`models.detection.detector.Head`): "points" and "fresh" are measured, the others follow
the recipes of their papers, with shorter schedules."""
