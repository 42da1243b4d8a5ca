"""Rows of a CSV or TSV file that a quotation mark, opened by mistake, has drawn into the text of another row."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from acclimate.data.readers.formats import Loaded
from acclimate.data.table import Table

NAMED = 5
"""Rows that are named."""


def swallowed(path: Path, loaded: Loaded, table: Table) -> tuple[str, ...]:
    """A note that names the rows of the file whose text holds whole rows; () where there are none.

    `table` says which columns hold texts and labels.
    """
    if table.form != "text" or table.label is None or loaded.delimiter is None:
        return ()
    found = sorted({row for name in table.named for row in rows(loaded.table, name, table.label, loaded.delimiter)})
    if not found:
        return ()
    named = ", ".join(f"{row + 1:,}" for row in found[:NAMED]) + (", ..." if len(found) > NAMED else "")
    return (
        f"{path.name}: rows whose text holds lines that look like rows: {len(found):,} (row {named}); kept. A quotation mark "
        "may be left open there: close it, or say --quoting none",
    )


def rows(raw: pa.Table, text: str, label: str, delimiter: str) -> Iterator[int]:
    """Rows whose text has several lines, and in one of them a label at the place, counted from the text, of the labels' column."""
    labels = set(pc.unique(raw.column(label)).to_pylist()) - {None}
    names = raw.column_names
    behind = names.index(label) > names.index(text)
    # behind the text it is counted from the end of the line, since the text may hold delimiters
    place = names.index(label) - (len(names) if behind else 0)
    for row in pc.indices_nonzero(pc.match_substring(raw.column(text), "\n")).to_pylist():
        lines = raw.column(text)[row].as_py().split("\n")
        if any(holds(line.split(delimiter), place, labels) for line in (lines if behind else lines[1:])):
            yield row


def holds(fields: list[str], place: int, labels: set[str]) -> bool:
    """Whether a label stands at its place, and a field beside it."""
    return len(fields) > max(-place, place + 1) and fields[place].strip('"\r') in labels
