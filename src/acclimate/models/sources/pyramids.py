"""Detectors over classification networks: pretrained levels of torchvision or timm, with a fresh feature pyramid and a fresh head."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from acclimate.core.errors import fail
from acclimate.core.seeds import torch_seeded
from acclimate.models import load
from acclimate.models.card import Card
from acclimate.models.detection import levels
from acclimate.models.detection.canvas import Canvas
from acclimate.models.detection.detector import Detector
from acclimate.models.detection.levels import STRIDES, Flat, Levels, Pyramid
from acclimate.models.pictures import Pictures
from acclimate.models.sources.packaged import PACKAGED
from acclimate.models.sources.source import Source

SIZE = 416
"""Pixels of the longer side, unless asked otherwise."""
WIDTH = 128
"""Channels of the pyramid."""
GROUPS = 16
"""Of its channels that are normalised together (Wu and He, 2018): a fresh pyramid learns sooner so (He et al., 2019)."""
KINDS = ("packaged", "torchvision", "timm")
"""Sources of the networks that a pyramid can stand on."""


class Wide(nn.Module):
    """All that torchvision's detectors ask of the backbone that they are built over."""

    out_channels = WIDTH


class Anchors(AnchorGenerator):
    """torchvision's anchors at the true strides of the maps. It divides the canvas by the map, and where the stride leaves a rest (416 by
    64) places them askew.

    `sizes`: in pixels, of the anchors of each map, fine to coarse; each comes in all `ratios` (height by width).
    """

    def __init__(self, sizes: tuple[tuple[int, ...], ...], ratios: tuple[float, ...]) -> None:
        super().__init__(sizes, (ratios,) * len(sizes))

    def forward(self, image_list: Any, feature_maps: list[torch.Tensor]) -> list[torch.Tensor]:
        self.set_cell_anchors(feature_maps[0].dtype, feature_maps[0].device)
        grids = [one.shape[-2:] for one in feature_maps]
        steps = [(STRIDES[0] << level, STRIDES[0] << level) for level in range(len(grids))]
        return [torch.cat(self.grid_anchors(grids, steps))] * len(image_list.image_sizes)


def source(kind: str, extra: Callable[[], ExtraFPNBlock], head: Callable[[], nn.Module]) -> Source:
    """The source of a family. `extra`: the block that adds coarser maps to the pyramid; `head`: a `detector.Head` for maps of `WIDTH`."""
    return Source(
        names=lambda: [f"{kind}:{name}" for name in PACKAGED],
        card=partial(card, kind),
        build=partial(build, extra, head),
        get=get,
        read=read,
    )


def card(kind: str, name: str) -> Card:
    """The card of the detector over the network that `name` means to a classification. Raises `UserError` where that gives no levels."""
    own = name.removeprefix(f"{kind}:")
    packaged = {entry.architecture: short for short, entry in PACKAGED.items()}
    base = load.describe(packaged.get(own, own))[1]
    if base.source not in KINDS or base.name.startswith(load.RANDOM):
        rule = "stands on no network of torchvision or timm by its own name"
        raise fail(f"model '{kind}:{own}'", rule, f"write {kind}:resnet50; random:{kind}:resnet50 for random weights")
    if base.source != "packaged" and (flat := _flat(base.name)):
        raise _refused(kind, own, flat)
    shown = base.preprocessing
    assert isinstance(shown, Pictures)
    grey = (255 * shown.mean[0], 255 * shown.mean[1], 255 * shown.mean[2])  # zero once it is normalised
    return Card(
        name=f"{kind}:{own}",
        source=kind,
        architecture=base.architecture,
        licence=base.licence,
        preprocessing=Canvas(SIZE, fill=grey, mean=shown.mean, std=shown.std, interpolation=shown.interpolation),
        weights=f"{base.weights}; pyramid and head are new",
        offline=base.offline,
        remedy="" if base.offline else f"acclimate models get {kind}:{own}",
        accuracy=base.accuracy,
        config={"base": base.name},
    )


def build(
    extra: Callable[[], ExtraFPNBlock], head: Callable[[], nn.Module], card: Card, size: int, pretrained: bool
) -> nn.Module:
    own, base = load.describe(card.config["base"])
    needed = pretrained or base.source == "torchvision"
    whole = own.build(base, base.preprocessing.size, pretrained) if needed else None
    body, channels = _body(card, base, whole)
    fpn = FeaturePyramidNetwork(channels, WIDTH, extra(), norm_layer=partial(nn.GroupNorm, GROUPS))
    return Detector(body, Pyramid(fpn), head())


def get(card: Card) -> Path:
    own, base = load.describe(card.config["base"])
    return own.get(base)


def read(module: nn.Module, card: Card, path: Path) -> None:
    """Put the weights of a file of the classification network into the body. Raises `UserError` where they do not fit."""
    assert isinstance(module, Detector)
    own, base = load.describe(card.config["base"])
    whole = own.build(base, base.preprocessing.size, False)
    own.read(whole, base, path)
    module.body, _ = _body(card, base, whole)


def _body(card: Card, base: Card, whole: nn.Module | None) -> tuple[Levels, list[int]]:
    """The levels of the network with the weights of `whole`, or random ones; their channels."""
    if base.source == "torchvision":
        assert whole is not None
        try:
            return levels.of_torchvision(whole)
        except Flat as flat:
            raise _refused(card.source, base.architecture, str(flat)) from None
    body, channels = levels.of_timm(base.architecture)
    if whole is not None:
        levels.take_over(body, whole.state_dict())
    return body, channels


@cache
def _flat(name: str) -> str:
    """Why the network gives no levels; empty where it does. Nothing is computed, but for networks that cannot be built without."""
    own, base = load.describe(name)
    if base.source != "torchvision":
        return _why_not(lambda: levels.of_timm(base.architecture), "meta")

    def look() -> object:
        return levels.of_torchvision(own.build(base, base.preprocessing.size, False))

    try:
        return _why_not(look, "meta")
    except NotImplementedError:
        return _why_not(look, "cpu")


def _why_not(look: Callable[[], object], device: str) -> str:
    try:
        with torch_seeded("levels"), torch.device(device):
            look()
    except Flat as flat:
        return str(flat)
    return ""


def _refused(kind: str, name: str, flat: str) -> Exception:
    strides = ", ".join(map(str, STRIDES))
    rule = f"needs a network that gives maps at strides {strides}, of pictures of any size; {name} does not ({flat})"
    return fail(f"model '{kind}:{name}'", rule, f"take one that does, like {kind}:resnet50")
