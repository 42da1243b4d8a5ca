"""Which columns of a table hold boxes, and how: four columns, one of four numbers, or lists of boxes for each picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from acclimate.core.errors import fail
from acclimate.data.readers import pictures
from acclimate.data.readers.labels import is_list, is_text
from acclimate.data.readers.pictures import plain

FOUR = (
    ("xmin", "ymin", "xmax", "ymax"),
    ("x_min", "y_min", "x_max", "y_max"),
    ("x1", "y1", "x2", "y2"),
    ("x0", "y0", "x1", "y1"),
    ("left", "top", "right", "bottom"),
    ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2"),
    ("bbox_xmin", "bbox_ymin", "bbox_xmax", "bbox_ymax"),
)
"""What four columns of corners are called."""
SIZED = (
    ("x", "y", "width", "height"),
    ("x", "y", "w", "h"),
    ("xmin", "ymin", "width", "height"),
    ("left", "top", "width", "height"),
    ("bbox_x", "bbox_y", "bbox_width", "bbox_height"),
)
"""What columns of a corner and a size are called."""
BOX = ("bbox", "box", "bboxes", "boxes", "bounding_box", "bounding_boxes")
"""What a column of four numbers, or of lists of four, is called."""
CORNERS = ("box", "boxes")
"""Those that usually hold two corners; the others hold a corner and a size, as in COCO."""
LABELS = (
    *(
        "label",
        "labels",
        "class",
        "classes",
        "class_name",
        "category",
        "categories",
        "name",
        "names",
        "labelname",
        "label_name",
    ),
    *("category_name", "class_id", "category_id", "cls", "target"),
)
SAID = (("width", "height"), ("image_width", "image_height"), ("img_width", "img_height"))
CROWD = ("iscrowd", "is_crowd", "crowd", "isgroupof")
DIFFICULT = ("difficult", "is_difficult")
AREA = "area"
IDS = ("imageid", "image_id", "filename", "file_name", "image", "img")
"""Columns that may name pictures without their suffix."""


@dataclass(frozen=True)
class Flat:
    """The boxes of a raw table, one a row, and which row of the raw table each came from."""

    table: pa.Table
    origin: np.ndarray
    """int64 [m]"""
    missing: np.ndarray | None = None
    """bool [rows of the raw table]: rows whose list of boxes is null; None = every row is a box, not a list of them."""


def usual(table: pa.Table, names: tuple[str, ...]) -> str | None:
    """The column with the likeliest of some names, in any case."""
    found = {plain(name): name for name in reversed(table.column_names)}
    return next((found[name] for name in names if name in found), None)


def corner_columns(table: pa.Table) -> tuple[tuple[str, ...], bool] | None:
    """(the four columns of the boxes or the one, whether they are a corner and a size), or None where there are none."""
    found = {plain(name): name for name in reversed(table.column_names)}
    for kinds, sized in ((FOUR, False), (SIZED, True)):
        for names in kinds:
            if all(name in found and is_number_like(table.column(found[name]).type) for name in names):
                return tuple(found[name] for name in names), sized
    one = next((found[name] for name in BOX if name in found and is_four(table.column(found[name]).type)), None)
    return None if one is None else ((one,), plain(one) not in CORNERS)


def is_number_like(kind: pa.DataType) -> bool:
    """Numbers, or the text of CSV files."""
    return is_number(kind) or is_text(kind) or pa.types.is_null(kind)


def is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)


def is_row(kind: pa.DataType) -> bool:
    return is_list(kind) or pa.types.is_fixed_size_list(kind)


def is_four(kind: pa.DataType) -> bool:
    return is_row(kind) and (is_number(kind.value_type) or pa.types.is_null(kind.value_type))


def fields(kind: pa.DataType) -> dict[str, pa.DataType]:
    return {field.name: field.type for field in kind}


def list_column(raw: pa.Table) -> str | None:
    """The column that holds the boxes of a picture in each row: a list of structs, a struct of lists, or a list of four numbers."""
    for field in raw.schema:
        kind = field.type
        if is_list(kind) and pa.types.is_struct(kind.value_type):
            empty = pa.table({name: pa.nulls(0, inner) for name, inner in fields(kind.value_type).items()})
        elif pa.types.is_struct(kind):
            lists = {name: inner.value_type for name, inner in fields(kind).items() if is_list(inner)}
            empty = pa.table({name: pa.nulls(0, inner) for name, inner in lists.items()})
        else:
            continue
        if corner_columns(empty) and usual(empty, LABELS):
            return field.name
    return next((name for name in raw.column_names if plain(name) in BOX and is_lists(raw.column(name).type)), None)


def columns_of_boxes(raw: pa.Table) -> tuple[str, ...]:
    """The columns that a raw table holds its boxes in."""
    listed, found = list_column(raw), corner_columns(raw)
    return (listed,) if listed else found[0] if found else ()


def is_lists(kind: pa.DataType) -> bool:
    return is_list(kind) and is_four(kind.value_type)


def holds_boxes(raw: pa.Table, image: str | None) -> bool:
    """Whether a raw table names pictures and boxes in columns that are known."""
    return picture_column(raw, image) is not None and bool(columns_of_boxes(raw))


def picture_column(raw: pa.Table, image: str | None) -> str | None:
    """The column of pictures: the one that was named, the likeliest, or one of names without a suffix."""
    if image is not None:
        return image if image in raw.column_names else None
    if found := pictures.find(raw):
        return found[0]
    name = usual(raw, IDS)
    return name if name is not None and is_text(raw.column(name).type) else None


def flat(raw: pa.Table, label: str | None, source: str) -> Flat:
    """The boxes of a raw table, one a row, whichever way it holds them. `label`: the column of labels that the user named.

    Raises `UserError` where there are none, and where a row has another number of boxes than of labels.
    """
    name = list_column(raw)
    if name is None:
        return Flat(raw, np.arange(raw.num_rows))
    whole = combined(raw.column(name))
    if is_list(whole.type) and pa.types.is_struct(whole.type.value_type):
        structs = whole.flatten()
        return unrolled(whole, dict(zip(fields(structs.type), structs.flatten(), strict=True)))
    if pa.types.is_struct(whole.type):
        columns = dict(zip(fields(whole.type), whole.flatten(), strict=True))
        columns = {one: part for one, part in columns.items() if is_list(part.type) and is_known(one)}
    else:
        labels = [label] if label else [one for one in raw.column_names if plain(one) in LABELS]
        beside = next((one for one in labels if is_list(raw.column(one).type)), None)
        if beside is None:
            raise fail(
                f"{source}: column {name}", "has no column with a list of labels beside it", "name it with --label"
            )
        columns = {name: whole, beside: combined(raw.column(beside))}
    counts = {one: lengths(part) for one, part in columns.items()}
    first = next(iter(columns))
    for one, count in counts.items():
        if len(odd := np.flatnonzero(count != counts[first])):
            row = int(odd[0])
            said = f"holds {count[row]} values in row {row + 1}, where {first} holds {counts[first][row]}"
            raise fail(f"{one} of {source}", said, "give each box one of each")
    return unrolled(columns[first], {one: part.flatten() for one, part in columns.items()})


def is_known(name: str) -> bool:
    """Whether a field belongs to boxes; lists of anything else may be of any length."""
    return plain(name) in {*BOX, *LABELS, *CROWD, *DIFFICULT, AREA} or any(
        plain(name) in four for four in (*FOUR, *SIZED)
    )


def unrolled(rows: pa.Array, columns: dict[str, pa.Array]) -> Flat:
    """`rows`: a list array with as many values in each row as there are boxes."""
    return Flat(
        pa.table(columns),
        np.repeat(np.arange(len(rows)), lengths(rows)),
        rows.is_null().to_numpy(zero_copy_only=False),
    )


def lengths(rows: pa.Array) -> np.ndarray:
    return pc.fill_null(pc.list_value_length(rows), 0).to_numpy(zero_copy_only=False).astype(np.int64)


def combined(column: pa.ChunkedArray) -> Any:
    whole = column.combine_chunks()
    return pa.concat_arrays(whole.chunks) if isinstance(whole, pa.ChunkedArray) else whole


def corners_in(table: pa.Table, source: str) -> tuple[np.ndarray, bool, bool]:
    """(float64 [m, 4] as it stands in the columns, whether that is a corner and a size, whether the names leave no doubt).

    NaN where nothing stands. Raises `UserError` where there are no boxes, and for a value that is no number.
    """
    found = corner_columns(table)
    if found is None:
        listed = ", ".join(table.column_names)
        raise fail(source, "has no columns known to hold boxes", f"call them {', '.join(FOUR[0])}; columns: {listed}")
    names, sized = found
    if len(names) == 1:
        return four(combined(table.column(names[0])), f"column {names[0]} of {source}"), sized, False
    each = [as_numbers(combined(table.column(name)), f"column {name} of {source}") for name in names]
    return np.stack(each, axis=1), sized, True


def four(column: pa.Array, what: str) -> np.ndarray:
    """float64 [m, 4] of lists of four numbers. Raises `UserError` for one of another length."""
    kind = column.type
    column = column.cast(pa.list_(kind.value_type)) if pa.types.is_fixed_size_list(kind) else column
    valid = column.is_valid().to_numpy(zero_copy_only=False)
    if len(odd := np.flatnonzero(valid & (lengths(column) != 4))):
        raise fail(f"box {odd[0] + 1} in {what}", f"has {lengths(column)[odd[0]]} numbers", "give each box four")
    values = np.full((len(column), 4), np.nan)
    values[valid] = as_numbers(column.drop_null().flatten(), what).reshape(-1, 4)
    return values


def as_numbers(column: pa.Array, what: str) -> np.ndarray:
    """float64 [m]; NaN = null."""
    if is_text(column.type):
        column = pc.utf8_trim_whitespace(column)
    try:
        return column.cast(pa.float64()).to_numpy(zero_copy_only=False).astype(np.float64)
    except pa.ArrowInvalid:
        wrong = next(value for value in column.to_pylist() if value is not None and not is_float(value))
        raise fail(f"{wrong!r} in {what}", "is no number", "correct it, or give the columns other names") from None


def is_float(text: Any) -> bool:
    try:
        pa.array([text]).cast(pa.float64())
    except pa.ArrowInvalid:
        return False
    return True


def flags(table: pa.Table, names: tuple[str, ...]) -> np.ndarray:
    """bool [m] of a column of 0 and 1, false and true, in any type; False where there is none."""
    name = usual(table, names)
    if name is None:
        return np.zeros(table.num_rows, bool)
    words = pc.utf8_lower(combined(table.column(name)).cast(pa.string()))
    return pc.fill_null(pc.is_in(words, pa.array(["1", "true", "1.0"])), False).to_numpy(zero_copy_only=False)
