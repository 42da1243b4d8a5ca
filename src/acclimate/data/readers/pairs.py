"""A list of (picture, label) pairs, or, without labels, of pictures; a picture is a path, bytes or a PIL image."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pyarrow as pa

from acclimate.core.errors import fail
from acclimate.data.readers.columns import to_table
from acclimate.data.readers.pictures import encoded, filled
from acclimate.data.readers.reader import Columns, Reader
from acclimate.data.table import Table


def matches(source: Any) -> bool:
    return isinstance(source, list | tuple)


def is_pair(item: Any) -> bool:
    return isinstance(item, tuple | list) and len(item) == 2


def read(source: list | tuple, columns: Columns) -> Table:
    """A label is a string, an integer, None, or a list of labels; pictures in memory become encoded bytes.

    Raises `UserError` for an empty list, an item that is no pair, and paths and pictures in one list.
    """
    columns.refuse("a list of pairs", "image", "label", "split", "group")
    name = f"{type(source).__name__} of {len(source)} in memory"
    if not source:
        raise fail(name, "has no samples", "give a list of (path or PIL image, label) pairs")
    odd = next((i for i, item in enumerate(source) if columns.labels and not is_pair(item)), None)
    if odd is not None:
        raise fail(f"item {odd + 1} of {name}", "is no (picture, label) pair", "give (path or PIL image, label)")
    pictures = [encoded(item[0] if is_pair(item) else item) for item in source]
    if any(isinstance(picture, bytes) for picture in pictures):
        pictures = [filled(None, one, None) if isinstance(one, str) else one for one in pictures]
    raw = {"image": one_type(pictures, f"pictures of {name}", "give all as paths, or all as bytes or PIL images")}
    columns = replace(columns, image="image")
    if columns.labels:
        labels = [several(label) for _, label in source]
        raw["label"] = one_type(labels, f"labels of {name}", "give all as strings, or all as integers")
        columns = replace(columns, label="label")
    return to_table(pa.table(raw), columns, source=name, reader="pairs", root=None)


def several(label: Any) -> Any:
    """Labels in a set come in the order of their names."""
    if isinstance(label, set | frozenset):
        return sorted(label)
    return list(label) if isinstance(label, tuple) else label


def one_type(values: list, what: str, remedy: str) -> pa.Array:
    kinds = sorted({type(value).__name__ for value in values if value is not None})
    try:
        if not {"bytes", "str"} <= set(kinds):
            return pa.array(values)
    except pa.ArrowException:
        pass
    raise fail(what, f"cannot stand in one column: {', '.join(kinds)}", remedy)


reader = Reader(matches, read)
