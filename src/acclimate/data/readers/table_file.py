"""One table file: CSV, TSV, JSON Lines or Parquet."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from acclimate.data.readers.box_tables import to_table
from acclimate.data.readers.columns import numbers
from acclimate.data.readers.formats import FORMATS, load
from acclimate.data.readers.reader import Columns, Reader
from acclimate.data.readers.swallowed import swallowed
from acclimate.data.readers.words import suffix
from acclimate.data.table import Table


def matches(source: Any) -> bool:
    return isinstance(source, Path) and source.is_file() and suffix(source.name) in FORMATS


def read(source: Path, columns: Columns) -> Table:
    """Paths are relative to the folder of the table."""
    loaded = load(source, columns)
    table = to_table(loaded.table, columns, source=str(source), reader="table", root=source.parent, notes=loaded.notes)
    if "row" not in table:
        table = table.with_column("row", numbers(len(table)))
    return replace(table, notes=table.notes + swallowed(source, loaded, table))


reader = Reader(matches, read)
