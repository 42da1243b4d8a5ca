"""`Canvas`: the preprocessing of detectors: every picture is laid on a canvas of one shape, and where it lies is remembered."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from acclimate.core.tree import Tree
from acclimate.models.backbone import Backbone
from acclimate.models.detection import frames


@dataclass(frozen=True)
class Canvas:
    """How pictures were shown to the detector when it was trained, and are shown to it here.

    `size`: the longer side of the canvas in pixels, `shape` its (width, height), multiples of `stride`; (0, 0): square.
    `fit`: "letterbox" (scaled to fit, top left, the rest filled with `fill`, 0..255) or "squash" (scaled to the shape).
    `mean`, `std`: per channel in the order of `bgr`, of values in 0..1. `interpolation`: "bilinear" or "bicubic".
    `antialias`: whether what is made smaller is smoothed first; networks that were trained without see a little less with it.
    """

    kind: ClassVar[str] = "pictures with boxes"
    unit: ClassVar[str] = "px"
    padded: ClassVar[bool] = False

    size: int = 416
    shape: tuple[int, int] = (0, 0)
    stride: int = 32
    fit: str = "letterbox"
    fill: tuple[float, float, float] = (114.0, 114.0, 114.0)
    bgr: bool = False
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    interpolation: str = "bilinear"
    antialias: bool = True
    fixed: bool = False
    """True where the architecture reads no other size."""

    @property
    def width(self) -> int:
        return self.shape[0] or self.size

    @property
    def height(self) -> int:
        return self.shape[1] or self.size

    def sized(self, size: int) -> Canvas:
        """Of the same proportions, `size` on the longer side."""
        return self.shaped(self.width / self.height, size)

    def shaped(self, ratio: float, size: int | None = None) -> Canvas:
        """The canvas for pictures of this ratio (width by height), both sides rounded up to the stride."""
        size = size or self.size
        shorter = size * min(ratio, 1 / ratio)
        sides = [self.stride * -(-int(side) // self.stride) for side in (size, shorter)]
        return replace(self, size=sides[0], shape=(sides[0], sides[1]) if ratio >= 1 else (sides[1], sides[0]))

    def json(self) -> dict[str, Any]:
        return {"kind": self.kind, **asdict(self)}

    def files(self) -> dict[str, bytes]:
        return {}

    @classmethod
    def of(cls, data: dict[str, Any], folder: Path | None = None) -> Canvas:
        """The inverse of `json`."""
        lists = {name: tuple(data[name]) for name in ("shape", "fill", "mean", "std")}
        return cls(**{**data, **lists})

    def told(self) -> str:
        only = " (no other)" if self.fixed else ""
        order = "BGR" if self.bgr else "RGB"
        return f"{self.width} x {self.height} px{only}, {self.fit}, {self.interpolation}, {order}"

    def example(self, samples: int) -> dict[str, torch.Tensor]:
        """{"pixels": float32 [samples, 3, height, width] of noise, "frame": int32 [samples, 1, 8]}."""
        frame = frames.frame(1.0, 1.0, self.width, self.height)
        pixels = torch.randn(samples, 3, self.height, self.width) * 0.25 / max(self.std)
        return {"pixels": pixels, "frame": frame.repeat(samples, 1, 1)}

    def cut(self, module: nn.Module, example: Tree) -> Backbone:
        from acclimate.models.detection.detector import Detector, cut

        assert isinstance(module, Detector)
        return cut(module, example)
