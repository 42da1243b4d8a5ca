"""Class numbers as the names that Hugging Face features, kept in the metadata of an Arrow schema, give them."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from acclimate.data.readers.labels import is_list, lists


def features(raw: pa.Table) -> dict[str, Any]:
    """Column -> its feature, as JSON; {} where there are none."""
    metadata = raw.schema.metadata or {}
    return json.loads(metadata.get(b"huggingface", b"{}")).get("info", {}).get("features", {})


def named_classes(raw: pa.Table) -> pa.Table:
    """Class numbers as their names, in lists and structs too; columns without class numbers are as they were."""
    for name, feature in features(raw).items():
        if name in raw.column_names and names_in(feature):
            column = raw.column(name)
            chunks = [named(chunk, feature) for chunk in column.chunks]
            kind = chunks[0].type if chunks else column.type
            raw = raw.set_column(raw.column_names.index(name), name, pa.chunked_array(chunks, kind))
    return raw


def names_in(feature: Any) -> tuple[str, ...]:
    """The names of the first class numbers in a feature; () where it holds none."""
    if isinstance(feature, dict):
        if feature.get("_type") == "ClassLabel":
            return tuple(feature.get("names") or ())
        feature = list(feature.values())
    if isinstance(feature, list):
        return next(filter(None, map(names_in, feature)), ())
    return ()


def named(column: pa.Array, feature: Any) -> pa.Array:
    """A feature is a dict of fields, one in a list, or says its `_type`, with what a list holds as `feature`."""
    if not names_in(feature):
        return column
    if isinstance(feature, list):
        feature = {"_type": "List", "feature": feature[0]}
    inner = feature.get("feature") if isinstance(feature.get("_type"), str) else None
    if feature.get("_type") == "ClassLabel":
        return with_names(column, feature["names"])
    if is_list(column.type) and inner is not None:
        return lists(pc.list_value_length(column), named(column.flatten(), inner))
    if pa.types.is_struct(column.type):
        # a sequence of structs may be stored as a struct of lists
        fields = feature if inner is None else {name: [one] for name, one in dict(inner).items()}
        names = [field.name for field in column.type]
        parts = [named(part, fields.get(name)) for name, part in zip(names, column.flatten(), strict=True)]
        return pa.StructArray.from_arrays(parts, names, mask=column.is_null())
    return column


def with_names(column: pa.Array, names: list[str]) -> pa.Array:
    """Numbers outside the names (-1 stands for no label) become null."""
    if is_list(column.type):
        return lists(pc.list_value_length(column), with_names(column.flatten(), names))
    if not pa.types.is_integer(column.type):
        return column
    known = pc.and_(pc.greater_equal(column, 0), pc.less(column, len(names)))
    return pa.array(names, pa.string()).take(pc.if_else(known, column, None))
