"""A list of (sample, label) pairs, or, without labels, of samples: a path, bytes or a PIL image, a text or two texts."""

from __future__ import annotations

import os.path
from collections import Counter
from dataclasses import replace
from typing import Any

import pyarrow as pa

from acclimate.core.errors import fail
from acclimate.data.readers.columns import to_table
from acclimate.data.readers.pictures import encoded, filled
from acclimate.data.readers.reader import Columns, Reader
from acclimate.data.readers.texts import valid
from acclimate.data.readers.words import has_image_suffix
from acclimate.data.table import Table

SAMPLE = "(path, PIL image or text, label)"
TEXT, PAIR = "texts", "pairs of texts"


def matches(source: Any) -> bool:
    return isinstance(source, list | tuple)


def is_pair(item: Any) -> bool:
    return isinstance(item, tuple | list) and len(item) == 2


def read(source: list | tuple, columns: Columns) -> Table:
    """A label is a string, an integer, None, or a list of labels; pictures in memory become encoded bytes.

    A string that ends like the name of a picture, or is the path of a file, is a path, any other a text. Raises
    `UserError` for an empty list, an item that is no pair, and for texts and pictures in one list.
    """
    columns.refuse("a list of pairs", "image", "text", "label", "split", "group", "quoting", "encoding")
    name = f"{type(source).__name__} of {len(source)} in memory"
    if not source:
        raise fail(name, "has no samples", f"give a list of {SAMPLE} pairs")
    odd = next((i for i, item in enumerate(source) if columns.labels and not is_pair(item)), None)
    if odd is not None:
        raise fail(
            f"item {odd + 1} of {name}", "is no (picture, label) pair, and no (text, label) pair", f"give {SAMPLE}"
        )
    samples = [item[0] if is_pair(item) else item for item in source]
    kind = one_kind(samples, name)
    if kind in (TEXT, PAIR):
        texts = [[None, None] if sample is None else sample for sample in samples] if kind == PAIR else None
        parts = zip(*texts, strict=True) if texts else [samples]
        raw = {f"text{i}": pa.array(map(valid, part), pa.string()) for i, part in enumerate(parts)}
        columns = replace(columns, text=tuple(raw))
    else:
        raw = {"image": pictures(samples, name)}
        columns = replace(columns, image="image")
    if columns.labels:
        labels = [several(label) for _, label in source]
        raw["label"] = one_type(labels, f"labels of {name}", "give all as strings, or all as integers")
        columns = replace(columns, label="label")
    return to_table(pa.table(raw), columns, source=name, reader="pairs", root=None)


def one_kind(samples: list, name: str) -> str:
    """What the samples are, all of them. Raises `UserError` where they are not of one kind."""
    kinds = [kind_of(sample) for sample in samples if sample is not None]
    counts = Counter(kinds)
    if len(counts) > 1:
        places = [f"{count} {kind} (the first: {samples[kinds.index(kind)]!r:.60})" for kind, count in counts.items()]
        remedy = "give samples of one kind; a string is a path if it ends like a picture's name or is a file"
        raise fail(name, f"holds {' and '.join(places)}", remedy)
    return next(iter(counts), "pictures")


def kind_of(sample: Any) -> str:
    if is_pair(sample) and all(isinstance(text, str) for text in sample):
        return PAIR
    if isinstance(sample, str) and not has_image_suffix(sample) and not os.path.isfile(sample):  # noqa: PTH113
        return TEXT
    return "pictures"


def pictures(samples: list, name: str) -> pa.Array:
    """Paths, or, where some are in memory, the bytes of all."""
    found = [encoded(sample) for sample in samples]
    if any(isinstance(picture, bytes) for picture in found):
        found = [filled(None, one, None) if isinstance(one, str) else one for one in found]
    return one_type(found, f"pictures of {name}", "give all as paths, or all as bytes or PIL images")


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
