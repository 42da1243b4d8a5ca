"""Label columns of any kind as targets: a string, or a list of strings where a sample has several labels."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from acclimate.core.errors import Problems


def can_be_labels(kind: pa.DataType) -> bool:
    return is_text(kind) or is_list(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)


def is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind)


def to_target(column: pa.ChunkedArray, separator: str | None, what: str, problems: Problems) -> pa.ChunkedArray | None:
    """string or list<string>; whole numbers and booleans as text, "" as null; an empty list stays one.

    With a separator, each text is cut at it: "a | b" is a and b.
    """
    if separator == "":
        problems.add("--separator ''", "is empty", "give what stands between two labels, for example '|'")
        return None
    if separator is not None and not is_text(column.type):
        problems.add(f"--separator {separator!r}", f"cuts text, and {what} holds {column.type}", "leave it out")
        return None
    chunks = [one_chunk(chunk, separator) for chunk in column.chunks]
    if any(chunk is None for chunk in chunks):
        problems.add(what, f"holds {column.type}, which names no classes", "name another column with --label")
        return None
    kind = pa.list_(pa.string()) if separator is not None or is_list(column.type) else pa.string()
    return pa.chunked_array(chunks, kind)


def one_chunk(chunk: pa.Array, separator: str | None) -> pa.Array | None:
    if separator is not None:
        return cut(chunk.cast(pa.string()), separator)
    if is_list(chunk.type):
        inner = text(chunk.flatten())
        return None if inner is None else lists(pc.list_value_length(chunk), inner)
    return text(chunk)


def text(values: pa.Array) -> pa.Array | None:
    """Whole numbers, booleans and text as text; None for anything else."""
    kind = values.type
    if pa.types.is_dictionary(kind):
        return text(values.cast(kind.value_type))
    if pa.types.is_floating(kind):
        whole = pc.all(pc.equal(values, pc.floor(values))).as_py()
        return text(values.cast(pa.int64())) if whole is not False else None
    if is_text(kind):
        values = values.cast(pa.string())
        return pc.if_else(pc.equal(values, ""), None, values)
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind):
        return values.cast(pa.string())
    return None


def cut(values: pa.Array, separator: str) -> pa.Array:
    """Lists of the parts between separators, trimmed, empty ones left out."""
    pieces = pc.split_pattern(values, separator)
    row = pc.list_parent_indices(pieces)
    part = pc.utf8_trim_whitespace(pieces.flatten())
    full = pc.not_equal(part, "")
    counts = np.bincount(row.filter(full).to_numpy(), minlength=len(values))
    return lists(pc.if_else(values.is_null(), None, pa.array(counts, pa.int32())), part.filter(full))


def lists(lengths: pa.Array, values: pa.Array) -> pa.Array:
    """list<string> of these lengths; a null length is a null list."""
    ends = np.cumsum(lengths.fill_null(0).to_numpy(), dtype=np.int32)
    offsets = pa.array(np.concatenate([np.zeros(1, np.int32), ends]))
    return pa.ListArray.from_arrays(offsets, values, mask=lengths.is_null() if lengths.null_count else None)
