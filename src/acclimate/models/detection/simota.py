"""SimOTA and the losses of YOLOX (Ge et al., 2021): which points learn which box, decided by what they predict now.

Formulas as in release 0.3: candidates lie within 1.5 strides of the box's centre; the cost of a pair is the cross-entropy of its class
plus 3 times -log IoU; a box takes as many points as its ten best IoUs sum to; a point that two boxes want goes to the cheaper.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

RADIUS = 1.5
"""Strides."""
BEST = 10
OVERLAP = 3.0
FAR = 1e6
"""Cost of a point that is a candidate of another box only."""
BOX = 5.0
"""Weight of the boxes' loss."""


@dataclass(frozen=True)
class Points:
    """The points of all maps: `grid` float32 [points, 2], x and y in strides; `strides` float32 [points]."""

    grid: torch.Tensor
    strides: torch.Tensor

    @classmethod
    def of(cls, shapes: Sequence[tuple[int, int]], strides: Sequence[int], device: torch.device) -> Points:
        """`shapes`: (height, width) of each map."""
        grids, steps = [], []
        for (height, width), stride in zip(shapes, strides, strict=True):
            y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
            grids.append(torch.stack((x, y), dim=2).reshape(-1, 2))
            steps.append(torch.full((height * width,), stride))
        return cls(torch.cat(grids).float().to(device), torch.cat(steps).float().to(device))

    def decoded(self, raw: torch.Tensor) -> torch.Tensor:
        """float32 [B, points, 4]: xyxy in pixels of what the network says of boxes [B, points, 4]."""
        centre = (raw[..., :2] + self.grid) * self.strides[:, None]
        half = raw[..., 2:].exp() * self.strides[:, None] / 2
        return torch.cat((centre - half, centre + half), dim=-1)

    def encoded(self, boxes: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """float32 [n, 4]: what the network would have to say at the points `places` int64 [n] for boxes [n, 4]; undoes `decoded`."""
        grid, stride = self.grid[places], self.strides[places, None]
        centre, size = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
        return torch.cat((centre / stride - grid, (size / stride + 1e-8).log()), dim=1)

    def near(self, boxes: torch.Tensor) -> torch.Tensor:
        """bool [B, M, points]: whether the point lies near the centre of the box [B, M, 4]."""
        centre = (boxes[..., :2] + boxes[..., 2:])[..., None] / 2
        places = (self.grid + 0.5) * self.strides[:, None]
        across, down = ((places[:, axis] - centre[..., axis, :]).abs() < RADIUS * self.strides for axis in (0, 1))
        return across & down


def yolox_loss(
    raw: torch.Tensor, points: Points, boxes: torch.Tensor, labels: torch.Tensor, closing: torch.Tensor
) -> tuple[torch.Tensor, int]:
    """(5 * sum(1 - IoU^2) + the cross-entropies of objectness over all points and of classes, number of points that learn a box).

    `raw` [B, points, 5 + classes]; `boxes` [B, M, 4] xyxy on the canvas, `labels` int64 [B, M], -1 where there is no box; `closing` bool
    [B]: the pictures for which what the network says of boxes learns by L1 as well, as in YOLOX's last epochs. The target of a class is its
    IoU. The caller divides by the number. A picture without boxes teaches objectness alone.
    """
    decoded = points.decoded(raw[..., :4])
    owner = assign(raw.detach(), decoded.detach(), points, boxes, labels)
    found = owner >= 0
    wanted = found.float()
    loss = F.binary_cross_entropy_with_logits(raw[..., 4], wanted, reduction="sum")
    count = int(found.sum())
    if count:
        batch, place = found.nonzero(as_tuple=True)
        mine = owner[batch, place]
        overlap = iou(decoded[batch, place], boxes[batch, mine])
        loss = loss + BOX * (1 - overlap.square()).sum()
        apart = (raw[batch, place, :4] - points.encoded(boxes[batch, mine], place)).abs().sum(dim=1)
        loss = loss + (apart * closing[batch]).sum()
        shares = F.one_hot(labels[batch, mine], raw.shape[2] - 5) * overlap.detach()[:, None]
        loss = loss + F.binary_cross_entropy_with_logits(raw[batch, place, 5:], shares, reduction="sum")
    return loss, count


@torch.no_grad()
def assign(
    raw: torch.Tensor, decoded: torch.Tensor, points: Points, boxes: torch.Tensor, labels: torch.Tensor
) -> torch.Tensor:
    """int64 [B, points]: the box that each point learns, -1 for none. Shapes as for `yolox_loss`; `decoded` [B, points, 4]."""
    real = labels >= 0
    near = points.near(boxes) & real[..., None]
    candidate = near.any(dim=1)
    overlap = iou(boxes[:, :, None], decoded[:, None]) * candidate[:, None]
    cost = class_cost(raw, labels) - OVERLAP * (overlap + 1e-8).log() + FAR * ~near
    cost = cost.masked_fill(~(candidate[:, None] & real[..., None]), float("inf"))
    best = min(BEST, cost.shape[2])
    wanted = overlap.topk(best, dim=2).values.sum(dim=2).int().clamp_min(1)
    cheapest = cost.topk(best, dim=2, largest=False)
    taken = (torch.arange(best, device=cost.device) < wanted[..., None]) & cheapest.values.isfinite()
    matched = torch.zeros_like(near).scatter_(2, cheapest.indices, taken)
    claims = matched.sum(dim=1)
    owner = torch.where(claims > 1, cost.argmin(dim=1), matched.float().argmax(dim=1))
    return owner.masked_fill(claims == 0, -1)


def class_cost(raw: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """float32 [B, M, points]: cross-entropy of every point's classes, sqrt(class * objectness), with the class of every box.

    The sum over classes is that of "none of them" but for the box's own, so that nothing of size boxes * points * classes is made.
    """
    chances = (raw[..., 5:].sigmoid() * raw[..., 4:5].sigmoid()).sqrt()
    yes = chances.log().clamp_min(-100)
    no = (-chances).log1p().clamp_min(-100)
    gain = (no - yes).transpose(1, 2)
    mine = labels.clamp_min(0)[..., None].expand(-1, -1, gain.shape[2])
    return gain.gather(1, mine) - no.sum(dim=2)[:, None]


def iou(boxes: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Intersection over union of boxes [..., 4] xyxy, pair by pair (shapes broadcast)."""
    # edge by edge: a reduction over two numbers takes twice as long
    left, top, right, bottom = boxes.unbind(-1)
    x1, y1, x2, y2 = others.unbind(-1)
    shared = (right.minimum(x2) - left.maximum(x1)).clamp_min(0) * (bottom.minimum(y2) - top.maximum(y1)).clamp_min(0)
    areas = (right - left) * (bottom - top) + (x2 - x1) * (y2 - y1)
    return shared / (areas - shared).clamp_min(1e-12)
