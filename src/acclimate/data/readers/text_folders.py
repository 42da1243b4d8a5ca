"""Class folders of text files, one a sample, with or without train / val / test on top."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from acclimate.data.readers.encoding import utf_8
from acclimate.data.readers.folders import TEXTS, collect, mostly_texts, refuse_mixed
from acclimate.data.readers.reader import Columns, Reader
from acclimate.data.table import Table

AT_ONCE = 4096
"""Files whose texts are Python objects at a time."""


def matches(source: Any) -> bool:
    return isinstance(source, Path) and source.is_dir() and mostly_texts(source)


def read(source: Path, columns: Columns) -> Table:
    """Rows go by split, then class in natural order, then path; the sample is what the file holds, its path is `file`.

    Raises `UserError` for a file that is not UTF-8 (or what `--encoding` says), and for a folder that holds pictures too.
    """
    columns.refuse("class folders of texts", "image", "text", "label", "split", "group", "separator", "quoting")
    refuse_mixed(source)
    table = collect(source, columns, TEXTS)
    files = table.column("sample")
    texts = pa.chunked_array(contents(source, files, columns.encoding), pa.string())
    return replace(table.with_column("sample", texts).with_column("file", files), form="text", reader="text-folders")


def contents(root: Path, files: pa.ChunkedArray, encoding: str | None) -> Iterator[pa.Array]:
    names = (name.as_py() for name in files)
    while some := list(itertools.islice(names, AT_ONCE)):
        yield pa.array([content(root / name, encoding) for name in some], pa.string())


def content(path: Path, encoding: str | None) -> str | None:
    """The text of a file; None where it cannot be read, which the gate names."""
    try:
        return str(utf_8(path, encoding), "utf-8")
    except OSError:
        return None


reader = Reader(matches, read)
