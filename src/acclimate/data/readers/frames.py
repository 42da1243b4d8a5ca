"""pandas DataFrame, recognised without importing pandas."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from acclimate.data.readers.box_tables import to_table
from acclimate.data.readers.pictures import encoded
from acclimate.data.readers.reader import Columns, Reader
from acclimate.data.readers.texts import valid
from acclimate.data.table import Table


def matches(source: Any) -> bool:
    kind = type(source)
    return kind.__name__ == "DataFrame" and kind.__module__.partition(".")[0] == "pandas"


def read(source: Any, columns: Columns) -> Table:
    """The index is left out; pictures in memory become encoded bytes; paths are relative to the working folder."""
    columns.refuse("a DataFrame", "quoting", "encoding")
    raw = pa.table({str(name): column(source[name]) for name in source.columns})
    return to_table(raw, columns, source="DataFrame in memory", reader="pandas", root=None)


def column(series: Any) -> pa.Array | pa.ChunkedArray:
    """A column in Arrow; what has no one Arrow type becomes text."""
    if series.dtype != object:
        return pa.array(series, from_pandas=True)
    values = [valid(encoded(value)) for value in series]
    try:
        return pa.array(values, from_pandas=True)
    except pa.ArrowException:
        missing = series.isna()
        return pa.array(
            [None if none else str(value) for value, none in zip(values, missing, strict=True)], pa.string()
        )


reader = Reader(matches, read)
