"""Tables of boxes: a row for each box, or a row for each picture with the list of its boxes; files and tables in memory alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from acclimate.core.errors import UserError, fail, near
from acclimate.data.readers import READERS, box_columns, columns, formats, pictures
from acclimate.data.readers.box_columns import (
    FOUR,
    Flat,
    as_numbers,
    combined,
    flags,
    flat,
    holds_boxes,
    is_float,
    is_number,
    usual,
)
from acclimate.data.readers.box_files import NO_PICTURE, UNKNOWN_CLASS, Finder, refuse_many
from acclimate.data.readers.box_reading import Reading
from acclimate.data.readers.boxes import Boxes, finished
from acclimate.data.readers.class_names import features, names_in
from acclimate.data.readers.columns import LOOKED_AT, Search
from acclimate.data.readers.labels import is_text, text
from acclimate.data.readers.reader import Columns, Passed, Reader
from acclimate.data.readers.words import is_hidden
from acclimate.data.table import Table

TABLES = ("split-tables", "table", "huggingface", "pandas")
"""The readers whose tables may hold boxes."""


def matches(source: Any) -> bool:
    """Any table; whether it holds boxes, the readers of tables see for themselves."""
    return any(READERS[name].matches(source) for name in TABLES)


def read(source: Any, said: Columns) -> Table:
    """A table of which it is known that it holds boxes."""
    name = next(name for name in TABLES if READERS[name].matches(source))
    return READERS[name].read(source, said)


def to_table(
    raw: pa.Table, said: Columns, *, source: str, reader: str, root: Path | None, notes: tuple[str, ...] = ()
) -> Table:
    """As `columns.to_table`; where the columns are those of boxes, or the user says so, the targets are boxes.

    Rows of one picture become one, in the order of their first; a picture whose box is empty, or four zeros, has no
    objects. `row` is where a picture first stands. What four numbers mean is for `Reading` to see.
    """
    columns.refuse_unfit(raw, source)
    plain = said.boxes is False or said.text is not None or not said.labels
    if plain or not (said.boxes or holds_boxes(raw, said.image)):
        if said.boxes is None and not plain:
            refuse_unnamed(raw, said.image, source)
        return columns.to_table(raw, said, source=source, reader=reader, root=root, notes=notes)
    said.refuse("a table of boxes", "text", "separator")
    search = Search(columns.named_classes(raw), said, source, root)
    return BoxTable(search, flat(search.raw, said.label, source)).table(reader, notes)


def refuse_unnamed(raw: pa.Table, image: str | None, source: str) -> None:
    """Raises `UserError` where most rows name a picture again, beside four columns of numbers that go by no known name."""
    name = image or next(iter(pictures.find(raw) or ()), None)
    if (
        name not in raw.column_names
        or not is_text(raw.column(name).type)
        or pc.count_distinct(raw.column(name)).as_py() * 2 > len(raw)
    ):
        return
    beside = [one for one in raw.column_names if one != name and numbers(raw.column(one).slice(0, LOOKED_AT))]
    if len(beside) >= len(FOUR[0]):
        rule = (
            f"names the same pictures again and again, beside {len(beside)} columns of numbers: {', '.join(beside[:8])}"
        )
        remedy = f"if they are boxes, call them {', '.join(FOUR[0])}; if not, say so: --format table"
        raise fail(source, rule, remedy)


def numbers(column: pa.ChunkedArray) -> bool:
    """Whether there are numbers and nothing else in a column, be they written as text."""
    if is_number(column.type):
        return True
    held = column.drop_null().to_pylist() if is_text(column.type) else []
    return bool(held) and all(map(is_float, held))


@dataclass
class BoxTable:
    """A raw table of boxes on its way to a `Table`."""

    search: Search
    found: Flat
    passed: Passed = field(default_factory=Passed)

    @property
    def source(self) -> str:
        return self.search.source

    @property
    def listed(self) -> bool:
        """Whether a row is a picture, with a list of boxes."""
        return self.found.missing is not None

    def table(self, reader: str, notes: tuple[str, ...]) -> Table:
        search = self.search
        split, group = search.split(), search.group()
        image, label = self.image, self.label
        search.problems.stop()
        form, samples = pictures.samples(search.column(image), search.root)
        if samples is None:
            kind = search.column(image).type
            raise fail(search.say(image), f"holds {kind}", "name a column of paths or bytes with --image")
        whole = combined(samples)
        reading = Reading.of(self.found.table, self.source)
        rows, code = self.pictures(whole)
        boxes, empty = self.boxes(code, len(rows), reading.corners)
        there = whole.take(pa.array(rows))
        columns = {"sample": self.located(there, image) if form == "path" else there}
        if split is not None:
            columns["split"] = self.one_split(search.splits(split), rows, code, there)
        if group is not None:
            columns["group"] = combined(search.column(group).cast(pa.string())).take(pa.array(rows))
        search.problems.stop()
        columns |= {"row": pa.array(rows + 1, pa.int32()), **self.said(rows)}
        made = Table(
            pa.table(columns),
            form,
            self.source,
            reader,
            root=search.root if form == "path" else None,
            label=label if label in search.raw.column_names else box_columns.columns_of_boxes(search.raw)[0],
            named=(image,),
            passed=self.passed.named,
            notes=notes + empty,
            classes=self.classes(boxes.labels),
        )
        return finished(made, boxes, reading.place)

    @cached_property
    def image(self) -> str:
        """The column of pictures, "" with a problem noted."""
        named = self.search.columns.image
        found = box_columns.picture_column(self.search.raw, named)
        return found or "".join(self.search.sample()[:1])

    @cached_property
    def label(self) -> str:
        """The column, or the field of each box, that names its class; "" with a problem noted."""
        names = [name for name in self.found.table.column_names if self.listed or name != self.image]
        named = self.search.columns.label
        found = named if named in names else usual(self.found.table.select(names), box_columns.LABELS)
        if named is not None and found != named:
            rule = f"is no column of the boxes of {self.source}"
            self.search.problems.add(f"--label {named}", rule, near(named, names))
        elif found is None:
            hint = f"name it with --label; columns: {', '.join(names)}"
            self.search.problems.add(self.source, "has no column known to hold the classes of boxes", hint)
        return found or ""

    def pictures(self, samples: pa.Array) -> tuple[np.ndarray, np.ndarray]:
        """(int64 [n]: the row where each picture first stands, int64 [m]: the picture of each box, -1 = of none)."""
        if self.listed:
            return np.arange(len(samples)), self.found.origin
        code = samples.dictionary_encode().indices.fill_null(-1).to_numpy().astype(np.int64)
        self.passed.add(NO_PICTURE.what, *(f"row {row + 1}" for row in np.flatnonzero(code < 0)))
        known = np.flatnonzero(code >= 0)
        return known[np.unique(code[known], return_index=True)[1]], code

    def boxes(self, code: np.ndarray, n: int, corners: np.ndarray) -> tuple[Boxes, tuple[str, ...]]:
        """(the boxes in the order of their pictures, a note on rows of four zeros)."""
        table = self.found.table
        named = combined(table.column(self.label))
        labels = text(named.cast(named.type.value_type) if pa.types.is_dictionary(named.type) else named)
        if labels is None:
            rule = f"holds {named.type}, which names no classes"
            raise fail(self.search.say(self.label), rule, "name another with --label")
        there, notes = code >= 0, tuple[str, ...]()
        if not self.listed:
            zeros = (corners == 0).all(axis=1)
            there = there & ~np.isnan(corners).all(axis=1) & ~zeros
            if zeros.any():
                notes = (f"rows of four zeros are read as pictures without objects: {zeros.sum():,}",)
        nameless = there & labels.is_null().to_numpy(zero_copy_only=False)
        odd = [f"row {self.found.origin[box] + 1}" for box in np.flatnonzero(nameless)]
        self.passed.add(UNKNOWN_CLASS.what, *odd)
        refuse_many(self.source, UNKNOWN_CLASS.what, len(odd), int(there.sum()), odd, "name the class of each box")
        kept = np.flatnonzero(there & ~nameless)
        kept = kept[np.argsort(code[kept], kind="stable")]
        counts = np.bincount(code[kept], minlength=n)
        if self.found.missing is not None:
            counts = np.where(self.found.missing, -1, counts)
        crowd, difficult = (flags(table, names)[kept] for names in (box_columns.CROWD, box_columns.DIFFICULT))
        return Boxes(counts, labels.take(pa.array(kept)), corners[kept], crowd, difficult, self.areas()[kept]), notes

    def areas(self) -> np.ndarray:
        """float64 [m]; NaN where none is said. A column of a table with a row a box may mean another area."""
        name = usual(self.found.table, (box_columns.AREA,)) if self.listed else None
        if name is None:
            return np.full(len(self.found.origin), np.nan)
        return as_numbers(combined(self.found.table.column(name)), f"column {name} of {self.source}")

    def located(self, paths: pa.Array, image: str) -> pa.Array:
        """The paths as they lead from the root: also to pictures in the folders beside the table. One that leads nowhere stays."""
        root = self.search.root
        folders = sorted(path for path in root.iterdir() if path.is_dir() and not is_hidden(path.name)) if root else []
        finder = Finder(root or Path(), [root or Path(), *folders])
        found = [finder.find(path) if path else None for path in paths.to_pylist()]
        if not any(found[:LOOKED_AT]):
            self.search.check_paths(image, [path for path in paths.slice(0, LOOKED_AT).to_pylist() if path])
        return pa.array([one or path for one, path in zip(found, paths.to_pylist(), strict=True)], pa.string())

    def one_split(self, splits: pa.Array, rows: np.ndarray, code: np.ndarray, there: pa.Array) -> pa.Array:
        """The split of each picture, a problem noted where its boxes are in several."""
        of_picture = splits.take(pa.array(rows))
        if not self.listed:
            known = np.flatnonzero(code >= 0)
            own = splits.take(pa.array(known)).to_numpy(zero_copy_only=False)
            torn = np.flatnonzero(own != of_picture.to_numpy(zero_copy_only=False)[code[known]])
            if len(torn):
                first = there[int(code[known[torn[0]]])].as_py()
                first = first if isinstance(first, str) else f"the picture of row {known[torn[0]] + 1}"
                rule = "has boxes in several splits"
                self.search.problems.add(f"{first} in {self.source}", rule, "give a picture one split")
        return of_picture

    def said(self, rows: np.ndarray) -> dict[str, pa.Array]:
        """The columns `said_width` and `said_height`: what the table says of a picture's size, but for columns that are a box's."""
        raw = self.search.raw
        used = box_columns.corner_columns(raw) if not self.listed else None
        free = raw.select([name for name in raw.column_names if not used or name not in used[0]])
        pairs = ([usual(free, (name,)) for name in names] for names in box_columns.SAID)
        names: Sequence[str | None] = next((pair for pair in pairs if all(pair)), (None, None))
        return {
            column: whole_numbers(raw, name, self.source, rows)
            for column, name in zip(("said_width", "said_height"), names, strict=True)
        }

    def classes(self, labels: pa.Array) -> tuple[str, ...]:
        """The names of a Hugging Face feature, in its order, where the boxes are called by them."""
        every = (names_in(feature) for feature in features(self.search.raw).values())
        there = set(labels.unique().to_pylist())
        return next((names for names in every if names and there <= set(names)), ())


def whole_numbers(raw: pa.Table, name: str | None, source: str, rows: np.ndarray) -> pa.Array:
    """int32 [n] of the rows of a column; null where it says no size."""
    if name is None:
        return pa.nulls(len(rows), pa.int32())
    values = as_numbers(combined(raw.column(name)), f"column {name} of {source}")[rows]
    good = (values >= 1) & (values < 1 << 31)
    return pa.array(np.where(good, values, 0).astype(np.int32), mask=~good)


def in_folder(source: Path) -> bool:
    """Whether tables named by split lie in a folder and hold boxes."""
    from acclimate.data.readers.split_tables import tables

    try:
        return any(holds_boxes(formats.head(path, Columns()), None) for _, path in tables(source))
    except UserError:
        return False


reader = Reader(matches, read)
