"""One table file: CSV, TSV, JSON Lines or Parquet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from acclimate.data.readers.columns import to_table
from acclimate.data.readers.formats import FORMATS, load
from acclimate.data.readers.reader import Columns, Reader
from acclimate.data.readers.words import suffix
from acclimate.data.table import Table


def matches(source: Any) -> bool:
    return isinstance(source, Path) and source.is_file() and suffix(source.name) in FORMATS


def read(source: Path, columns: Columns) -> Table:
    """Paths are relative to the folder of the table."""
    raw, notes = load(source, columns)
    return to_table(raw, columns, source=str(source), reader="table", root=source.parent, notes=notes)


reader = Reader(matches, read)
