"""How boxes are written: JSON Lines, tables of one row a box, COCO results, YOLO text, and drawn into their pictures."""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from acclimate.core.errors import fail
from acclimate.core.tree import Tree
from acclimate.data.decode import decode
from acclimate.data.read import existing
from acclimate.data.readers.coco import ID, File
from acclimate.models.detection import frames
from acclimate.tasks.draw import LONGEST, draw
from acclimate.tasks.forms import Form, Piece, Row
from acclimate.tasks.image_inputs import ImageInputs

CORNERS = ("x1", "y1", "x2", "y2")
QUALITY = 90
"""Of the JPEG files that are drawn."""
DIGITS = 7
"""Decimals of the shares in YOLO text: exact to 1e-2 pixels in pictures of 100,000."""


def details(prepared: Tree) -> dict[str, Any]:
    """{"width", "height"} of the upright original of a prepared picture, in pixels."""
    across, _, down, _, left, top, right, bottom = frames.values(prepared["frame"])[0].tolist()
    return {"width": round((right - left) / across), "height": round((bottom - top) / down)}


def forms(columns: Sequence[str], classes: Sequence[str], truth: str | None = None) -> dict[str, Form]:
    """By the ending of the file; `columns` of the answer, `truth` as for `Results`. Raises `UserError`."""
    lines = {"width": int, "height": int, **dict.fromkeys(columns, list), "error": str}
    table = Form({**dict.fromkeys(CORNERS, float), "class": str, "score": float, "error": str}, cells)
    results = Results(classes, truth)
    return {
        ".jsonl": Form(lines, iter),
        ".csv": table,
        ".parquet": table,
        ".json": Form({}, results.entries, results.note),
    }


def pieces(classes: Sequence[str]) -> dict[str, Piece]:
    """By the option that asks for them."""
    names = "".join(f"{' '.join(name.split())}\n" for name in classes)
    return {
        "yolo": Piece(
            ".txt", lambda row: yolo(row, classes).encode(), {"classes.txt": names.encode("utf-8", "replace")}
        ),
        "draw": Piece(".jpg", lambda row: drawn(row, classes)),
    }


def cells(rows: Iterable[Row]) -> Iterator[Row]:
    """One row a box; a picture without any, or that cannot be read, has one row without a box, so that none is lost."""
    for row in rows:
        if not row.get("boxes"):
            yield row
        for box, label, score in zip(row.get("boxes", ()), row.get("classes", ()), row.get("scores", ()), strict=True):
            yield {**row, **dict(zip(CORNERS, box, strict=True)), "class": label, "score": score}


class Results:
    """COCO results, {"image_id", "category_id", "bbox": [x, y, width, height], "score"} of every box.

    With an annotation file the ids are those that pictures, by file name, and classes, by name, have there. Without one
    `image_id` is the place of the picture in the order given and `category_id` that of the class in the model, both from 1,
    and each entry has a "file_name" too. Raises `UserError` for a file that is no COCO or lacks one of the classes.
    """

    def __init__(self, classes: Sequence[str], truth: str | None = None) -> None:
        self.truth = truth
        self.pictures: dict[str, ID | None] = {}
        self.categories: dict[str, ID] = {name: place for place, name in enumerate(classes, 1)}
        self.known, self.passed, self.first = 0, 0, ""
        if truth is not None:
            self._take(File.load(existing(truth)), classes)

    def _take(self, file: File, classes: Sequence[str]) -> None:
        self.categories = {name: number for number, name in reversed(file.categories.items())}
        if lacking := [name for name in classes if name not in self.categories]:
            listed = ", ".join(map(repr, lacking))
            rule = f"has no category for {len(lacking)} of the {len(classes)} classes of the model: {listed:.300}"
            raise fail(f"--coco {self.truth}", rule, "give annotations of the classes that the model knows")
        names = [str(image["file_name"]).replace("\\", "/").strip("/") for image in file.images]
        counts = Counter(name.rpartition("/")[2] for name in names)
        for name, image in zip(names, file.images, strict=True):
            # By the last part alone, too, where the folders are not those of the file; not where several pictures have it.
            last = name.rpartition("/")[2]
            self.pictures.setdefault(last, image["id"] if counts[last] == 1 else None)
        self.pictures.update(zip(names, (image["id"] for image in file.images), strict=True))

    def entries(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Raises `UserError` at the end where pictures could be read and none is in the annotation file."""
        for number, row in enumerate(rows, 1):
            if "error" not in row:
                yield from self._of(row, number)
        if self.passed and not self.known:
            rule = f"is not among the images of {self.truth}, nor is any other"
            raise fail(self.first, rule, "give the annotation file of these pictures, or leave --coco out")

    def _of(self, row: Row, number: int) -> Iterator[Row]:
        image = number if self.truth is None else self._id(row["path"])
        if image is None:
            self.passed += 1
            self.first = self.first or row["path"]
            return
        self.known += 1
        named = {"file_name": row["path"]} if self.truth is None else {}
        for (x1, y1, x2, y2), label, score in zip(row["boxes"], row["classes"], row["scores"], strict=True):
            box = [x1, y1, round(x2 - x1, 2), round(y2 - y1, 2)]
            yield {"image_id": image, "category_id": self.categories[label], "bbox": box, "score": score, **named}

    def _id(self, path: str) -> ID | None:
        """By the longest end of the path that the file names."""
        parts = Path(os.path.abspath(path)).parts[1:]  # noqa: PTH100  (links stay as they are)
        ends = ("/".join(parts[first:]) for first in range(len(parts)))
        return next((self.pictures[end] for end in ends if end in self.pictures), None)

    def note(self) -> str:
        told = f"pictures that are not among the images of {self.truth}, left out: {self.passed:,} (the first: {self.first})"
        return told if self.passed else ""


def yolo(row: Row, classes: Sequence[str]) -> str:
    """A line for each box: class from 0, centre x and y, width, height as shares of the picture's sides, score."""
    across, down = row["width"], row["height"]
    lines = []
    for (x1, y1, x2, y2), label, score in zip(row["boxes"], row["classes"], row["scores"], strict=True):
        shares = ((x1 + x2) / 2 / across, (y1 + y2) / 2 / down, (x2 - x1) / across, (y2 - y1) / down)
        lines.append(f"{classes.index(label)} {' '.join(f'{share:.{DIGITS}f}' for share in shares)} {score:.4f}\n")
    return "".join(lines)


def drawn(row: Row, classes: Sequence[str]) -> bytes:
    """The picture of a row with its boxes as JPEG, its long side `LONGEST` pixels at most. Raises OSError, ValueError."""
    width, height = row["width"], row["height"]
    scale = min(1.0, LONGEST / max(width, height))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    image = decode(ImageInputs.raw(row["path"], ()), least=min(size))
    image = image if image.size == size else image.resize(size)
    boxes = [[edge * scale for edge in box] for box in row["boxes"]]
    buffer = io.BytesIO()
    draw(image, boxes, row["classes"], row["scores"], classes).save(buffer, "JPEG", quality=QUALITY, subsampling=0)
    return buffer.getvalue()
