"""`CanvasInputs`: pictures laid on the canvas of a detector, with the frame that says where; views and augmentation move both."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from PIL import Image
from torchvision.ops import box_iou
from torchvision.transforms.v2 import functional as v2

from acclimate.core import seeds
from acclimate.core.tree import Tree
from acclimate.data.decode import decode_sized
from acclimate.data.table import Raw
from acclimate.models.detection import frames
from acclimate.models.detection.canvas import Canvas
from acclimate.tasks.pictures import PictureInputs, encoded_picture, pixels_of
from acclimate.tasks.task import Mix

VERSION = 1
"""Of the way pictures are laid on a canvas: part of every cache key."""
CLASS, CROWD = 4, 5
"""Columns of a target as `Detection` encodes it, behind the corners."""
SCALES = {"light": (0.7, 1.4), "crop": (0.5, 1.0)}
"""How much larger or smaller a picture may be shown. A canvas has not the pixels for a quarter, to which SSD goes down."""
COLOUR = 0.3
"""How much brightness, contrast and saturation may differ."""
CROPS = 0.5
"""Of "crop": the share of samples of which a part is shown; the others become smaller."""
WHOLE = 1.0
OVERLAPS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, WHOLE)
"""What IoU with a box is asked of a part, one at random, then another where no part has it; for the last the whole is shown."""
TRIES, SIDES, RATIO = 40, (0.3, 1.0), 2.0
"""Parts that are tried; their sides as shares of the picture's; how much longer one may be than the other."""


@dataclass(frozen=True)
class Move:
    """How a picture is shown anew: mirrored, scaled by `scale`, and where: shares (0..1) of the room or of what is cut off."""

    across: bool = False
    down: bool = False
    scale: float = 1.0
    place: tuple[float, float] = (0.5, 0.5)


MOSAICS, MIDDLE, MOSAIC_SCALES = 0.5, (0.35, 0.65), (0.5, 1.0)
"""The share of samples that become mosaics; where their four pictures meet, as shares of the sides; their scale."""
VIEWS = {
    "none": (Move(),),
    "flip": (Move(), Move(across=True)),
    "flips": (Move(), Move(across=True), Move(down=True), Move(across=True, down=True)),
    "light": (Move(), Move(across=True), Move(scale=0.8), Move(across=True, scale=1.25)),
}
"""The fixed views of each policy."""


