"""`Reading`: what the four numbers of a box in a table mean: two corners, or a corner and a size; pixels, or shares of the sides."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from acclimate.core.errors import fail
from acclimate.data.readers.box_columns import corners_in
from acclimate.data.readers.boxes import Frames, Placed

MOSTLY = 0.5
"""Share of the pictures in which a reading must fail before another is tried."""
SELDOM = 0.05
"""Share of the boxes that the other reading may not fit."""
SLACK = 1.0
"""Pixels by which a box may leave its picture and still fit."""


@dataclass(frozen=True)
class Reading:
    """The boxes of a table as its columns have them."""

    source: str
    corners: np.ndarray
    """float64 [m, 4] as they stand there."""
    sized: bool
    """Whether they are a corner and a size, by the names of their columns."""
    sure: bool
    """Whether the names leave no doubt: four columns, not one."""

    @classmethod
    def of(cls, table: pa.Table, source: str) -> Reading:
        return cls(source, *corners_in(table, source))

    def place(self, boxes: np.ndarray, frames: Frames) -> Placed:
        """Corners in pixels, for those of the boxes that are kept.

        Boxes in one column are a corner and a size where it is called `bbox`, two corners where it is called `boxes`; where
        that does not fit most of the pictures, and the other reading fits nearly every box, they are read the other way.
        Raises `UserError` for sizes that are shares of the picture's sides: their x and y may be a corner or a centre.
        """
        finite = boxes[np.isfinite(boxes).all(axis=1)]
        if len(finite) and finite.min() >= 0 and finite.max() <= 1:
            if self.sized:
                rule = "are x, y, width and height in 0 to 1, of which x and y may be a corner or the centre"
                raise fail(f"boxes of {self.source}", rule, "give xmin, ymin, xmax and ymax")
            return boxes * np.tile(frames.own, 2), (
                "boxes are read as shares of the sides of their pictures: all lie in 0 to 1",
            )
        if self.sure:
            return (with_size(boxes) if self.sized else boxes), ()
        readings = {True: with_size(boxes), False: boxes}
        wrong = {sized: misfits(read, frames.own) for sized, read in readings.items()}
        by_picture = np.unique(frames.picture[wrong[self.sized]]).size / max(np.unique(frames.picture).size, 1)
        turn = by_picture > MOSTLY and wrong[not self.sized].mean() <= SELDOM
        sized = self.sized != turn
        said = {True: "x, y, width, height", False: "x1, y1, x2, y2"}
        why = (
            f": as {said[not sized]}, {by_picture:.0%} of the pictures would have boxes that do not fit" if turn else ""
        )
        return readings[sized], (f"boxes are read as {said[sized]}{why}",)


def with_size(boxes: np.ndarray) -> np.ndarray:
    """Two corners of a corner and a size."""
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def misfits(corners: np.ndarray, own: np.ndarray) -> np.ndarray:
    """bool [m]: boxes that have no area or leave their picture; of a picture of unknown size none leaves it."""
    wrong = (corners[:, 2:] <= corners[:, :2]) | (corners[:, 2:] > own + SLACK)
    return np.asarray(wrong.any(axis=1))
