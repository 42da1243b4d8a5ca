"""Hugging Face Dataset and DatasetDict, recognised by what they can do and read as the Arrow tables they are."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from acclimate.core.errors import fail
from acclimate.data.readers.box_tables import to_table
from acclimate.data.readers.columns import stack
from acclimate.data.readers.reader import Columns, Reader
from acclimate.data.readers.words import SPLIT_WORDS, split_of
from acclimate.data.table import Table


def is_dataset(source: Any) -> bool:
    return all(hasattr(source, name) for name in ("features", "with_format", "column_names"))


def matches(source: Any) -> bool:
    if isinstance(source, dict):
        return bool(source) and all(map(is_dataset, source.values()))
    return is_dataset(source)


def arrow(dataset: Any) -> pa.Table:
    """The rows, neither copied nor decoded; the features (names of classes) travel in the schema's metadata."""
    if not hasattr(dataset, "__len__"):
        raise fail(
            type(dataset).__name__, "is a stream, and splits need to know every row", "load it without streaming"
        )
    return dataset.with_format("arrow")[:]


def read(source: Any, columns: Columns) -> Table:
    """Raises `UserError` for a stream, and for a split of a DatasetDict that is none of train, val and test."""
    name = f"{type(source).__name__} in memory"
    columns.refuse(f"a {type(source).__name__}", "quoting", "encoding")
    if not isinstance(source, dict):
        return to_table(arrow(source), columns, source=name, reader="huggingface", root=None)
    columns.refuse("a DatasetDict, which names its splits", "split")
    unknown = [split for split in source if split_of(split) is None]
    if unknown:
        known = ", ".join(SPLIT_WORDS)
        raise fail(f"splits {', '.join(unknown)} of {name}", f"are none of {known}", "rename them, or leave them out")
    raw = stack([(split_of(split) or "", arrow(part)) for split, part in source.items()], name)
    return to_table(raw, columns, source=name, reader="huggingface", root=None)


reader = Reader(matches, read)
