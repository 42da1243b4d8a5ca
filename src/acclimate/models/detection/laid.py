"""`Laid`: pictures as torchvision's detectors take them where the canvas is laid and the maps are made."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn


class Laid:
    """Stands for torchvision's `ImageList`: pictures that lie on a canvas already, of which only maps are left.

    `maps` float32 [B, C, h, w], fine to coarse; `canvas` (height, width) in pixels; `image_sizes`: (height, width) of each picture,
    beyond which no box reaches.
    """

    def __init__(
        self, maps: Sequence[torch.Tensor], canvas: tuple[int, int], image_sizes: list[tuple[float, float]]
    ) -> None:
        self.maps = OrderedDict((str(level), one) for level, one in enumerate(maps))
        self.shape = torch.Size((len(maps[0]), 3, *canvas))
        self.image_sizes = image_sizes

    @property
    def tensors(self) -> Laid:
        """Of the pictures torchvision asks no more than the shape."""
        return self


class Passed(nn.Module):
    """Stands where torchvision resizes and pads pictures, and takes boxes back to them."""

    def forward(self, images: list[Laid], targets: Any) -> tuple[Laid, Any]:
        return images[0], targets

    def postprocess(self, found: list[dict[str, torch.Tensor]], *_: Any) -> list[dict[str, torch.Tensor]]:
        return found


class Made(nn.Module):
    """Stands where torchvision has the backbone."""

    def forward(self, laid: Laid) -> OrderedDict[str, torch.Tensor]:
        return laid.maps
