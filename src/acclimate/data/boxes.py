"""`mend`: boxes as they can be trained on, and what was wrong with them, by rule; the user's files are left alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pyarrow.compute as pc

from acclimate.core.errors import fail
from acclimate.data.decode import TRANSPOSED
from acclimate.data.gate import LISTED, Finding
from acclimate.data.headers import header
from acclimate.data.readers.box_files import FACTS, MOST_LOST, NAMED
from acclimate.data.readers.boxes import Boxes, in_numbers
from acclimate.data.table import Table

NOTICED = 0.5
"""Pixels by which a box may leave its picture without a word: what coordinates of six digits, or whole pixels, are off by."""
ALIKE = 0.5
"""Pixels by which the corners of two boxes may differ that are one."""
Severity = Literal["note", "set aside"]


def mend(table: Table) -> tuple[Table, list[Finding]]:
    """(the table with boxes that all lie in their pictures and have an area, what was found).

    Boxes in the frame before EXIF rotation are turned, those that leave their picture are clipped, those without area,
    outside or said twice are taken out; thin ones, crowd and difficult ones are kept. What the reader saw of the files
    (`box_files.FACTS`) moves from `passed` into the findings. A picture that cannot be read loses its target, so that its
    boxes are not judged: the gate names it. Raises `UserError` where more than 5 % of the boxes are of no use.
    """
    own, said = (in_numbers(table, f"{prefix}width", f"{prefix}height") for prefix in ("", "said_"))
    boxes = Boxes.of(table.column("target"))
    known = ~np.isnan(own).any(axis=1)
    boxes = boxes.where(known[boxes.picture])
    boxes = replace(boxes, counts=np.where(known, boxes.counts, -1))
    findings = [*facts(table)]
    boxes, found = upright(table, boxes, own, said)
    work = Mending(table, boxes, own)
    findings += [*found, *work.without_area(), *work.outside()]
    work.refuse(len(boxes))
    findings += [*work.clipped(), *work.duplicates(), *work.counted()]
    passed = {what: told for what, told in table.passed.items() if what not in {fact.what for fact in FACTS}}
    return replace(table.with_column("target", work.boxes.column()), passed=passed), findings


def facts(table: Table) -> Iterator[Finding]:
    """What the reader saw, as findings."""
    for fact in FACTS:
        if fact.what in table.passed:
            count, first = table.passed[fact.what]
            yield Finding(fact.rule, fact.severity, f"{fact.what}: {count:,}", first, count, fact.done)


def upright(table: Table, boxes: Boxes, own: np.ndarray, said: np.ndarray) -> tuple[Boxes, list[Finding]]:
    """The boxes in the upright frame. Where an annotation says the sides the other way round, and EXIF turns the picture by a
    quarter, they are in the frame before; any other difference is named alone."""
    with np.errstate(invalid="ignore"):
        differ = ~np.isnan(said).any(axis=1) & ~np.isnan(own).any(axis=1) & (said != own).any(axis=1)
    swapped = differ & (said == own[:, ::-1]).all(axis=1)
    turned = {int(row): way for row in np.flatnonzero(swapped) if (way := orientation(table, int(row))) in TRANSPOSED}
    corners = boxes.corners.copy()
    for box in np.flatnonzero(np.isin(boxes.picture, list(turned))):
        row = int(boxes.picture[box])
        corners[box] = turn(corners[box], turned[row], *said[row])
    findings = []
    if turned:
        what = f"pictures that EXIF turns, with boxes in the frame before that: {len(turned):,}"
        names = [table.name(row) for row in list(turned)[:LISTED]]
        done = "the boxes are turned with them"
        findings.append(Finding("boxes before rotation", "note", what, names, len(turned), done))
    if others := [int(row) for row in np.flatnonzero(differ) if int(row) not in turned]:
        names = [f"{table.name(row)} (said {sides(said[row])}, is {sides(own[row])})" for row in others[:LISTED]]
        what = f"pictures of another size than their labels say: {len(others):,}"
        findings.append(Finding("wrong size", "note", what, names, len(others), "boxes kept as they are"))
    return replace(boxes, corners=corners), findings


def sides(size: np.ndarray) -> str:
    return f"{size[0]:.0f} x {size[1]:.0f}"


def orientation(table: Table, row: int) -> int:
    """The EXIF orientation of a picture, 1 to 8."""
    sample = table.column("sample")[row].as_py()
    found = header(sample if table.form == "bytes" else table.path(sample))
    return found.orientation if found else 1


def turn(box: np.ndarray, way: int, width: float, height: float) -> np.ndarray:
    """A box of a picture, width x height as stored, once EXIF orientation `way` (5 to 8) has turned it."""
    x1, y1, x2, y2 = box
    across = (y1, y2) if way in (5, 8) else (height - y2, height - y1)
    down = (x1, x2) if way in (5, 6) else (width - x2, width - x1)
    return np.array([across[0], down[0], across[1], down[1]])


@dataclass
class Mending:
    """The boxes of a table while one rule after the other is held to them; each gives what it found."""

    table: Table
    boxes: Boxes
    own: np.ndarray
    """float64 [n, 2]: width and height of the pictures."""

    def __post_init__(self) -> None:
        self.number = self.boxes.number
        self.lost: list[str] = []
        self.many = 0

    @property
    def size(self) -> np.ndarray:
        """float64 [m, 2]"""
        return self.own[self.boxes.picture]

    def names(self, which: np.ndarray) -> list[str]:
        """The first of some boxes: "BloodImage_00338.jpg, object 13 (RBC)"."""
        found, picture = np.flatnonzero(which)[:LISTED], self.boxes.picture
        each = ((self.table.name(int(picture[box])), self.number[box], self.boxes.labels[int(box)]) for box in found)
        return [f"{name}, object {number} ({label})" for name, number, label in each]

    def take_out(self, which: np.ndarray) -> None:
        self.boxes, self.number = self.boxes.where(~which), self.number[~which]

    def told(self, rule: str, severity: Severity, what: str, which: np.ndarray, done: str) -> list[Finding]:
        count = int(which.sum())
        return [Finding(rule, severity, f"{what}: {count:,}", self.names(which), count, done)] if count else []

    def unusable(self, rule: str, what: str, which: np.ndarray) -> list[Finding]:
        found = self.told(rule, "set aside", what, which, "taken out")
        self.lost += self.names(which)[:NAMED]
        self.many += int(which.sum())
        self.take_out(which)
        return found

    def without_area(self) -> list[Finding]:
        x1, y1, x2, y2 = self.boxes.corners.T
        good = np.isfinite(self.boxes.corners).all(axis=1)
        with np.errstate(invalid="ignore"):
            good &= (x2 > x1) & (y2 > y1)
        return self.unusable("box without area", "boxes without area", ~good)

    def outside(self) -> list[Finding]:
        start, end = self.boxes.corners[:, :2], self.boxes.corners[:, 2:]
        away = ((end <= 0) | (start >= self.size)).any(axis=1)
        return self.unusable("box outside its picture", "boxes outside their pictures", np.asarray(away))

    def refuse(self, of: int) -> None:
        """Raises `UserError` where too many boxes are of no use."""
        if self.many > MOST_LOST * of:
            raise fail(
                f"{self.table.source}: boxes without area or outside their pictures: {self.many:,} of {of:,}",
                f"more than {MOST_LOST:.0%}, which is no accident: {'; '.join(self.lost[:NAMED])}",
                "check that they are written as is usual for this layout (corners or sizes, pixels or shares), and that the "
                "pictures have the size that they had when they were annotated",
            )

    def clipped(self) -> list[Finding]:
        inside = np.clip(self.boxes.corners, 0, np.tile(self.size, 2))
        moved = abs(inside - self.boxes.corners).max(axis=1, initial=0) > NOTICED
        found = self.told("box clipped", "note", "boxes that leave their pictures", moved, "clipped to them")
        self.boxes = replace(self.boxes, corners=inside)
        return found

    def duplicates(self) -> list[Finding]:
        again, what = repeated(self.boxes), "boxes of one class in the same place as another"
        found = self.told("duplicate box", "set aside", what, again, "one is kept")
        self.take_out(again)
        return found

    def counted(self) -> list[Finding]:
        crowd = self.told("crowd", "note", "boxes around a crowd", self.boxes.crowd, "kept, and marked as such")
        return crowd + self.told("difficult", "note", "boxes marked as difficult", self.boxes.difficult, "kept")


def repeated(boxes: Boxes) -> np.ndarray:
    """bool [m]: boxes of which an earlier one of the same picture and class, also a crowd or no crowd, has the same corners, to
    half a pixel.

    Boxes are ordered by their left side, and each is compared with those behind it as long as these begin near enough.
    """
    codes = pc.dictionary_encode(boxes.labels).indices.to_numpy(zero_copy_only=False).astype(np.int64)
    group = (boxes.picture * (codes.max(initial=0) + 1) + codes) * 2 + boxes.crowd
    order = np.lexsort((boxes.corners[:, 0], group))
    corners, group = boxes.corners[order], group[order]
    again = np.zeros(len(boxes), dtype=bool)
    places, step = np.arange(len(boxes)), 0
    while len(places):
        step += 1
        places = places[places + step < len(boxes)]
        near = (group[places] == group[places + step]) & (corners[places + step, 0] - corners[places, 0] <= ALIKE)
        places = places[near]
        same = places[(abs(corners[places + step] - corners[places]) <= ALIKE).all(axis=1)]
        again[np.maximum(order[same], order[same + step])] = True
    return again
