"""Boxes as an Arrow column of a `Table`, and how readers gather them.

A box is xyxy in float pixels of the upright picture (EXIF applied); the origin is the top left corner of the top left pixel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from acclimate.core.errors import fail
from acclimate.data.headers import sizes
from acclimate.data.readers.reader import Passed
from acclimate.data.table import Table

CORNERS = ("x1", "y1", "x2", "y2")
BOX = pa.struct(
    [
        ("label", pa.string()),
        *((name, pa.float64()) for name in CORNERS),
        *((name, pa.bool_()) for name in ("crowd", "difficult")),
        ("area", pa.float64()),
    ]
)
"""`area` is what the annotation says (square pixels), null where it says nothing."""
TARGET = pa.list_(BOX)
"""Of a picture without objects an empty list; null where the picture is not annotated."""
NAMED = 5
"""Names in a message."""


@dataclass(frozen=True)
class Boxes:
    """The boxes of n pictures, one behind the other: a column `target` as arrays of all m boxes."""

    counts: np.ndarray
    """int64 [n]: boxes of each picture; -1 = not annotated."""
    labels: pa.Array
    """string [m]"""
    corners: np.ndarray
    """float64 [m, 4], xyxy"""
    crowd: np.ndarray
    """bool [m]"""
    difficult: np.ndarray
    """bool [m]"""
    area: np.ndarray
    """float64 [m]; NaN = not said"""

    def __len__(self) -> int:
        return len(self.corners)

    @property
    def picture(self) -> np.ndarray:
        """int64 [m]: the row of each box's picture."""
        return np.repeat(np.arange(len(self.counts)), np.maximum(self.counts, 0))

    @property
    def number(self) -> np.ndarray:
        """int64 [m]: the place of each box in its picture, from 1."""
        counts = np.maximum(self.counts, 0)
        return np.arange(1, len(self) + 1) - np.repeat(np.cumsum(counts) - counts, counts)

    def where(self, keep: np.ndarray) -> Boxes:
        """The boxes of which `keep` (bool [m]) says so."""
        left = np.bincount(self.picture[keep], minlength=len(self.counts))
        return Boxes(
            np.where(self.counts < 0, -1, left),
            self.labels.filter(pa.array(keep)),
            self.corners[keep],
            self.crowd[keep],
            self.difficult[keep],
            self.area[keep],
        )

    def column(self) -> pa.ListArray:
        """As a column `target`."""
        values = [self.labels, *map(pa.array, self.corners.T.copy()), pa.array(self.crowd), pa.array(self.difficult)]
        values.append(pa.array(self.area, from_pandas=True))
        structs = pa.StructArray.from_arrays(values, fields=list(BOX))
        missing = self.counts < 0
        ends = np.cumsum(np.maximum(self.counts, 0), dtype=np.int32)
        offsets = pa.array(np.concatenate([np.zeros(1, np.int32), ends]))
        return pa.ListArray.from_arrays(offsets, structs, mask=pa.array(missing) if missing.any() else None)

    @classmethod
    def of(cls, target: pa.ChunkedArray | pa.Array) -> Boxes:
        """From a column `target`."""
        whole = target.combine_chunks() if isinstance(target, pa.ChunkedArray) else target
        counts = pc.fill_null(pc.list_value_length(whole), -1).to_numpy(zero_copy_only=False).astype(np.int64)
        labels, *corners, crowd, difficult, area = whole.flatten().flatten()
        numbers = [one.to_numpy(zero_copy_only=False).astype(np.float64) for one in (*corners, area)]
        crowd, difficult = (pc.fill_null(one, False).to_numpy(zero_copy_only=False) for one in (crowd, difficult))
        return cls(counts, labels, np.stack(numbers[:4], axis=1), crowd, difficult, numbers[4])


@dataclass(frozen=True)
class Frames:
    """What the boxes of a data set lie in, box by box."""

    picture: np.ndarray
    """int64 [m]: the row of its picture."""
    own: np.ndarray
    """float64 [m, 2]: width and height of the upright picture; NaN = its file cannot be read."""
    said: np.ndarray
    """float64 [m, 2]: the size that the annotation says; NaN = it says none."""


