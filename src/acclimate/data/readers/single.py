"""One file that is a picture: a sample without a label."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from acclimate.core.errors import fail
from acclimate.data.readers.reader import Columns, Reader
from acclimate.data.readers.words import has_image_suffix, suffix
from acclimate.data.table import Table


def matches(source: Any) -> bool:
    return isinstance(source, Path) and source.is_file() and (has_image_suffix(source.name) or not suffix(source.name))


def read(source: Path, columns: Columns) -> Table:
    """Raises `UserError` where labels are wanted."""
    if columns.labels:
        raise fail(
            str(source), "is one file that is no table", "give a folder of class folders, or a table with labels"
        )
    columns.refuse("one picture")
    return Table(pa.table({"sample": [source.name]}), "path", str(source), "picture", root=source.parent)


reader = Reader(matches, read)
