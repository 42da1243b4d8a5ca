"""YOLOX (Ge et al., 2021): CSPDarknet, a path aggregation neck and a decoupled head, written anew after the paper and its release 0.3.

Module names follow the official checkpoints, so that these load: `body` is `backbone.backbone` there, `neck` the rest of `backbone`.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import nms

from acclimate.core.tree import Tree
from acclimate.models.detection.detector import Detector
from acclimate.models.detection.frames import to_canvas
from acclimate.models.detection.simota import Points, yolox_loss

SIZES = {
    "nano": (0.33, 0.25),
    "tiny": (0.33, 0.375),
    "s": (0.33, 0.5),
    "m": (0.67, 0.75),
    "l": (1.0, 1.0),
    "x": (1.33, 1.25),
}
"""(depth, width) of each size."""
DEPTHWISE = ("nano",)
EPS, MOMENTUM = 1e-3, 0.03
"""Of every batch norm: with the usual 1e-5 the released weights lose a point of average precision and more."""
STRIDES = (8, 16, 32)
PRIOR = 0.01
"""What a fresh class output says before it learned: so that the many empty points do not drown the rest (Lin et al., 2017)."""
FAR = 2.0**20
"""Pixels from the canvas's corner: no box that is meant reaches further."""


class Conv(nn.Module):
    """Convolution, batch norm, SiLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=EPS, momentum=MOMENTUM)
        self.act = nn.SiLU()  # in place autograd copies what it reads first: 8 % of a step

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.bn(self.conv(x)))


class Depthwise(nn.Module):
    """A depthwise convolution, then one over the channels."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.dconv = Conv(inputs, inputs, kernel, stride, groups=inputs)
        self.pconv = Conv(inputs, outputs, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.pconv(self.dconv(x))


class Bottleneck(nn.Module):
    def __init__(self, width: int, kind: type[nn.Module], shortcut: bool) -> None:
        super().__init__()
        self.conv1 = Conv(width, width, 1)
        self.conv2 = kind(width, width, 3)
        self.shortcut = shortcut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv2(self.conv1(x))
        return y + x if self.shortcut else y


class CSPLayer(nn.Module):
    """Half of the channels through bottlenecks, half past them (Wang et al., 2020)."""

    def __init__(self, inputs: int, outputs: int, repeats: int, kind: type[nn.Module], shortcut: bool = True) -> None:
        super().__init__()
        hidden = outputs // 2
        self.conv1 = Conv(inputs, hidden, 1)
        self.conv2 = Conv(inputs, hidden, 1)
        self.m = nn.Sequential(*(Bottleneck(hidden, kind, shortcut) for _ in range(repeats)))
        self.conv3 = Conv(2 * hidden, outputs, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv3(torch.cat((self.m(self.conv1(x)), self.conv2(x)), dim=1))


class Pyramid(nn.Module):
    """Spatial pyramid pooling over 5, 9 and 13 pixels: chained pools of 5, which give the same for less."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = Conv(width, width // 2, 1)
        self.m = nn.MaxPool2d(5, 1, 2)
        self.conv2 = Conv(2 * width, width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv1(x)
        five = self.m(x)
        nine = self.m(five)
        return self.conv2(torch.cat((x, five, nine, self.m(nine)), dim=1))


class Focus(nn.Module):
    """Every second pixel in each direction as a channel of its own."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = Conv(4 * inputs, outputs, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        left, right = x[..., ::2], x[..., 1::2]
        phases = (left[..., ::2, :], left[..., 1::2, :], right[..., ::2, :], right[..., 1::2, :])
        return self.conv(torch.cat(phases, dim=1))


class CSPDarknet(nn.Module):
    """Pixels [B, 3, H, W] to maps at strides 8, 16 and 32."""

    def __init__(self, depth: float, width: float, kind: type[nn.Module]) -> None:
        super().__init__()
        base, repeats = int(64 * width), max(round(3 * depth), 1)
        self.stem = Focus(3, base)
        self.dark2 = self._stage(base, repeats, kind)
        self.dark3 = self._stage(2 * base, 3 * repeats, kind)
        self.dark4 = self._stage(4 * base, 3 * repeats, kind)
        last = CSPLayer(16 * base, 16 * base, repeats, kind, shortcut=False)
        self.dark5 = nn.Sequential(kind(8 * base, 16 * base, 3, 2), Pyramid(16 * base), last)

    @staticmethod
    def _stage(width: int, repeats: int, kind: type[nn.Module]) -> nn.Sequential:
        return nn.Sequential(kind(width, 2 * width, 3, 2), CSPLayer(2 * width, 2 * width, repeats, kind))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        eighth = self.dark3(self.dark2(self.stem(x)))
        sixteenth = self.dark4(eighth)
        return eighth, sixteenth, self.dark5(sixteenth)


class PathAggregation(nn.Module):
    """Coarse maps are told to fine ones, then fine to coarse (Liu et al., 2018)."""

    def __init__(self, depth: float, width: float, kind: type[nn.Module]) -> None:
        super().__init__()
        fine, middle, coarse = (int(channels * width) for channels in (256, 512, 1024))

        def layer(inputs: int, outputs: int) -> CSPLayer:
            return CSPLayer(inputs, outputs, round(3 * depth), kind, shortcut=False)

        self.lateral_conv0 = Conv(coarse, middle, 1)
        self.C3_p4 = layer(2 * middle, middle)
        self.reduce_conv1 = Conv(middle, fine, 1)
        self.C3_p3 = layer(2 * fine, fine)
        self.bu_conv2 = kind(fine, fine, 3, 2)
        self.C3_n3 = layer(2 * fine, middle)
        self.bu_conv1 = kind(middle, middle, 3, 2)
        self.C3_n4 = layer(2 * middle, coarse)

    def forward(self, maps: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        fine, middle, coarse = maps
        lateral = self.lateral_conv0(coarse)
        reduced = self.reduce_conv1(self.C3_p4(torch.cat((_doubled(lateral), middle), dim=1)))
        out_fine = self.C3_p3(torch.cat((_doubled(reduced), fine), dim=1))
        out_middle = self.C3_n3(torch.cat((self.bu_conv2(out_fine), reduced), dim=1))
        return out_fine, out_middle, self.C3_n4(torch.cat((self.bu_conv1(out_middle), lateral), dim=1))


def _doubled(x: torch.Tensor) -> torch.Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


class YoloxHead(nn.Module):
    """Of every point of every map: a box, whether there is an object, and which. See `detector.Head`."""

    tuned = "points"

    def __init__(self, width: float, kind: type[nn.Module], classes: list[str]) -> None:
        super().__init__()
        hidden = int(256 * width)
        inputs = [int(channels * width) for channels in (256, 512, 1024)]
        self.classes = list(classes)
        self.floor, self.iou, self.most = 0.001, 0.65, 100
        self.stems = nn.ModuleList(Conv(each, hidden, 1) for each in inputs)
        self.cls_convs = nn.ModuleList(nn.Sequential(kind(hidden, hidden, 3), kind(hidden, hidden, 3)) for _ in inputs)
        self.reg_convs = nn.ModuleList(nn.Sequential(kind(hidden, hidden, 3), kind(hidden, hidden, 3)) for _ in inputs)
        self.cls_preds = nn.ModuleList(nn.Conv2d(hidden, len(classes), 1) for _ in inputs)
        self.reg_preds = nn.ModuleList(nn.Conv2d(hidden, 4, 1) for _ in inputs)
        self.obj_preds = nn.ModuleList(nn.Conv2d(hidden, 1, 1) for _ in inputs)
        for layer in (*self.cls_preds, *self.obj_preds):
            nn.init.constant_(layer.bias, -math.log((1 - PRIOR) / PRIOR))

    def renewed(self, classes: list[str]) -> YoloxHead:
        """A copy whose class outputs are fresh but for classes of the same name; objectness and boxes stay."""
        other = copy.deepcopy(self)
        other.classes = list(classes)
        known = [(new, self.classes.index(name)) for new, name in enumerate(classes) if name in self.classes]
        layer: Any
        for level, layer in enumerate(self.cls_preds):
            fresh: Any = nn.Conv2d(layer.in_channels, len(classes), 1)
            nn.init.constant_(fresh.bias, -math.log((1 - PRIOR) / PRIOR))
            with torch.no_grad():
                for new, old in known:
                    fresh.weight[new], fresh.bias[new] = layer.weight[old], layer.bias[old]
            other.cls_preds[level] = fresh
        return other

    def forward(self, features: Tree, targets: Tree | None = None) -> Tree:
        raw, points = self.raw(features["maps"])
        if targets is None:
            return self.detect(raw, points, features["frame"])
        boxes, there = to_canvas(targets["boxes"], targets["source"], features["frame"])
        labels = targets["labels"].masked_fill(~there, -1)
        loss, count = yolox_loss(raw, points, boxes, labels, targets["closing"])
        return {"loss": loss, "count": count}

    def dense(self, features: Tree) -> torch.Tensor:
        """`raw`, without the points."""
        return self.raw(features["maps"])[0]

    def raw(self, maps: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, Points]:
        """(float32 [B, points, 5 + classes]: box as the network says it, objectness, classes; the points)."""
        found = []
        for level, x in enumerate(maps):
            x = self.stems[level](x)
            boxes = self.reg_convs[level](x)
            parts = (
                self.reg_preds[level](boxes),
                self.obj_preds[level](boxes),
                self.cls_preds[level](self.cls_convs[level](x)),
            )
            found.append(torch.cat([part.float() for part in parts], dim=1).flatten(2))
        points = Points.of([(x.shape[2], x.shape[3]) for x in maps], STRIDES, maps[0].device)
        return torch.cat(found, dim=2).transpose(1, 2), points

    def detect(self, raw: torch.Tensor, points: Points, frame: torch.Tensor) -> Tree:
        """The best class of every point, suppressed within classes."""
        boxes = points.decoded(raw[..., :4])
        chances, labels = raw[..., 5:].sigmoid().max(dim=2)
        scores = chances * raw[..., 4].sigmoid()
        return {**suppressed(boxes, scores, labels, self.floor, self.iou, self.most), "frame": frame}


def suppressed(
    boxes: torch.Tensor, scores: torch.Tensor, labels: torch.Tensor, floor: float, iou: float, most: int
) -> dict[str, torch.Tensor]:
    """Non-maximum suppression within classes, picture by picture: the answers of `detector.Head`, without the frame.

    `boxes` [B, N, 4], `scores` [B, N], `labels` int64 [B, N]. An accelerator is waited for once: which boxes stay is found beside it,
    picture by picture, since one call for all pictures compares every box with those of all others.
    """
    count = len(boxes)
    places = torch.full((count, most), -1)
    held = (values.detach().cpu() for values in (boxes, scores, labels))
    for row, box, score, label in zip(places, *held, strict=True):
        kept = _kept(box, score, label, floor, iou, most)
        row[: len(kept)] = kept
    whose, rank = (places >= 0).nonzero(as_tuple=True)
    found = {
        "boxes": boxes.new_zeros(count, most, 4),
        "scores": scores.new_zeros(count, most),
        "labels": labels.new_full((count, most), -1),
    }
    for name, values in (("boxes", boxes), ("scores", scores), ("labels", labels)):
        found[name][whose, rank] = values[whose, places[whose, rank]]
    return found


def _kept(
    boxes: torch.Tensor, scores: torch.Tensor, labels: torch.Tensor, floor: float, iou: float, most: int
) -> torch.Tensor:
    """int64 [n]: places of the boxes [N, 4] of a picture that stay, `most` at most, best first; of equal scores the first is the best.

    What is less likely suppresses nothing of them, so that it is looked at only where they are too few. Classes are moved apart, in
    float64 and by a power of two, which leaves what boxes share as it is; edges further out than `FAR` count as there.
    """
    likely = (scores > floor).nonzero().squeeze(1)
    likely = likely[scores[likely].sort(descending=True, stable=True).indices]
    looked = 2 * most
    while True:
        some = likely[:looked]
        apart = boxes[some].double().clamp(-FAR, FAR) + 2 * FAR * labels[some, None]
        kept = nms(apart, scores[some].double(), iou)[:most]
        if len(kept) == most or looked >= len(likely):
            return some[kept]
        looked *= 4


def build(size: str, classes: list[str]) -> Detector:
    """YOLOX of a size of `SIZES`, with random weights."""
    depth, width = SIZES[size]
    kind: type[nn.Module] = Depthwise if size in DEPTHWISE else Conv
    return Detector(
        CSPDarknet(depth, width, kind), PathAggregation(depth, width, kind), YoloxHead(width, kind, classes)
    )
