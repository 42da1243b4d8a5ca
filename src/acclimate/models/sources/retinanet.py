"""RetinaNet over any network that gives levels: retinanet:NAME."""

from __future__ import annotations

from functools import partial

from torch import nn
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from acclimate.models.detection.levels import STRIDES
from acclimate.models.detection.torchvision_heads import NOBODY, FocalHead
from acclimate.models.sources.pyramids import WIDTH, Anchors, Wide, source

SIZES = tuple((base, int(base * 2 ** (1 / 3)), int(base * 2 ** (2 / 3))) for base in (16, 32, 64, 128, 256))
"""Pixels of anchors on the maps of strides 8 to 128: half of what is usual, as the pictures are."""


def head() -> nn.Module:
    """As in torchvision's second version: group norm in the towers, and boxes learned by their overlap."""
    anchors = Anchors(SIZES, (0.5, 1.0, 2.0))
    count = anchors.num_anchors_per_location()[0]
    towers = RetinaNetHead(WIDTH, count, 1, norm_layer=partial(nn.GroupNorm, 32))
    towers.regression_head._loss_type = "giou"
    return FocalHead(RetinaNet(Wide(), 1, anchor_generator=anchors, head=towers), (NOBODY,), STRIDES)


SOURCE = source("retinanet", partial(LastLevelP6P7, WIDTH, WIDTH), head)