Placed = tuple[np.ndarray, tuple[str, ...]]
"""(Corners in pixels, float64 [m, 4]; notes on how they were read.)"""
Place = Callable[[np.ndarray, Frames], Placed]
"""From the corners as they stand in the data (float64 [m, 4]) to pixels."""


def as_they_are(corners: np.ndarray, _: Frames) -> Placed:
    return corners, ()


def relative(corners: np.ndarray, frames: Frames) -> Placed:
    """Corners as shares of the picture's sides."""
    return corners * np.tile(frames.own, 2), ()


@dataclass
class Gathered:
    """Pictures with their boxes, as a reader meets them: `picture`, then a `box` for each of its objects."""

    samples: list[str] = field(default_factory=list)
    splits: list[str | None] = field(default_factory=list)
    said: list[tuple[int, int] | None] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    boxes: list[tuple[str, tuple[float, ...], bool, bool, float]] = field(default_factory=list)
    passed: Passed = field(default_factory=Passed)

    def picture(
        self, sample: str, split: str | None = None, said: tuple[int, int] | None = None, annotated: bool = True
    ) -> None:
        self.samples.append(sample)
        self.splits.append(split)
        self.said.append(said)
        self.counts.append(0 if annotated else -1)

    def box(
        self,
        label: str,
        corners: tuple[float, ...],
        crowd: bool = False,
        difficult: bool = False,
        area: float = float("nan"),
    ) -> None:
        """An object of the last picture."""
        self.counts[-1] += 1
        self.boxes.append((label, corners, crowd, difficult, area))

    def flat(self) -> Boxes:
        labels, corners, crowd, difficult, area = zip(*self.boxes, strict=True) if self.boxes else ((),) * 5
        return Boxes(
            np.array(self.counts, np.int64),
            pa.array(labels, pa.string()),
            np.array(corners, np.float64).reshape(-1, 4),
            np.array(crowd, bool),
            np.array(difficult, bool),
            np.array(area, np.float64),
        )

    def table(
        self,
        source: Path,
        reader: str,
        root: Path,
        place: Place = as_they_are,
        classes: Sequence[str] = (),
        notes: tuple[str, ...] = (),
    ) -> Table:
        """Raises `UserError` where there is no picture, or no box."""
        rows = {"sample": pa.chunked_array([pa.array(self.samples, pa.string())])}
        if any(self.splits):
            rows["split"] = pa.array(self.splits, pa.string())
        for side, name in enumerate(("said_width", "said_height")):
            rows[name] = pa.array([said and said[side] for said in self.said], pa.int32())
        form = Table(pa.table(rows), "path", str(source), reader, root=root, passed=self.passed.named, notes=notes)
        return finished(replace(form, classes=tuple(classes)), self.flat(), place)


def finished(table: Table, boxes: Boxes, place: Place) -> Table:
    """The table, which has its samples and their said sizes, with what the headers of its pictures say and its boxes.

    Raises `UserError` where there is no picture, or no box.
    """
    if not len(table) or not len(boxes):
        lacking = f"names {len(table):,} pictures and not one box" if len(table) else "holds no picture with labels"
        found = "; ".join(f"{what}: {n:,} ({', '.join(first[:NAMED])})" for what, (n, first) in table.passed.items())
        raise fail(
            table.source,
            lacking + (f"; {found}" if found else ""),
            "check that pictures and labels lie where this layout has them, or name another with --format",
        )
    width, height = sizes(table.column("sample"), table.form, table.root)
    table = table.with_column("width", width).with_column("height", height)
    own, said = (in_numbers(table, f"{prefix}width", f"{prefix}height") for prefix in ("", "said_"))
    corners, notes = place(boxes.corners, Frames(boxes.picture, own[boxes.picture], said[boxes.picture]))
    table = table.with_column("target", replace(boxes, corners=corners).column())
    return replace(table, notes=(*table.notes, *notes))


def in_numbers(table: Table, *names: str) -> np.ndarray:
    """float64 [n, names]; NaN = null."""
    columns = [table.column(name).to_numpy(zero_copy_only=False).astype(np.float64) for name in names]
    return np.stack(columns, axis=1)
