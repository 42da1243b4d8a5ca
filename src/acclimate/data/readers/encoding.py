"""The bytes of text files as UTF-8: checked, or brought to it from another encoding."""

from __future__ import annotations

import codecs
from encodings.aliases import aliases
from pathlib import Path

import pyarrow as pa

from acclimate.core.errors import UserError, fail, near

UTF_8 = "utf-8"
COMMON = (
    *("utf-8", "utf-16", "latin-1", "cp1252", "cp1250", "cp1251", "iso-8859-15", "mac-roman"),
    *("gb18030", "big5", "shift-jis", "euc-kr"),
)
"""What files are likely to be encoded as: named first where nothing like the name is known."""
SHOWN = 20
"""Bytes shown before the one that is wrong."""
NO_TEXT = {
    b"PAR1": ("Parquet", "name it .parquet"),
    b"PK\x03\x04": ("a ZIP archive or an Excel workbook", "unpack it, or export its sheet as CSV"),
    b"\x1f\x8b": ("gzip", "unpack it"),
}
"""What files that were given a wrong name begin with, what they are, and what to do."""


def check(encoding: str | None) -> None:
    """Raises `UserError` for a name that is no encoding of text."""
    if not is_of_text(encoding or UTF_8):
        known = sorted(
            {name.replace("_", "-") for name in {*aliases, *aliases.values()} if name[0].isalpha() and is_of_text(name)}
        )
        raise fail(f"--encoding {encoding}", "is no encoding", near(encoding or "", dict.fromkeys([*COMMON, *known])))


def is_of_text(encoding: str) -> bool:
    try:
        "".encode(encoding)
    except (LookupError, ValueError):  # also raised for codecs of bytes, such as base64, and for no name at all
        return False
    return True


def utf_8(path: Path, encoding: str | None) -> pa.Buffer:
    """The text of a file as UTF-8 without byte order mark; a file that is UTF-8 already is mapped, not copied.

    Raises `UserError` that names the line and the byte where the file is not so encoded.
    """
    content = pa.memory_map(str(path)).read_buffer() if path.stat().st_size else pa.py_buffer(b"")
    try:
        if codecs.lookup(encoding or UTF_8).name != UTF_8:
            content = pa.py_buffer(str(content, encoding or UTF_8).encode())
        elif not is_utf_8(content):
            str(content, UTF_8)  # finds the place
    except UnicodeDecodeError as error:
        raise misplaced(path, encoding or UTF_8, error) from error
    return content.slice(len(codecs.BOM_UTF8)) if bytes(content[:3]) == codecs.BOM_UTF8 else content


def as_array(content: pa.Buffer) -> pa.Array:
    """One text in Arrow, not copied."""
    ends = pa.py_buffer(b"".join(end.to_bytes(8, "little") for end in (0, content.size)))
    return pa.Array.from_buffers(pa.large_string(), 1, [None, ends, content])


def is_utf_8(content: pa.Buffer) -> bool:
    try:
        as_array(content).validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def misplaced(path: Path, encoding: str, error: UnicodeDecodeError) -> UserError:
    for begins, (kind, remedy) in NO_TEXT.items():
        if error.object.startswith(begins):
            return fail(str(path), f"is no text: it begins like {kind}", remedy)
    before = error.object[: error.start]
    line, column = before.count(b"\n") + 1, error.start - before.rfind(b"\n")
    after = before[-min(column - 1, SHOWN) :].decode(encoding, "replace") if column > 1 else ""
    where = f"line {line}, byte {column} (0x{error.object[error.start]:02x}{f', after {after!r}' if after else ''})"
    wide = error.object[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    likely = UTF_8 if is_utf_8(pa.py_buffer(error.object)) else "utf-16" if wide else "latin-1"
    return fail(
        f"{path}: {where}",
        f"is not {encoding.upper()}",
        f"name the encoding of the file, for example --encoding {likely}, or save it with the encoding UTF-8",
    )