class CanvasInputs(PictureInputs):
    """Decodes, fits, moves and collates pictures; a prepared picture is {"pixels": uint8 [H, W, 3], "frame": int32 [1, 8]}.

    Stateless: equal `key`s mean equal results, and every random choice is a function of the seed.
    """

    version = VERSION
    policies = ("none", "flip", "flips", "light", "crop")
    views: ClassVar[dict[str, int]] = {policy: len(moves) for policy, moves in VIEWS.items()}
    mixes: ClassVar[dict[str, Mix]] = {"mosaic": Mix(3, "flip")}

    def __init__(self, preprocessing: Canvas) -> None:
        super().__init__(preprocessing, preprocessing.width, preprocessing.height)
        fill = torch.tensor(preprocessing.fill).round().to(torch.uint8)
        self.blank = fill.expand(preprocessing.height, preprocessing.width, 3).contiguous()

    def prepare(self, raw: Raw) -> Tree:
        """Decode and fit to the canvas. Raises ValueError, with a reason, where the file is no sound picture."""
        shown = self.preprocessing
        image, (width, height) = decode_sized(encoded_picture(raw), least=shown.size)
        size = self._fitted(width, height)
        placed = self._empty()
        placed[: size[1], : size[0]] = self._resized(image, size)
        return {"pixels": placed, "frame": frames.frame(size[0] / width, size[1] / height, *size)}

    def view(self, prepared: Tree, view: int, seed: int, policy: str) -> Tree:
        """0 is the prepared picture, the others those of `VIEWS`, placed by the seed where they do not fill the canvas."""
        if view == 0:
            return prepared
        place = seeds.generator("view", policy, view, seed).random(2)
        return self._moved(prepared, replace(VIEWS[policy][view], place=(place[0], place[1])))

    def augment(self, prepared: Tree, policy: str, seed: int, target: np.ndarray | None = None) -> Tree:
        """By "none", "flip" (left to right), "flips" (top to bottom too), "light" (flip, scale, place and colour) or "crop" (flip, a part
        that shows enough of a box of `target` or all on less room, and colour). `target`: float64 [m, 7] as `Detection` encodes it."""
        if policy == "none":
            return prepared
        random = seeds.generator("augment", policy, seed)
        across, down = random.random() < 0.5, policy == "flips" and random.random() < 0.5
        if policy in ("flip", "flips"):
            return self._moved(prepared, Move(across, down))
        if policy == "crop" and target is not None and random.random() < CROPS:
            single = torch.from_numpy(target[target[:, CROWD] == 0, :CLASS]).float()
            moved = self._cropped(self._moved(prepared, Move(across)), single, random)
        else:
            scale = float(np.exp(random.uniform(*np.log(SCALES[policy]))))
            place = random.random(2)
            moved = self._moved(prepared, Move(across, scale=scale, place=(place[0], place[1])))
        return {**moved, "pixels": _coloured(moved["pixels"], random)}

    def mix(self, samples: list[Tree], kind: str, seed: int) -> tuple[Tree, list[float]]:
        """For "mosaic", in half of the cases the first as it is, else four pictures around a point, all at one scale (Bochkovskiy et
        al., 2020); a share is what of the four belongs to each."""
        random = seeds.generator("mix", kind, seed)
        if random.random() >= MOSAICS:
            return samples[0], [1.0] + [0.0] * (len(samples) - 1)
        canvas = (self.preprocessing.width, self.preprocessing.height)
        x, y = (round(side * random.uniform(*MIDDLE)) for side in canvas)
        scale, placed, found = random.uniform(*MOSAIC_SCALES), self._empty(), []
        for number, sample in enumerate(samples):
            one = _scaled(_content(sample), scale)
            offset = (x if number % 2 else x - one.width, y if number >= 2 else y - one.height)
            found.append(self._pasted(placed, one, offset))
        return {"pixels": placed, "frame": torch.cat(found)}, [1 / len(samples)] * len(samples)

    def collate(self, samples: list[Tree]) -> Tree:
        """{"pixels": float32 [batch, 3, height, width] in channels-last memory, normalised, "frame": int32 [batch, sources, 8]}."""
        found = [_bgr(sample["pixels"]) if self.preprocessing.bgr else sample["pixels"] for sample in samples]
        sources = max(len(sample["frame"]) for sample in samples)
        frame = torch.zeros(len(samples), sources, frames.PARTS, dtype=torch.int32)
        for sample, place in zip(samples, frame, strict=True):
            place[: len(sample["frame"])] = sample["frame"]
        return {"pixels": self.normalised(found), "frame": frame}

    @staticmethod
    def pixels(prepared: Tree) -> torch.Tensor:
        return _content(prepared).pixels

    def _fitted(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) at which a picture fits the canvas."""
        shown = self.preprocessing
        if shown.fit == "squash":
            return shown.width, shown.height
        fit = min(shown.width / width, shown.height / height)
        return max(1, int(width * fit)), max(1, int(height * fit))

    def _resized(self, image: Image.Image, size: tuple[int, int]) -> torch.Tensor:
        """uint8 [height, width, 3]."""
        if self.preprocessing.antialias:
            return pixels_of(image.resize(size, self.sampling))
        return v2.resize(pixels_of(image).permute(2, 0, 1), [size[1], size[0]], antialias=False).permute(1, 2, 0)

    def _empty(self) -> torch.Tensor:
        return self.blank.clone()

    def _moved(self, prepared: Tree, move: Move) -> Tree:
        """The picture shown anew on an empty canvas, and its frame."""
        one, placed = _content(prepared), self._empty()
        offset = one.corner
        if move.across or move.down:
            axes = [axis for axis, turned in ((0, move.down), (1, move.across)) if turned]
            one = replace(one, pixels=one.pixels.flip(axes), frame=frames.flipped(one.frame, move.across, move.down))
        if move.scale != 1.0:
            one = _scaled(one, move.scale)
            room = (self.preprocessing.width - one.width, self.preprocessing.height - one.height)
            # Where the picture is larger than the canvas the room is negative: a part of it is cut off on either side.
            offset = (round(room[0] * move.place[0]), round(room[1] * move.place[1]))
        return {"frame": self._pasted(placed, one, offset), "pixels": placed}

    def _cropped(self, prepared: Tree, boxes: torch.Tensor, random: np.random.Generator) -> Tree:
        """A part of the picture, `_part_with` one of the boxes float32 [m, 4] of the original, fitted to the canvas."""
        placed, one = self._empty(), _content(prepared)
        part = _part(one.pixels, one.frame, _part_with(boxes, one, random))
        shown = _resized(part, self._fitted(part.width, part.height))
        return {"frame": self._pasted(placed, shown, (0, 0)), "pixels": placed}

    def _pasted(self, placed: torch.Tensor, one: Content, offset: tuple[int, int]) -> torch.Tensor:
        """Lay a picture on the canvas `placed`, its top left corner at `offset`; its frame there."""
        canvas = (self.preprocessing.width, self.preprocessing.height)
        x, y = max(0, offset[0]), max(0, offset[1])
        shown = one.pixels[y - offset[1] :, x - offset[0] :][: canvas[1] - y, : canvas[0] - x]
        placed[y : y + shown.shape[0], x : x + shown.shape[1]] = shown
        return frames.moved(one.frame, (1.0, 1.0), offset, canvas)


@dataclass(frozen=True)
class Content:
    """A picture without the rest of its canvas: uint8 [h, w, 3], its frame if that were the canvas, and where its corner was."""

    pixels: torch.Tensor
    frame: torch.Tensor
    corner: tuple[int, int] = (0, 0)

    @property
    def width(self) -> int:
        return self.pixels.shape[1]

    @property
    def height(self) -> int:
        return self.pixels.shape[0]


def _content(prepared: Tree) -> Content:
    return _part(prepared["pixels"], prepared["frame"], frames.values(prepared["frame"])[0, 4:])


def _part(pixels: torch.Tensor, frame: torch.Tensor, window: torch.Tensor) -> Content:
    """What lies in the window [4], (left, top, right, bottom) in whole pixels."""
    left, top, right, bottom = (int(edge) for edge in window)
    moved = frames.moved(frame, (1.0, 1.0), (-left, -top), (right - left, bottom - top))
    return Content(pixels[top:bottom, left:right], moved, (left, top))


def _part_with(boxes: torch.Tensor, one: Content, random: np.random.Generator) -> torch.Tensor:
    """float32 [4]: a window that has a drawn IoU with one of the boxes float32 [m, 4] of the original (Liu et al., 2016, SSD).

    What is left of a box says whether it counts, as it says whether it is learned (`frames.VISIBLE`); in SSD its centre does, and what is
    seen of others becomes background.
    """
    windows = _windows(one, random)
    shown = frames.values(one.frame).repeat(len(windows), 1, 1)
    shown[:, 0, 4:] = windows
    source = torch.zeros(len(windows), len(boxes), dtype=torch.int64)
    left, there = frames.to_canvas(boxes.expand(len(windows), -1, -1), source, frames.packed(shown))
    overlaps = box_iou(windows, left[-1]).masked_fill(~there, -1.0)
    least = torch.from_numpy(random.permutation(OVERLAPS)).float()
    fits = (overlaps >= least[:, None, None]).any(dim=2)  # by what is asked, in the order drawn, and window
    fits[:, -1] = least == WHOLE
    return windows[fits.nonzero()[0, 1]]


def _windows(one: Content, random: np.random.Generator) -> torch.Tensor:
    """float32 [n, 4]: parts of a picture as (left, top, right, bottom) in whole pixels, at most `TRIES` of them, then the whole."""
    # torchvision's RandomIoUCrop would draw from torch's one generator, whose numbers come as threads happen to ask for them.
    whole = np.array([one.width, one.height])
    sizes = np.ceil(whole * random.uniform(*SIDES, (TRIES, 2)))
    sizes = sizes[sizes.max(axis=1) <= RATIO * sizes.min(axis=1)]
    corners = np.floor((whole - sizes + 1) * random.random(sizes.shape))
    return torch.from_numpy(np.vstack((np.hstack((corners, corners + sizes)), [0, 0, *whole]))).float()


def _scaled(one: Content, scale: float) -> Content:
    return _resized(one, (max(1, round(one.width * scale)), max(1, round(one.height * scale))))


def _resized(one: Content, size: tuple[int, int]) -> Content:
    """To `size`, (width, height)."""
    width, height = size
    pixels = v2.resize(one.pixels.permute(2, 0, 1), [height, width], antialias=True).permute(1, 2, 0)
    factors = (width / one.width, height / one.height)
    return Content(pixels, frames.moved(one.frame, factors, (0.0, 0.0), (width, height)))


def _bgr(pixels: torch.Tensor) -> torch.Tensor:
    """uint8 [height, width, 3], red and blue exchanged: one channel at a time, several times as fast as a flip of three."""
    given, turned = pixels.numpy(), np.empty(pixels.shape, np.uint8)
    for channel in range(3):
        turned[..., channel] = given[..., 2 - channel]
    return torch.from_numpy(turned)


def _coloured(pixels: torch.Tensor, random: np.random.Generator) -> torch.Tensor:
    """Brightness, contrast and saturation changed at random."""
    picture = pixels.permute(2, 0, 1)
    for change in (v2.adjust_brightness, v2.adjust_contrast, v2.adjust_saturation):
        picture = change(picture, float(random.uniform(1 - COLOUR, 1 + COLOUR)))
    return picture.permute(1, 2, 0)
