"""Pictures in columns: which column holds them, and how they are stored."""

from __future__ import annotations

import io
from os import PathLike
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image, ImageOps

from acclimate.data.readers.labels import is_text
from acclimate.data.readers.words import has_image_suffix

NAMES = [
    *(
        "image",
        "img",
        "images",
        "picture",
        "pictures",
        "photo",
        "image_path",
        "img_path",
        "image_file",
        "image_filename",
    ),
    *("image_name", "image_bytes", "path", "filepath", "file_path", "file", "filename", "file_name", "bytes"),
]
"""What columns with pictures are called, likeliest first."""
PNG_MODES = {"1", "L", "LA", "I;16", "P", "RGB", "RGBA"}
TIFF_MODES = {"I", "F", "CMYK", "LAB"}
LOOKED_AT = 100


def encoded(value: Any) -> Any:
    """A PIL image as the bytes of a lossless file, turned as its EXIF says; a path as a string; all else as it is."""
    if isinstance(value, PathLike):
        return str(value)
    if not isinstance(value, Image.Image):
        return value
    image = ImageOps.exif_transpose(value)
    if image.mode not in PNG_MODES | TIFF_MODES:
        image = image.convert("RGB")
    buffer = io.BytesIO()
    image.save(buffer, "PNG" if image.mode in PNG_MODES else "TIFF")
    return buffer.getvalue()


def holds_pictures(column: pa.ChunkedArray) -> bool:
    """Bytes, a struct {bytes, path}, or text of which the first values all end like the name of a picture."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not is_text(kind):
        return is_struct(kind) or is_binary(kind)
    first = [value for value in column.slice(0, LOOKED_AT).to_pylist() if value]
    return bool(first) and all(map(has_image_suffix, first))


def is_binary(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def is_struct(kind: pa.DataType) -> bool:
    return pa.types.is_struct(kind) and bool({"bytes", "path"} & {field.name for field in kind})


def find(raw: pa.Table) -> list[str]:
    """The columns that may hold pictures: the likeliest of those with a usual name, else all that look like it."""
    looks = [name for name in raw.column_names if holds_pictures(raw.column(name))]
    usual = [name for name in looks if plain(name) in NAMES]
    return [min(usual, key=lambda name: NAMES.index(plain(name)))] if usual else looks


def plain(name: str) -> str:
    return name.strip().casefold().replace(" ", "_").replace("-", "_")


def samples(column: pa.ChunkedArray, root: Path | None) -> tuple[str, pa.ChunkedArray | None]:
    """("path" or "bytes", the column as it goes into a `Table`: None where it can hold no pictures).

    Of a struct the bytes are taken; where only some rows have bytes, the files of the others are read.
    """
    kind = column.type
    if not is_struct(kind):
        if is_binary(kind):
            return "bytes", column.cast(pa.large_binary())
        return "path", column if is_text(kind) else None
    fields = {field.name for field in kind}
    stored = pc.struct_field(column, "bytes") if "bytes" in fields else None
    paths = pc.struct_field(column, "path") if "path" in fields else None
    if stored is None or (paths is not None and stored.null_count == len(stored)):
        return samples(paths, root)
    if paths is None or stored.null_count == 0:
        return samples(stored, root)
    pairs = zip(stored.to_pylist(), paths.to_pylist(), strict=True)
    return "bytes", pa.chunked_array([[filled(content, path, root) for content, path in pairs]], pa.large_binary())


def filled(stored: bytes | None, path: str | None, root: Path | None) -> bytes | None:
    if stored is not None or path is None:
        return stored
    try:
        return (root / path if root else Path(path)).read_bytes()
    except OSError:
        return None
