"""A folder of tables named by split: train.csv, dev.tsv, test-00000-of-00002.parquet."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from acclimate.core.errors import Problems, fail
from acclimate.data.readers.box_columns import columns_of_boxes
from acclimate.data.readers.box_tables import to_table
from acclimate.data.readers.columns import numbers, stack
from acclimate.data.readers.formats import FORMATS, load
from acclimate.data.readers.reader import Columns, Reader
from acclimate.data.readers.swallowed import swallowed
from acclimate.data.readers.words import is_hidden, split_of, suffix
from acclimate.data.table import SPLITS, Table


def split_in_name(name: str) -> str | None:
    """The split a table's file name says, parts of a split counted: "train-00000-of-00002.parquet" is train."""
    if is_hidden(name) or suffix(name) not in FORMATS:
        return None
    return split_of(re.sub(r"[-_.]\d.*$", "", name.rpartition(".")[0]))


def tables(folder: Path) -> list[tuple[str, Path]]:
    found = [(split_in_name(path.name), path) for path in sorted(folder.iterdir()) if path.is_file()]
    return sorted(((split, path) for split, path in found if split), key=lambda item: SPLITS.index(item[0]))


def matches(source: Any) -> bool:
    return isinstance(source, Path) and source.is_dir() and bool(tables(source))


def read(source: Path, columns: Columns) -> Table:
    """Rows go by split (train, val, test), then file, then row; paths are relative to the folder."""
    columns.refuse("tables named by split", "split")
    found = tables(source)
    if len({suffix(path.name) for _, path in found}) > 1 and len({split for split, _ in found}) < len(found):
        raise fail(
            f"{source}: {', '.join(path.name for _, path in found)}",
            "hold the same split in two kinds of table",
            "keep one table of each split",
        )
    loaded = {path: load(path, columns) for _, path in found}
    raw = stack([(split, loaded[path].table) for split, path in found], str(source))
    notes = tuple(note for one in loaded.values() for note in one.notes)
    table = to_table(raw, columns, source=str(source), reader="split-tables", root=source, notes=notes)
    counts = {path.name: len(one.table) for path, one in loaded.items()}
    row = pa.chunked_array([numbers(count) for count in counts.values()])
    name = pa.chunked_array([pa.repeat(name, count) for name, count in counts.items()])
    wanted = (*table.named, *filter(None, [table.label]))
    if "row" in table:  # of boxes: where a picture first stands in all tables together
        first = pc.subtract(table.column("row"), 1)
        row, name = row.take(first), name.take(first)
        wanted += tuple(column for column in columns_of_boxes(raw) if column not in wanted)
    table = table.with_column("row", row).with_column("table", name)
    refuse_without(wanted, {path: one.table.column_names for path, one in loaded.items()})
    left_open = tuple(note for path, one in loaded.items() for note in swallowed(path, one, table))
    return replace(table, notes=table.notes + left_open)


def refuse_without(wanted: tuple[str, ...], there: dict[Path, list[str]]) -> None:
    """Raises `UserError` for files that lack a column of the samples or labels: all their rows would be set aside."""
    problems = Problems()
    for path, names in there.items():
        if lacking := [name for name in wanted if name not in names]:
            problems.add(
                str(path),
                f"has no column {' and no '.join(lacking)}, which the others have; its columns: {', '.join(names)}",
                "give its columns the same names, or take the file out of the folder",
            )
    problems.stop()


reader = Reader(matches, read)
