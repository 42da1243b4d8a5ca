"""Frames: where the picture lies on the canvas that a detector reads, so that boxes are taken there and back.

A frame is int32 [sources, 8], the bits of float32 (a_x, b_x, a_y, b_y, left, top, right, bottom) of each picture on the canvas (one, but
for mosaics): pixel (x, y) of the upright original lies at (a_x x + b_x, a_y y + b_y), visible inside the window. As whole numbers a
frame passes the cache, which rounds floats, unchanged; in float32 there and back is exact to 1e-3 pixels. A source of zeros is none.
"""

from __future__ import annotations

import torch

PARTS = 8
LEAST = 1.0
"""Pixels of the canvas: a box with a thinner side teaches nothing."""
VISIBLE = 0.1
"""Of its area: a box of which less is left on the canvas is not asked for."""


def frame(scale_x: float, scale_y: float, width: float, height: float) -> torch.Tensor:
    """int32 [1, 8]: a picture scaled to `width` x `height` in the top left corner of the canvas."""
    return packed(torch.tensor([[scale_x, 0.0, scale_y, 0.0, 0.0, 0.0, width, height]]))


def packed(values: torch.Tensor) -> torch.Tensor:
    """float32 [..., 8] as the frame that holds its bits."""
    return values.contiguous().view(torch.int32)


def values(frame: torch.Tensor) -> torch.Tensor:
    """float32 [..., 8]: the inverse of `packed`."""
    return frame.contiguous().view(torch.float32)


def flipped(frame: torch.Tensor, across: bool, down: bool) -> torch.Tensor:
    """The picture mirrored within its window, left to right (`across`), top to bottom (`down`)."""
    found = values(frame).clone()
    for mirrored, scale, near, far in ((across, 0, 4, 6), (down, 2, 5, 7)):
        if mirrored:
            found[..., scale] *= -1
            found[..., scale + 1] = found[..., near] + found[..., far] - found[..., scale + 1]
    return packed(found)


def moved(
    frame: torch.Tensor, scale: tuple[float, float], offset: tuple[float, float], canvas: tuple[int, int]
) -> torch.Tensor:
    """Everything scaled by (x, y) about the origin, then shifted; what leaves the canvas (width, height) is no longer visible."""
    (scale_x, scale_y), (x, y) = scale, offset
    found = values(frame) * torch.tensor([scale_x, scale_x, scale_y, scale_y, scale_x, scale_y, scale_x, scale_y])
    found += torch.tensor([0.0, x, 0.0, y, x, y, x, y])
    found[..., 4:] = found[..., 4:].clamp_min(0).minimum(torch.tensor([*canvas, *canvas]))
    return packed(found)


def to_canvas(boxes: torch.Tensor, source: torch.Tensor, frame: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(float32 [B, M, 4]: boxes [B, M, 4] of the originals on the canvas, cut at their window; bool [B, M]: those that are still there).

    `source` int64 [B, M]: the picture of each box; `frame` int32 [B, sources, 8].
    """
    a_x, b_x, a_y, b_y, *window = values(frame).gather(1, source[..., None].expand(-1, -1, PARTS)).unbind(-1)
    x = torch.stack([boxes[..., 0] * a_x + b_x, boxes[..., 2] * a_x + b_x], -1).sort(-1).values
    y = torch.stack([boxes[..., 1] * a_y + b_y, boxes[..., 3] * a_y + b_y], -1).sort(-1).values
    whole = (x[..., 1] - x[..., 0]) * (y[..., 1] - y[..., 0])
    left, top, right, bottom = (edge[..., None] for edge in window)
    x, y = x.maximum(left).minimum(right), y.maximum(top).minimum(bottom)
    width, height = x[..., 1] - x[..., 0], y[..., 1] - y[..., 0]
    there = (width > LEAST) & (height > LEAST) & (width * height >= VISIBLE * whole)
    return torch.stack([x[..., 0], y[..., 0], x[..., 1], y[..., 1]], -1), there


def to_picture(boxes: torch.Tensor, frame: torch.Tensor) -> torch.Tensor:
    """float32 [B, N, 4]: boxes of the canvas in pixels of the (first) original, cut at its edges; the inverse of `to_canvas`."""
    a_x, b_x, a_y, b_y, *window = values(frame)[:, :1].unbind(-1)
    left, top, right, bottom = window
    x = boxes[..., 0::2].maximum(left[..., None]).minimum(right[..., None])
    y = boxes[..., 1::2].maximum(top[..., None]).minimum(bottom[..., None])
    x = ((x - b_x[..., None]) / a_x[..., None]).sort(-1).values
    y = ((y - b_y[..., None]) / a_y[..., None]).sort(-1).values
    return torch.stack([x[..., 0], y[..., 0], x[..., 1], y[..., 1]], -1)
