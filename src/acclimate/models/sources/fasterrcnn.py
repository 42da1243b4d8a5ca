"""Faster R-CNN over any network that gives levels: fasterrcnn:NAME."""

from __future__ import annotations

from torch import nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from acclimate.models.detection.levels import STRIDES
from acclimate.models.detection.torchvision_heads import NOBODY, UNUSED, FasterRCNNHead
from acclimate.models.sources.pyramids import WIDTH, Anchors, Wide, source

SIZES = ((24,), (48,), (96,), (192,))
"""Pixels of anchors on the maps of strides 8 to 64: half of what is usual, as the pictures are."""
SCALE = 112
"""From so many pixels on a box is read from the map of stride 16: half of what is usual, too."""
HIDDEN = 512
"""Width of the layers that look at a proposal."""
CELLS = 7


def head() -> nn.Module:
    """Smaller than usual, for small pictures on small machines: fewer proposals, of which fewer are sampled."""
    model = FasterRCNN(
        Wide(),
        rpn_anchor_generator=Anchors(SIZES, (0.5, 1.0, 2.0)),
        rpn_pre_nms_top_n_train=1000,
        rpn_post_nms_top_n_train=1000,
        rpn_post_nms_top_n_test=300,
        box_roi_pool=MultiScaleRoIAlign([], CELLS, sampling_ratio=1, canonical_scale=SCALE),
        box_head=TwoMLPHead(WIDTH * CELLS**2, HIDDEN),
        box_predictor=FastRCNNPredictor(HIDDEN, 2),
        box_batch_size_per_image=64,
        box_positive_fraction=0.5,
    )
    return FasterRCNNHead(model, (UNUSED[0], NOBODY), STRIDES)


SOURCE = source("fasterrcnn", LastLevelMaxPool, head)
