"""Table files: suffix -> how it becomes an Arrow table."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from pyarrow import csv, parquet
from pyarrow import json as json_lines

from acclimate.core.errors import fail
from acclimate.data.readers import quoting
from acclimate.data.readers.encoding import utf_8
from acclimate.data.readers.reader import Columns
from acclimate.data.readers.words import suffix

BLOCK = 1 << 24
"""Bytes that are parsed at a time; a row must fit into it."""
SHOWN = 60
"""Characters of a row in a message."""

Loaded = tuple[pa.Table, tuple[str, ...]]
"""A table as it is in its file, and what was found out about the file, in words."""


def read_csv(path: Path, columns: Columns, delimiter: str | None = None) -> Loaded:
    """Every value as the text it is (a class "007" stays "007"); an empty cell is null.

    Unless given, the delimiter is the commonest of comma, semicolon and tab in the first line.
    """
    content = utf_8(path, columns.encoding)
    if delimiter is None:
        delimiter = max(",;\t", key=quoting.line_at(content, 0).count)
    enclosed, decided = columns.quoting != "none", False
    if columns.quoting in (None, "auto"):
        enclosed, decided = quoting.detect(content, delimiter)
    notes = (seen(path, delimiter, enclosed),) if decided and (delimiter == "\t" or not enclosed) else ()
    return parsed(path, content, delimiter, enclosed), notes


def seen(path: Path, delimiter: str, enclosed: bool) -> str:
    kind = "tab-separated" if delimiter == "\t" else f"separated by {delimiter!r}"
    return f"{path.name} is read as {kind} {'with' if enclosed else 'without'} quoting (--quoting forces another)"


def parsed(path: Path, content: pa.Buffer, delimiter: str, enclosed: bool) -> pa.Table:
    """Raises `UserError` that names the first row with another number of fields than the header."""
    wrong: list[csv.InvalidRow] = []

    def refuse(row: csv.InvalidRow) -> str:
        wrong.append(row)
        return "error"

    parse = csv.ParseOptions(
        delimiter=delimiter,
        quote_char='"' if enclosed else False,
        newlines_in_values=enclosed,
        invalid_row_handler=refuse,
    )
    for threads in (True, False):  # the number of a row is known where one thread reads
        wrong.clear()
        try:
            return as_text(content, csv.ReadOptions(block_size=BLOCK, use_threads=threads), parse)
        except pa.ArrowInvalid:
            if not wrong:
                raise
    row = wrong[0]
    cut = row.text[:SHOWN] + ("..." if len(row.text) > SHOWN else "")
    raise fail(
        f"{path}: row {row.number - 1}",
        f"cannot be read as {suffix(path.name)[1:].upper()}: it has {row.actual_columns} fields, "
        f"the header {row.expected_columns}: {cut!r}",
        f"correct the row, or say --quoting {'none' if enclosed else 'double'}: now quotation marks "
        + ("enclose fields" if enclosed else "are part of the text")
        if '"' in row.text
        else "correct the row; a field that holds the delimiter stands in quotation marks",
    )


def as_text(content: pa.Buffer, read: csv.ReadOptions, parse: csv.ParseOptions) -> pa.Table:
    names = csv.open_csv(pa.BufferReader(content), read_options=read, parse_options=parse).schema.names
    kinds = dict.fromkeys(names, pa.string())
    convert = csv.ConvertOptions(column_types=kinds, strings_can_be_null=True, null_values=[""], check_utf8=False)
    return csv.read_csv(pa.BufferReader(content), read_options=read, parse_options=parse, convert_options=convert)


def read_tsv(path: Path, columns: Columns) -> Loaded:
    return read_csv(path, columns, "\t")


def read_json(path: Path, columns: Columns) -> Loaded:
    """One JSON object a line, or one array of objects."""
    content = utf_8(path, columns.encoding)
    if bytes(content[:64]).lstrip().startswith(b"["):
        return pa.Table.from_pylist(json.loads(str(content, "utf-8"), strict=False)), ()
    if re.search(b"\0", content):  # raw NUL bytes are no JSON, but files hold them
        content = pa.py_buffer(bytes(content).replace(b"\0", b"\\u0000"))
    read = json_lines.ReadOptions(block_size=BLOCK)
    table = json_lines.read_json(pa.BufferReader(content), read_options=read)
    dates = [field.name for field in table.schema if pa.types.is_timestamp(field.type)]
    if dates:  # texts stay as they are written
        schema = pa.schema([(name, pa.string()) for name in dates])
        parse = json_lines.ParseOptions(explicit_schema=schema)
        table = json_lines.read_json(pa.BufferReader(content), read_options=read, parse_options=parse)
    return table, ()


def read_parquet(path: Path, columns: Columns) -> Loaded:
    table = parquet.ParquetFile(path).read()
    table.validate(full=True)  # Arrow promises UTF-8, but files do not always keep to it
    return table, ()


@dataclass(frozen=True)
class Format:
    """How a file is read, and which of the options for text files that uses."""

    read: Callable[[Path, Columns], Loaded]
    uses: tuple[str, ...] = ()


SEPARATED = ("quoting", "encoding")
FORMATS = {
    ".csv": Format(read_csv, SEPARATED),
    ".tsv": Format(read_tsv, SEPARATED),
    ".jsonl": Format(read_json, ("encoding",)),
    ".ndjson": Format(read_json, ("encoding",)),
    ".json": Format(read_json, ("encoding",)),
    ".parquet": Format(read_parquet),
}


def load(path: Path, columns: Columns) -> Loaded:
    """The file as it is, column by column.

    Raises `UserError` for a file that cannot be read as what its suffix says, and for options that its kind has no use for.
    """
    kind = suffix(path.name)
    for name in SEPARATED:
        if name not in FORMATS[kind].uses:
            columns.refuse(f"{kind} files", name)
    try:
        return FORMATS[kind].read(path, columns)
    except (pa.ArrowException, json.JSONDecodeError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise fail(
            str(path), f"cannot be read as {kind[1:].upper()}: {reason}", "check that it is whole and of that kind"
        ) from error
