"""YOLO: a text file a picture, each of its rows a class number and a box relative to the picture's size, with or without data.yaml."""

from __future__ import annotations

import itertools
import os
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from acclimate.data.readers.box_files import (
    CONFIDENCE,
    NO_BOX,
    NO_LABEL_FILE,
    NO_PICTURE,
    POLYGON,
    UNKNOWN_CLASS,
    layers,
    refuse_many,
)
from acclimate.data.readers.boxes import Gathered, relative
from acclimate.data.readers.reader import Columns, Reader
from acclimate.data.readers.words import has_image_suffix, is_text_file, suffix
from acclimate.data.readers.yolo_sets import FOLDERS, NAMES, YAML, Sets, is_described, name_files, sets_of
from acclimate.data.table import Table

LOOKED_AT = 20
"""Label files that are looked into."""
COLUMNS = 5
"""Class, centre x, centre y, width, height."""


def matches(source: Any) -> bool:
    if not isinstance(source, Path):
        return False
    if source.is_file():
        return suffix(source.name) in YAML and is_described(source)
    if not source.is_dir():
        return False
    described = any(is_described(path) for path in source.iterdir() if suffix(path.name) in YAML)
    return described or any(map(is_labels, some_labels(source)))


def some_labels(root: Path) -> Iterator[Path]:
    """Text files that may hold labels: below `labels` where `images` is beside it, and beside pictures of the same name."""
    found = list(layers(root, FOLDERS))
    places = {folder for folder, _ in found}
    for folder, names in found:
        stems = {os.path.splitext(name)[0] for name in names if has_image_suffix(name)}  # noqa: PTH122
        aside = any(path.name == "labels" and path.with_name("images") in places for path in (folder, folder.parent))
        texts = [name for name in names if is_text_file(name) and name not in NAMES]
        yield from itertools.islice((folder / name for name in texts if aside or name[:-4] in stems), LOOKED_AT)


def is_labels(path: Path) -> bool:
    """Whether the first row of a file is one of labels."""
    first = next(iter(rows_of(path)), (0, []))[1]
    return len(first) >= COLUMNS and numbers(first) is not None


def read(source: Path, columns: Columns) -> Table:
    """Rows go by split (train, val, test), then by name or as the lists have them.

    Shares are those of the upright picture. A row of more than five values is a polygon, of which the box is taken, whatever
    the other rows are; a picture without a label file is one without objects, and is named. Raises `UserError` where nothing
    says what the classes are called, and where more than 5 % of the rows are of no class, or no boxes.
    """
    columns.refuse("YOLO data")
    found = Gathered()
    sets = sets_of(source, found.passed)
    labels = Labels(sets, found)
    for split, pictures in sets.pictures:
        for picture in pictures:
            found.picture(picture, split)
            labels.add(picture)
    labels.refuse(source)
    labels.left_over()
    return found.table(source, "yolo", sets.root, relative, sets.classes, sets.notes)


@dataclass
class Labels:
    """The label files of the pictures, as they are read."""

    sets: Sets
    found: Gathered
    rows: int = 0
    beside: dict[str, str] = field(default_factory=dict)
    """Folder of labels -> the folder of their pictures."""

    def add(self, picture: str) -> None:
        """The boxes of the picture that was gathered last."""
        name = self.file_of(picture)
        if name is None:
            self.found.passed.add(NO_LABEL_FILE.what, picture)
            return
        self.beside.setdefault(posixpath.dirname(name), posixpath.dirname(picture))
        for line, row in rows_of(self.sets.root / name):
            self.rows += 1
            self.row(row, f"{name}, line {line}")

    def file_of(self, picture: str) -> str | None:
        """The label file of a picture: in `labels` where the picture is in `images`, else beside it."""
        name = posixpath.splitext(picture)[0] + ".txt"
        before, inside, after = f"/{name}".rpartition("/images/")
        aside = posixpath.relpath(f"{before}/labels/{after}", "/") if inside else name
        tried = [f"/{aside}" if posixpath.isabs(picture) else aside, name]
        return next((one for one in tried if (self.sets.root / one).is_file()), None)

    def row(self, row: list[str], where: str) -> None:
        values = numbers(row)
        corners = None if values is None else corners_of(values, self.sets.keypoints)
        if values is None or corners is None:
            self.found.passed.add(NO_BOX.what, f"{where}: {' '.join(row)[:40]!r}")
            return
        if len(row) == COLUMNS + 1:
            self.found.passed.add(CONFIDENCE.what, where)
        elif len(row) > COLUMNS and not self.sets.keypoints:
            self.found.passed.add(POLYGON.what, where)
        name = self.sets.names.get(int(values[0]))
        if name is None:
            self.found.passed.add(UNKNOWN_CLASS.what, f"{where}: class {row[0]}")
        else:
            self.found.box(name, corners)

    def refuse(self, source: Path) -> None:
        """Raises `UserError` where too many rows are of no use."""
        known = len(self.sets.names)
        remedies = {
            UNKNOWN_CLASS: f"the names are {known}, for class 0 to {known - 1}: add what is missing, or correct the rows",
            NO_BOX: "a row is: class, centre x, centre y, width, height, or class and the points of a polygon",
        }
        for fact, remedy in remedies.items():
            count, first = self.found.passed.named.get(fact.what, (0, []))
            refuse_many(source, fact.what, count, self.rows, first, remedy)

    def left_over(self) -> None:
        """Names label files in the folders of labels to which no picture belongs."""
        known = {path.name for path in name_files(self.sets.root)}
        for folder, pictures in self.beside.items():
            there = filter(has_image_suffix, names_in(self.sets.root / pictures))
            stems = {posixpath.splitext(name)[0] for name in there}
            texts = set(filter(is_text_file, names_in(self.sets.root / folder))) - known
            left = sorted(name for name in texts if name[:-4] not in stems)
            labels = (name for name in left if is_labels(self.sets.root / folder / name))
            self.found.passed.add(NO_PICTURE.what, *(posixpath.join(folder, name) for name in labels))


def names_in(folder: Path) -> list[str]:
    return os.listdir(folder) if folder.is_dir() else []  # noqa: PTH208  (names alone)


def rows_of(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(number of the line, from 1, its values) of each line that is not empty; none of a file that cannot be read."""
    try:
        lines = path.read_text("utf-8-sig", "replace").splitlines()
    except OSError:
        lines = []
    return ((number, values) for number, line in enumerate(lines, 1) if (values := line.split()))


def numbers(row: list[str]) -> list[float] | None:
    """The values of a row, None where one is no number or the class is not a whole one."""
    try:
        values = [float(value) for value in row]
    except ValueError:
        return None
    return values if values[0].is_integer() else None


def corners_of(values: list[float], keypoints: bool) -> tuple[float, ...] | None:
    """xyxy of a row, relative; None for a row of another kind.

    Key points behind a box are not read. A sixth value is none of the box either; more are the points of a polygon.
    """
    if len(values) < COLUMNS:
        return None
    if keypoints or len(values) <= COLUMNS + 1:
        x, y, width, height = values[1:COLUMNS]
        return x - width / 2, y - height / 2, x + width / 2, y + height / 2
    across, down = values[1::2], values[2::2]
    return None if len(across) != len(down) else (min(across), min(down), max(across), max(down))


reader = Reader(matches, read, explains=True)
