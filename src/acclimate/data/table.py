"""`Table`: the samples of one data set as Arrow columns, never as a list of objects."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

OWN = ("sample", "target", "split", "group", "file", "row", "table")
"""Columns that mean something in a `Table`; one of the user's that is called so has another name there, `split_`."""
SPLITS = ("train", "val", "test")
SHOWN = 40
"""Characters of a text in a message."""
Raw = bytes | str | tuple[str, ...]
"""A sample as it is stored; two texts are a pair."""


@dataclass(frozen=True)
class Table:
    """Samples as columns.

    `rows` has the columns `sample` (string or large_string: a path or a text; list<string>: a pair of texts; binary: encoded
    bytes), `target` (string, list<string> where a sample has several labels, or boxes (`data/readers/boxes.py`); null where
    there is none; absent from data without labels), and, where the data give them, `split` (train, val or test; null = not
    said), `group` (string), `file` (string: where a text came from), `row` (int32: its place in its table, from 1) and `table`
    (string: which one, of several). Pictures with boxes have `width`, `height`, `said_width` and `said_height` (int32) besides.
    Other columns are kept as they came.
    """

    rows: pa.Table
    form: str
    """What `sample` holds: "path" (relative to `root`, or absolute), "bytes" (an encoded file) or "text"."""
    source: str
    """Where it was read from, as the user wrote it."""
    reader: str
    root: Path | None = None
    label: str | None = None
    """The name of the column the targets came from, where there is one."""
    named: tuple[str, ...] = ()
    """The names of the columns the samples came from, two of pairs; () where there were none."""
    passed: dict[str, tuple[int, list[str]]] = field(default_factory=dict)
    """What the reader passed over, with the first few names: {"hidden files ignored": (1, [".x.jpg"])}."""
    notes: tuple[str, ...] = ()
    """What the reader found out about the data and the user may want otherwise, in words."""
    classes: tuple[str, ...] = ()
    """The names of all classes in the order of the data, where they say one, also those without a box."""

    def __len__(self) -> int:
        return self.rows.num_rows

    def __contains__(self, column: str) -> bool:
        return column in self.rows.column_names

    def column(self, name: str) -> pa.ChunkedArray:
        return self.rows.column(name)

    def take(self, indices: np.ndarray) -> Table:
        """The rows at `indices` (int64 [m]), in that order."""
        return replace(self, rows=self.rows.take(pa.array(indices, type=pa.int64())))

    def and_(self, other: Table) -> Table:
        """The rows of both, which have the same columns and lie in the same place."""
        return replace(self, rows=pa.concat_tables([self.rows, other.rows]))

    def with_column(self, name: str, values: pa.Array | pa.ChunkedArray) -> Table:
        """The same table with the column added or replaced."""
        if name in self:
            return replace(self, rows=self.rows.set_column(self.rows.column_names.index(name), name, values))
        return replace(self, rows=self.rows.append_column(name, values))

    def raw(self, index: int) -> Raw:
        """The sample as it is stored: the bytes of its file, its encoded bytes, its text, or its pair of texts.

        Raises OSError where a file cannot be read.
        """
        value = self.column("sample")[index].as_py()
        if self.form != "path":
            return tuple(value) if isinstance(value, list) else value
        return read_file(self.path(value))

    def path(self, value: str) -> Path:
        return self.root / value if self.root is not None else Path(value)

    def name(self, index: int) -> str:
        """What to call the sample in a message: its `place`, and behind that of a row of text how it begins, in one line."""
        if self.form == "path" or "file" in self:
            return self.place(index)
        text = self.raw(index)
        begin = "" if isinstance(text, bytes) or not text else text if isinstance(text, str) else " | ".join(text)
        return self.place(index) + (f" {' '.join(begin.split())[:SHOWN]!r}" if begin else "")

    def place(self, index: int) -> str:
        """Where the sample is to be found: its path as stored or the file it came from, else "row N" counted from 1, of several tables
        "NAME row N"."""
        if self.form == "path" or "file" in self:
            return str(self.column("sample" if self.form == "path" else "file")[index].as_py())
        of = f"{self.column('table')[index].as_py()} " if "table" in self else ""
        return f"{of}row {self.column('row')[index].as_py() if 'row' in self else index + 1}"

    def indices(self, split: str) -> np.ndarray:
        """int64 [m]: the rows of a split, in table order."""
        column = self.column("split").to_numpy(zero_copy_only=False)
        return np.flatnonzero(column == split)


def read_file(path: Path) -> bytes:
    """The bytes of a file. Raises OSError; a pipe or a device, which might never end, is refused."""
    if path.exists() and not path.is_file() and not path.is_dir():
        raise OSError(errno.EINVAL, "is no regular file", str(path))
    return path.read_bytes()
