"""torchvision's detectors as heads: their own anchors, losses and suppression, on maps that are made elsewhere."""

from __future__ import annotations

import copy
import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torchvision.models.detection import FCOS, FasterRCNN, RetinaNet
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.ssd import SSD, SSDClassificationHead
from torchvision.models.detection.ssdlite import SSDLiteClassificationHead
from torchvision.ops.poolers import initLevelMapper

from acclimate.core.tree import Tree
from acclimate.models.detection import frames
from acclimate.models.detection.laid import Laid, Made, Passed

UNUSED = ("__background__", "N/A")
"""Names that COCO's weights of torchvision have for outputs that mean nothing."""
NOBODY = "object"
"""The class of a head that has learned none."""
LIKELY = 0.01
"""Default of `floor`, where torchvision's own is higher: average precision counts what is unlikely, too."""
LIKELY_FCOS = 0.05
"""The same for FCOS, whose scores are square roots."""


def _of_chooser(name: str) -> Any:
    return property(lambda self: getattr(self.chooser, name), lambda self, value: setattr(self.chooser, name, value))


class TorchvisionHead(nn.Module):
    """A detector of torchvision without its transform and its backbone, in float32. See `detector.Head`.

    `model` is taken over. `outputs`: the names of its class outputs, in their order, that of the background among them where it has
    one. `strides`: of the finest map, in pixels; of Faster R-CNN, of each map that boxes are read from. The loss is the sum of
    torchvision's, which are means over the pictures: the count is the number of pictures.
    """

    background: int
    """How many outputs come before class 0: torchvision's label of class k is k + `background`, here and nowhere else."""

    def __init__(self, model: Any, outputs: Sequence[str], strides: Sequence[float]) -> None:
        super().__init__()
        model.transform, model.backbone = Passed(), Made()
        self.model = model
        self.classes = list(outputs[self.background :])
        self.tuned = "fresh" if NOBODY in self.classes else "proposals"
        self.named = [name not in UNUSED for name in self.classes]
        self.stride = strides[0]
        self.floor = min(self.floor, LIKELY_FCOS if isinstance(model, FCOS) else LIKELY)

    @property
    def chooser(self) -> Any:
        """The module of torchvision that chooses among boxes, and holds by what."""
        return getattr(self.model, "roi_heads", self.model)

    floor = _of_chooser("score_thresh")
    iou = _of_chooser("nms_thresh")
    most = _of_chooser("detections_per_img")

    def forward(self, features: Tree, targets: Tree | None = None) -> Tree:
        frame = features["frame"]
        # torchvision asks these whether they train; layers stay in the mode that they are in
        for part in (self.model, *self.model.children()):
            part.training = targets is not None
        with torch.autocast(frame.device.type, enabled=False):
            laid = self._laid(features)
            if targets is None:
                return {**self._answers(self.model([laid])), "frame": frame}
            wanted = self._wanted(targets, frame)
            losses = self.model([laid], wanted)
        if not any(len(one["boxes"]) for one in wanted):  # nor a proposal, perhaps: the mean over none is not a number
            losses = {name: loss.nan_to_num() for name, loss in losses.items()}
        return {"loss": sum(losses.values()) * len(frame), "count": len(frame)}

    def dense(self, features: Tree) -> Tree:
        with torch.autocast(features["frame"].device.type, enabled=False):
            return self._dense(self._laid(features))

    @abstractmethod
    def _dense(self, laid: Laid) -> Tree: ...

    def _laid(self, features: Tree) -> Laid:
        maps = [one.float() for one in features["maps"]]
        height, width = (round(side * self.stride) for side in maps[0].shape[2:])
        reach = frames.values(features["frame"])[..., 6:].amax(dim=1).tolist()
        return Laid(maps, (height, width), [(bottom, right) for right, bottom in reach])

    def _wanted(self, targets: Tree, frame: torch.Tensor) -> list[dict[str, torch.Tensor]]:
        """The boxes of each picture on its canvas, and their labels, as torchvision counts them."""
        boxes, there = frames.to_canvas(targets["boxes"].float(), targets["source"], frame)
        labels = targets["labels"] + self.background
        there = there & (targets["labels"] >= 0)
        return [{"boxes": boxes[i, there[i]], "labels": labels[i, there[i]]} for i in range(len(frame))]

    def _answers(self, found: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        """The boxes of each picture, without those of outputs that mean nothing, filled up to `most`."""
        like = found[0]["boxes"]
        named = torch.tensor(self.named, dtype=torch.bool, device=like.device)
        answers = {
            "boxes": like.new_zeros(len(found), self.most, 4),
            "scores": like.new_zeros(len(found), self.most),
            "labels": torch.full((len(found), self.most), -1, device=like.device),
        }
        for i, one in enumerate(found):
            one = {**one, "labels": one["labels"] - self.background}
            kept = named[one["labels"]]
            for name, values in answers.items():
                values[i, : int(kept.sum())] = one[name][kept]
        return answers

    def renewed(self, classes: list[str]) -> TorchvisionHead:
        """A copy whose class outputs are fresh but for the background and for classes of the same name; all else is equal."""
        other = copy.deepcopy(self)
        other.classes, other.named = list(classes), [True] * len(classes)
        known = {
            name: row for row, name in enumerate(self.classes, self.background) if self.named[row - self.background]
        }
        rows = [(row, row) for row in range(self.background)]
        rows += [(row, known[name]) for row, name in enumerate(classes, self.background) if name in known]
        other._renew(len(classes) + self.background, rows)
        return other

    @abstractmethod
    def _renew(self, outputs: int, rows: list[tuple[int, int]]) -> None:
        """Fresh layers for that many outputs, by torchvision's own initialisation; `rows`: (output there, output here) of what stays."""


@torch.no_grad()
def _keep(fresh: Any, known: Any, rows: list[tuple[int, int]], anchors: int = 1, each: int = 1) -> None:
    """Rows of what an earlier layer knew into a fresh one. Both give [anchors, outputs, each] numbers, in this order, as channels."""
    for name in ("weight", "bias"):
        new, old = (getattr(layer, name).unflatten(0, (anchors, -1, each)) for layer in (fresh, known))
        for to, of in rows:
            new[:, to] = old[:, of]


class FasterRCNNHead(TorchvisionHead):
    """Proposals, then a box and a class of each (Ren et al., 2015)."""

    background = 1

    def __init__(self, model: FasterRCNN, outputs: Sequence[str], strides: Sequence[float]) -> None:
        super().__init__(model, outputs, strides)
        # torchvision infers these from the first pictures that it sees, and keeps them
        pool = model.roi_heads.box_roi_pool
        first, last = (int(math.log2(stride)) for stride in (strides[0], strides[-1]))
        pool.featmap_names = [str(level) for level in range(len(strides))]
        pool.scales = [1 / stride for stride in strides]
        pool.map_levels = initLevelMapper(first, last, pool.canonical_scale, pool.canonical_level)

    def _dense(self, laid: Laid) -> Tree:
        """Of the second part, on as many boxes as training samples, always the same: proposals would come and go by rounding."""
        maps, parts = list(laid.maps.values()), self.model.roi_heads
        anchors = self.model.rpn.anchor_generator(laid, maps)
        count = parts.fg_bg_sampler.batch_size_per_image
        boxes = [one[torch.linspace(0, len(one) - 1, count, device=one.device).long()] for one in anchors]
        read = parts.box_roi_pool(laid.maps, boxes, laid.image_sizes)
        return {"proposals": self.model.rpn.head(maps), "boxes": parts.box_predictor(parts.box_head(read))}

    def _renew(self, outputs: int, rows: list[tuple[int, int]]) -> None:
        """Boxes are said per class: they go with it."""
        parts = self.model.roi_heads
        known = parts.box_predictor
        parts.box_predictor = FastRCNNPredictor(known.cls_score.in_features, outputs)
        _keep(parts.box_predictor.cls_score, known.cls_score, rows)
        _keep(parts.box_predictor.bbox_pred, known.bbox_pred, rows, each=4)


class FocalHead(TorchvisionHead):
    """RetinaNet (Lin et al., 2017) and FCOS (Tian et al., 2019): the chance of each class by itself."""

    background = 0

    def _dense(self, laid: Laid) -> Tree:
        return self.model.head(list(laid.maps.values()))

    def _renew(self, outputs: int, rows: list[tuple[int, int]]) -> None:
        part = self.model.head.classification_head
        known = part.cls_logits
        part.cls_logits = type(part)(known.in_channels, part.num_anchors, outputs).cls_logits
        part.num_classes = outputs
        _keep(part.cls_logits, known, rows, part.num_anchors)


class SSDHead(TorchvisionHead):
    """SSD (Liu et al., 2016) and SSDlite: classes and boxes of the anchors of every map."""

    background = 1

    def _dense(self, laid: Laid) -> Tree:
        return self.model.head(list(laid.maps.values()))

    def _renew(self, outputs: int, rows: list[tuple[int, int]]) -> None:
        """SSDlite's last convolutions; the depthwise ones before them stay."""
        part = self.model.head.classification_head
        known = [_last(block) for block in part.module_list]
        anchors = [layer.out_channels // part.num_columns for layer in known]
        channels = [layer.in_channels for layer in known]
        if isinstance(part, SSDLiteClassificationHead):
            fresh = SSDLiteClassificationHead(channels, anchors, outputs, nn.BatchNorm2d).module_list
        else:
            fresh = SSDClassificationHead(channels, anchors, outputs).module_list
        for level, old in enumerate(known):
            new = _last(fresh[level])
            _keep(new, old, rows, anchors[level])
            if new is fresh[level]:
                part.module_list[level] = new
            else:
                part.module_list[level][-1] = new
        part.num_columns = outputs


def _last(block: Any) -> Any:
    return block[-1] if isinstance(block, nn.Sequential) else block


def head(model: nn.Module, outputs: Sequence[str], strides: Sequence[float]) -> TorchvisionHead:
    """The head of a detector of torchvision, whichever it is. Arguments as for `TorchvisionHead`."""
    kinds: dict[type, Any] = {FasterRCNN: FasterRCNNHead, RetinaNet: FocalHead, FCOS: FocalHead, SSD: SSDHead}
    return kinds[type(model)](model, outputs, strides)
