"""From a raw Arrow table to a `Table`: which columns are the sample, label, split and group, and what they hold."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from acclimate.core.errors import Problems, fail, near
from acclimate.core.recipe import spoken
from acclimate.data.readers import pictures, texts
from acclimate.data.readers.class_names import named_classes
from acclimate.data.readers.labels import can_be_labels, is_text, to_target
from acclimate.data.readers.pictures import plain
from acclimate.data.readers.reader import Columns
from acclimate.data.readers.words import SPLIT_WORDS, split_of
from acclimate.data.table import OWN, Table

LABELS = [
    "label",
    "labels",
    "class",
    "classes",
    "class_name",
    "category",
    "categories",
    "target",
    "targets",
    "y",
    "tags",
    "sentiment",
    "intent",
    "topic",
]
SPLITS = ["split", "subset", "partition"]
GROUPS = ["group", "groups", "group_id", "patient_id", "subject_id"]
LOOKED_AT = 20
"""Values that are looked at, or listed in a message."""


def to_table(
    raw: pa.Table, columns: Columns, *, source: str, reader: str, root: Path | None, notes: tuple[str, ...] = ()
) -> Table:
    """Recognise the columns and bring them to the form of a `Table`; the others are kept as they came.

    Raises `UserError` with everything that is wrong: no rows, a named column that is not there, a sample or label
    column that is not recognised, values that are no labels or no splits, paths of which none is there.
    """
    refuse_unfit(raw, source)
    refuse_twice(columns)
    search = Search(named_classes(raw), columns, source, root)
    sample, split, group = search.sample(), search.split(), search.group()
    label = search.label({*sample, split, group}) if columns.labels else None
    form, rows = "path", {}
    if sample:
        form, rows["sample"] = search.samples(sample)
    if label is not None:
        values = search.column(label)
        rows["target"] = to_target(values, columns.separator, search.say(label), search.problems)
    if split is not None:
        rows["split"] = search.splits(split)
    if group is not None:
        rows["group"] = search.column(group).cast(pa.string())
    search.problems.stop()
    others = [name for name in raw.column_names if name not in {*sample, label, split, group}]
    rows |= {f"{name}_" if name in OWN else name: search.raw.column(name) for name in others}
    if form == "text" and not columns.text and len(sample) == 1:
        notes += texts.passed_over(search.raw, sample[0], others)
    folder = root if form == "path" else None
    return Table(pa.table(rows), form, source, reader, root=folder, label=label, named=sample, notes=notes)


def refuse_unfit(raw: pa.Table, source: str) -> None:
    """Raises `UserError` where two columns have one name, or there is no row."""
    if len(set(raw.column_names)) < len(raw.column_names):
        twice = sorted({name for name in raw.column_names if raw.column_names.count(name) > 1})
        raise fail(f"{source}: {', '.join(twice)}", "names two columns", "give every column a name of its own")
    if raw.num_rows == 0:
        raise fail(source, "has no rows", "give a table with one row per sample")


def refuse_twice(columns: Columns) -> None:
    """Raises `UserError` where samples are named twice, or a column is named for two things."""
    texts = columns.text or ()
    if columns.image is not None and texts:
        said = f"--image {columns.image} and {spoken('text', texts)}"
        raise fail(said, "name two kinds of samples", "name the column of pictures or that of texts")
    for option, names in (("image", (columns.image,)), ("text", texts)):
        if columns.label is not None and columns.label in names:
            said = f"--{option} {columns.label} and --label {columns.label}"
            kind = "pictures" if option == "image" else "texts"
            raise fail(said, "name the same column", f"name the column of {kind} and that of labels")
    if len(set(texts)) < len(texts) or len(texts) > 2:
        raise fail(spoken("text", texts), "is no pair of columns", "name one column of texts, or two different ones")


@dataclass(frozen=True)
class Search:
    """Which column is what, in one raw table; what goes wrong is collected in `problems`."""

    raw: pa.Table
    columns: Columns
    source: str
    root: Path | None
    problems: Problems = field(default_factory=Problems)

    def say(self, name: str) -> str:
        return f"column {name} of {self.source}"

    def column(self, name: str) -> pa.ChunkedArray:
        column = self.raw.column(name)
        return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column

    def named(self, option: str, name: str) -> str | None:
        """The column that the user named, or None with a problem noted."""
        if name in self.raw.column_names:
            return name
        rule = f"is not a column of {self.source}"
        self.problems.add(f"--{option} {name}", rule, near(name, self.raw.column_names), option)
        return None

    def usual(self, names: list[str]) -> str | None:
        """The column with the likeliest of the usual names, in any case."""
        found = {plain(name): name for name in reversed(self.raw.column_names)}
        return next((found[name] for name in names if name in found), None)

    def sample(self) -> tuple[str, ...]:
        """The column of pictures or texts, or the two columns of a pair; () with a problem noted."""
        if self.columns.image is not None:
            return tuple(filter(None, [self.named("image", self.columns.image)]))
        if self.columns.text:
            return tuple(filter(None, [self.named("text", name) for name in self.columns.text]))
        found: list[tuple[str, ...]] = [(name,) for name in pictures.find(self.raw)]
        kind, option = "pictures", "--image"
        if not found:
            others = ((self.columns.label, LABELS), (self.columns.split, SPLITS), (self.columns.group, GROUPS))
            taken = {named or self.usual(names) for named, names in others}
            found, kind, option = texts.find(self.raw, taken), "texts", "--text"
        if len(found) == 1:
            return found[0]
        listed = ", ".join(self.raw.column_names)
        if found:
            rule = f"may all hold {kind}: {', '.join(name for names in found for name in names)}"
            self.problems.add(f"columns of {self.source}", rule, f"name it with {option}; columns: {listed}")
        else:
            rule = "holds no column of picture paths or bytes, and none of texts"
            self.problems.add(self.source, rule, f"name it with --image or --text; columns: {listed}")
        return ()

    def split(self) -> str | None:
        return self.usual(SPLITS) if self.columns.split is None else self.named("split", self.columns.split)

    def group(self) -> str | None:
        return self.usual(GROUPS) if self.columns.group is None else self.named("group", self.columns.group)

    def label(self, taken: set[str | None]) -> str | None:
        """The column named so, else the likeliest of the usual names, else the only one left beside the samples."""
        if self.columns.label is not None:
            return self.named("label", self.columns.label)
        left = [name for name in self.raw.column_names if name not in taken]
        if (usual := self.usual(LABELS)) in left:
            return usual
        if len(left) == 1 < len(self.raw.column_names) and can_be_labels(self.column(left[0]).type):
            self.refuse_headless(left[0])
            return left[0]
        listed = ", ".join(self.raw.column_names)
        self.problems.add(self.source, "has no column known to hold labels", f"name it with --label; columns: {listed}")
        return None

    def refuse_headless(self, label: str) -> None:
        """A label among the names of the columns: the first line is a row, which would be lost."""
        column = self.column(label)
        if is_text(column.type) and label in pc.unique(column).to_pylist():
            self.problems.add(
                f"{self.source}: {', '.join(map(repr, self.raw.column_names))}",
                f"is the first line and looks like a row, not like the names of the columns: {label} is a label further down",
                "put a line with the names of the columns before it, such as text,label; where these are the names, "
                f"say --label {label}",
            )

    def samples(self, names: tuple[str, ...]) -> tuple[str, pa.ChunkedArray | None]:
        if self.columns.text or not (self.columns.image or pictures.holds_pictures(self.raw.column(names[0]))):
            return "text", self.as_texts(names)
        name = names[0]
        column = self.column(name)
        form, values = pictures.samples(column, self.root)
        if values is None:
            self.problems.add(self.say(name), f"holds {column.type}", "name a column of paths or bytes with --image")
        elif form == "path" and self.columns.labels:
            self.check_paths(name, [path for path in values.slice(0, LOOKED_AT).to_pylist() if path])
        return form, values

    def as_texts(self, names: tuple[str, ...]) -> pa.ChunkedArray | None:
        columns = [self.column(name) for name in names]
        for name, column in zip(names, columns, strict=True):
            if not is_text(column.type):
                self.problems.add(self.say(name), f"holds {column.type}, no texts", "name another column with --text")
        if any(not is_text(column.type) for column in columns):
            return None
        return columns[0] if len(columns) == 1 else texts.paired(*columns)

    def check_paths(self, name: str, paths: list[str]) -> None:
        """A table whose first paths all lead nowhere is read from the wrong place."""
        folder = Path(self.root or "").absolute()
        if paths and not any((folder / path).exists() for path in paths):
            self.problems.add(
                f"{paths[0]!r} in {self.say(name)}",
                "is not there" + (f", nor is any other of the first {len(paths)}" if len(paths) > 1 else ""),
                f"paths are read relative to {folder}; move the table beside its pictures, or correct the paths",
            )

    def splits(self, name: str) -> pa.Array:
        """train, val or test of any word that means one of them; null stays null."""
        words = pc.dictionary_encode(self.column(name).cast(pa.string()).combine_chunks())
        values = words.dictionary.to_pylist()
        unknown = [value for value in values if split_of(value) is None]
        if unknown:
            listed = ", ".join(map(repr, unknown[:LOOKED_AT])) + (", ..." if len(unknown) > LOOKED_AT else "")
            self.problems.add(
                f"{listed} in {self.say(name)}",
                f"is none of {', '.join(SPLIT_WORDS)}",
                "correct the values, or name another column with --split",
            )
        return pa.array([split_of(value) for value in values], pa.string()).take(words.indices)


def numbers(rows: int) -> pa.Array:
    """int32: the rows of a table, counted from 1."""
    return pa.array(np.arange(1, rows + 1, dtype=np.int32))


def stack(parts: list[tuple[str, pa.Table]], source: str) -> pa.Table:
    """One raw table of several, the split of each as column `split`; a column that only some have is null elsewhere."""
    tables = []
    for split, table in parts:
        if "split" in table.column_names:
            table = table.drop_columns("split")
        tables.append(named_classes(table).append_column("split", pa.repeat(pa.scalar(split), table.num_rows)))
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as error:
        raise fail(
            source, f"has a column of two kinds: {error}", "give a column the same kind in every split"
        ) from error
