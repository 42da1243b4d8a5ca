"""One text file: each of its lines is a sample without a label."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from acclimate.core.errors import fail
from acclimate.data.readers.encoding import as_array, utf_8
from acclimate.data.readers.reader import Columns, Reader
from acclimate.data.readers.words import is_text_file
from acclimate.data.table import Table


def matches(source: Any) -> bool:
    return isinstance(source, Path) and source.is_file() and is_text_file(source.name)


def read(source: Path, columns: Columns) -> Table:
    """Raises `UserError` where labels are wanted, and for a file without lines."""
    if columns.labels:
        raise fail(
            str(source),
            "is one text file, which names no labels",
            "give a table with labels, or class folders with one text a file",
        )
    columns.refuse("lines of text", "image", "text", "label", "split", "group", "separator", "quoting")
    content = utf_8(source, columns.encoding)
    if not content.size:
        raise fail(str(source), "is empty (0 bytes)", "give a file with one text a line")
    lines = pc.split_pattern(pc.replace_substring(as_array(content), "\r\n", "\n"), "\n").flatten()
    last = len(lines) - (lines[-1].as_py() == "")
    return Table(pa.table({"sample": lines.slice(0, last)}), "text", str(source), "lines")


reader = Reader(matches, read)
