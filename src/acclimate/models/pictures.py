"""`Pictures`: the preprocessing of networks that read pictures."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from acclimate.core.tree import Tree
from acclimate.models.backbone import Backbone


@dataclass(frozen=True)
class Pictures:
    """How pictures were shown to the model when it was trained, and are shown to it here.

    `size`: side in pixels of the square input.
    `resize`: "squash" (both sides to `size`) or "crop" (short side to `size`, centre).
    `mean`, `std`: per channel, of values in 0..1. `interpolation`: "bilinear" or "bicubic", always antialiased.
    """

    kind: ClassVar[str] = "pictures"
    unit: ClassVar[str] = "px"
    padded: ClassVar[bool] = False

    size: int = 224
    resize: str = "squash"
    interpolation: str = "bilinear"
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    fixed: bool = False
    """True where the architecture reads no other size (most ViTs)."""
    filter: str = ""
    """How every picture is shown to the model before it is resized (`tasks.picture_filters.FILTERS`); "": as it is."""

    def sized(self, size: int) -> Pictures:
        return replace(self, size=size)

    def json(self) -> dict[str, Any]:
        return {"kind": self.kind, **asdict(self)}

    def files(self) -> dict[str, bytes]:
        return {}

    @classmethod
    def of(cls, data: dict[str, Any], folder: Path | None = None) -> Pictures:
        """The inverse of `json`."""
        return cls(**{**data, "mean": tuple(data["mean"]), "std": tuple(data["std"])})

    def told(self) -> str:
        mean, std = (" ".join(f"{value:g}" for value in each) for each in (self.mean, self.std))
        only = " (no other)" if self.fixed else ""
        shown = f", filter {self.filter}" if self.filter else ""
        return f"{self.size} px{only}, {self.resize}, {self.interpolation}, mean {mean}, std {std}{shown}"

    def example(self, samples: int) -> torch.Tensor:
        """float32 [samples, 3, size, size] of noise."""
        return torch.randn(samples, 3, self.size, self.size)

    def cut(self, module: nn.Module, example: Tree) -> Backbone:
        from acclimate.models.stages import cut

        return cut(module, example)
