"""`Card` and `Preprocessing`: what is known of a pretrained model before its weights are loaded."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any


@dataclass(frozen=True)
class Preprocessing:
    """How pictures were shown to the model when it was trained, and are shown to it here.

    `size`: side in pixels of the square input.
    `resize`: "squash" (both sides to `size`) or "crop" (short side to `size`, centre).
    `mean`, `std`: per channel, of values in 0..1. `interpolation`: "bilinear" or "bicubic", always antialiased.
    """

    size: int = 224
    resize: str = "squash"
    interpolation: str = "bilinear"
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    fixed: bool = False
    """True where the architecture reads no other size (most ViTs)."""

    def json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, data: dict[str, Any]) -> Preprocessing:
        """The inverse of `json`."""
        return cls(**{**data, "mean": tuple(data["mean"]), "std": tuple(data["std"])})


@dataclass(frozen=True)
class Card:
    """A pretrained model, described. `name` is what the user types: "efficientnet_lite0", "torchvision:resnet50"."""

    name: str
    source: str
    """The entry of `models.sources.SOURCES` that loads it."""
    architecture: str
    licence: str
    """As the source states it; "not stated" where it does not."""
    preprocessing: Preprocessing
    weights: str = ""
    """Where the weights come from, in words: a package and file, a hub name, a path, or "random"."""
    offline: bool = False
    """Usable now without a network."""
    remedy: str = ""
    """Where not offline: the command that makes it so."""
    parameters: int | None = None
    macs: int | None = None
    """Multiply-accumulates of one forward pass at `preprocessing.size`."""
    config: dict[str, Any] = field(default_factory=dict)
    """What the source needs beside `architecture` to build it without weights and without a network; JSON."""

    def json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, data: dict[str, Any]) -> Card:
        """The inverse of `json`; fields of other versions are left out."""
        known = {entry.name for entry in fields(cls)}
        values = {name: value for name, value in data.items() if name in known}
        return cls(**{**values, "preprocessing": Preprocessing.of(data["preprocessing"])})
