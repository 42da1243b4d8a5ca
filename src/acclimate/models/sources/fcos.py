"""FCOS over any network that gives levels: fcos:NAME."""

from __future__ import annotations

from functools import partial

from torch import nn
from torchvision.models.detection import FCOS
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from acclimate.models.detection.levels import STRIDES
from acclimate.models.detection.torchvision_heads import NOBODY, FocalHead
from acclimate.models.sources.pyramids import WIDTH, Anchors, Wide, source

SIZES = ((8,), (16,), (32,), (64,), (128,))
"""Pixels between the points of each map, by which torchvision tells which boxes they learn."""


def head() -> nn.Module:
    return FocalHead(FCOS(Wide(), 1, anchor_generator=Anchors(SIZES, (1.0,))), (NOBODY,), STRIDES)


SOURCE = source("fcos", partial(LastLevelP6P7, WIDTH, WIDTH), head)
