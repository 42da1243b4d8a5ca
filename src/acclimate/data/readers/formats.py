"""Table files: suffix -> how it becomes an Arrow table."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from pyarrow import csv, parquet
from pyarrow import json as json_lines

from acclimate.core.errors import UserError, fail
from acclimate.data.readers import quoting
from acclimate.data.readers.encoding import utf_8
from acclimate.data.readers.reader import Columns
from acclimate.data.readers.texts import valid
from acclimate.data.readers.words import suffix

BLOCK = 1 << 24
"""Bytes that are parsed at a time; a row must fit into it."""
LARGEST = (1 << 31) - 1
"""Bytes that Arrow can take for one block."""
SHOWN = 60
"""Characters of a row in a message."""

ROWS = 1024
"""Rows that are read at a time where a table is streamed, and looked at to know its columns."""


class Loaded(NamedTuple):
    """A table as it is in its file, what was found out about the file, in words, and what parts its fields, where anything does."""

    table: pa.Table
    notes: tuple[str, ...] = ()
    delimiter: str | None = None


Batches = Iterator[pa.RecordBatch]
"""A table in pieces: of each piece the columns that are wanted, or all."""


def read_csv(path: Path, columns: Columns, delimiter: str | None = None) -> Loaded:
    """Every value as the text it is (a class "007" stays "007"); an empty cell is null.

    Unless given, the delimiter is the commonest of comma, semicolon and tab in the first line.
    """
    content, delimiter, enclosed, decided = layout(path, columns, delimiter)
    notes = (seen(path, delimiter, enclosed),) if decided and (delimiter == "\t" or not enclosed) else ()
    return Loaded(parsed(path, content, delimiter, enclosed), notes, delimiter)


def layout(path: Path, columns: Columns, delimiter: str | None) -> tuple[pa.Buffer, str, bool, bool]:
    """(the file as UTF-8, its delimiter, whether quotation marks enclose fields, whether that was seen in it)."""
    content = utf_8(path, columns.encoding)
    if delimiter is None:
        delimiter = max(",;\t", key=quoting.line_at(content, 0).count)
    if columns.quoting in (None, "auto"):
        return content, delimiter, *quoting.detect(content, delimiter)
    return content, delimiter, columns.quoting != "none", False


def seen(path: Path, delimiter: str, enclosed: bool) -> str:
    kind = "tab-separated" if delimiter == "\t" else f"separated by {delimiter!r}"
    return f"{path.name} is read as {kind} {'with' if enclosed else 'without'} quoting (--quoting forces another)"


def parsed(path: Path, content: pa.Buffer, delimiter: str, enclosed: bool) -> pa.Table:
    """Raises `UserError` that names the first row with another number of fields than the header."""
    with misfits_named(path, content, delimiter, enclosed):
        return as_text(content, parsing(delimiter, enclosed))


@contextmanager
def misfits_named(path: Path, content: pa.Buffer, delimiter: str, enclosed: bool) -> Iterator[None]:
    try:
        yield
    except pa.ArrowInvalid:
        wrong = first_misfit(content, parsing(delimiter, enclosed))
        if wrong is None:
            raise
        raise misfit(path, wrong, enclosed) from None


def first_misfit(content: pa.Buffer, parse: csv.ParseOptions) -> csv.InvalidRow | None:
    """The first row with another number of fields than the header.

    Asked only where a file is known to be wrong: Arrow's threads let go of what they call in Python at a time of theirs, which ends the
    process by an abort where it is just about to exit. Here one thread, ours, reads; so the number of the row is known as well.
    """
    wrong: list[csv.InvalidRow] = []

    def refuse(row: csv.InvalidRow) -> str:
        wrong.append(row)
        return "error"

    parse.invalid_row_handler = refuse
    read, convert = csv.ReadOptions(block_size=BLOCK, use_threads=False), csv.ConvertOptions(check_utf8=False)
    with suppress(pa.ArrowInvalid):
        csv.read_csv(pa.BufferReader(content), read_options=read, parse_options=parse, convert_options=convert)
    return wrong[0] if wrong else None


def parsing(delimiter: str, enclosed: bool) -> csv.ParseOptions:
    return csv.ParseOptions(delimiter=delimiter, quote_char='"' if enclosed else False, newlines_in_values=enclosed)


def misfit(path: Path, row: csv.InvalidRow, enclosed: bool) -> UserError:
    cut = row.text[:SHOWN] + ("..." if len(row.text) > SHOWN else "")
    return fail(
        f"{path}: row {row.number - 1}",
        f"cannot be read as {suffix(path.name)[1:].upper()}: it has {row.actual_columns} fields, "
        f"the header {row.expected_columns}: {cut!r}",
        f"correct the row, or say --quoting {'none' if enclosed else 'double'}: now quotation marks "
        + ("enclose fields" if enclosed else "are part of the text")
        if '"' in row.text
        else "correct the row; a field that holds the delimiter stands in quotation marks",
    )


def as_text(content: pa.Buffer, parse: csv.ParseOptions) -> pa.Table:
    read = csv.ReadOptions(block_size=BLOCK)
    names = csv.open_csv(pa.BufferReader(content), read_options=read, parse_options=parse).schema.names
    convert = as_strings(names)
    return csv.read_csv(pa.BufferReader(content), read_options=read, parse_options=parse, convert_options=convert)


def as_strings(names: list[str], **others: Any) -> csv.ConvertOptions:
    kinds = dict.fromkeys(names, pa.string())
    return csv.ConvertOptions(
        column_types=kinds, strings_can_be_null=True, null_values=[""], check_utf8=False, **others
    )


def stream_csv(path: Path, columns: Columns, names: tuple[str, ...] | None, delimiter: str | None = None) -> Batches:
    content, delimiter, enclosed, _ = layout(path, columns, delimiter)
    read = csv.ReadOptions(block_size=BLOCK, use_threads=False)  # one block after the other
    parse = parsing(delimiter, enclosed)
    with misfits_named(path, content, delimiter, enclosed):
        there = csv.open_csv(pa.BufferReader(content), read_options=read, parse_options=parse).schema.names
        convert = as_strings(there, include_columns=list(names or there))
        yield from csv.open_csv(
            pa.BufferReader(content), read_options=read, parse_options=parse, convert_options=convert
        )


def read_tsv(path: Path, columns: Columns) -> Loaded:
    return read_csv(path, columns, "\t")


def stream_tsv(path: Path, columns: Columns, names: tuple[str, ...] | None) -> Batches:
    return stream_csv(path, columns, names, "\t")


def read_json(path: Path, columns: Columns) -> Loaded:
    """One JSON object a line, or one array of objects."""
    content = utf_8(path, columns.encoding)
    if bytes(content[:64]).lstrip().startswith(b"["):
        rows = json.loads(str(content, "utf-8"), strict=False)
        if (odd := next((i for i, row in enumerate(rows, 1) if not isinstance(row, dict)), None)) is not None:
            raise pa.ArrowInvalid(f"row {odd:,} is no object")
        return Loaded(pa.Table.from_pylist(rows))
    if re.search(b"\0", content):  # raw NUL bytes are no JSON, but files hold them
        content = pa.py_buffer(bytes(content).replace(b"\0", b"\\u0000"))
    table = parsed_json(content)
    dates = [field.name for field in table.schema if pa.types.is_timestamp(field.type)]
    if dates:  # texts stay as they are written
        schema = pa.schema([(name, pa.string()) for name in dates])
        table = parsed_json(content, json_lines.ParseOptions(explicit_schema=schema))
    return Loaded(table)


def parsed_json(content: pa.Buffer, parse: json_lines.ParseOptions | None = None) -> pa.Table:
    """Raises `pa.ArrowInvalid` with the number of the row, counted from 1."""
    try:
        return json_lines.read_json(pa.BufferReader(content), json_lines.ReadOptions(block_size=BLOCK), parse)
    except pa.ArrowInvalid:
        whole = json_lines.ReadOptions(block_size=min(max(content.size, 1), LARGEST), use_threads=False)
    try:  # Arrow counts from the start of a block
        return json_lines.read_json(pa.BufferReader(content), whole, parse)
    except pa.ArrowInvalid as error:
        counted = re.sub(r"in row (\d+)", lambda found: f"in row {int(found[1]) + 1:,}", str(error))
        raise pa.ArrowInvalid(counted) from error


def stream_json(path: Path, columns: Columns, names: tuple[str, ...] | None) -> Batches:
    """Values that are no texts, and rows that are no objects, are null in the named columns: no reason to refuse the others."""
    content = utf_8(path, columns.encoding)
    if bytes(content[:64]).lstrip().startswith(b"["):
        rows = iter(json.loads(str(content, "utf-8"), strict=False))
    else:
        rows = (json.loads(found[0], strict=False) for found in re.finditer(rb"[^\n]*\S[^\n]*", content))
    while some := [row if isinstance(row, dict) else {} for row in itertools.islice(rows, ROWS)]:
        wanted = names or tuple(dict.fromkeys(name for row in some for name in row))
        yield pa.RecordBatch.from_arrays([texts_or_null([row.get(name) for row in some]) for name in wanted], wanted)


def texts_or_null(values: list[Any]) -> pa.Array:
    """A column that holds other values alone stays one of those."""
    texts = [valid(value) if isinstance(value, str) else None for value in values]
    if any(text is not None for text in texts):
        return pa.array(texts, pa.string())
    try:
        return pa.array(values)
    except pa.ArrowException:
        return pa.nulls(len(values), pa.string())


def stream_parquet(path: Path, columns: Columns, names: tuple[str, ...] | None) -> Batches:
    for batch in parquet.ParquetFile(path).iter_batches(ROWS, columns=list(names) if names else None):
        batch.validate(full=True)
        yield batch


def read_parquet(path: Path, columns: Columns) -> Loaded:
    table = parquet.ParquetFile(path).read()
    table.validate(full=True)  # Arrow promises UTF-8, but files do not always keep to it
    return Loaded(table)


@dataclass(frozen=True)
class Format:
    """How a file is read, and which of the options for text files that uses."""

    read: Callable[[Path, Columns], Loaded]
    stream: Callable[[Path, Columns, tuple[str, ...] | None], Batches]
    uses: tuple[str, ...] = ()


SEPARATED = ("quoting", "encoding")
FORMATS = {
    ".csv": Format(read_csv, stream_csv, SEPARATED),
    ".tsv": Format(read_tsv, stream_tsv, SEPARATED),
    ".jsonl": Format(read_json, stream_json, ("encoding",)),
    ".ndjson": Format(read_json, stream_json, ("encoding",)),
    ".json": Format(read_json, stream_json, ("encoding",)),
    ".parquet": Format(read_parquet, stream_parquet),
}


def load(path: Path, columns: Columns) -> Loaded:
    """The file as it is, column by column.

    Raises `UserError` for a file that cannot be read as what its suffix says, and for options that its kind has no use for.
    """
    refuse_without_effect(path, columns)
    with reading(path, columns.encoding):
        return FORMATS[suffix(path.name)].read(path, columns)


def stream(path: Path, columns: Columns, names: tuple[str, ...]) -> Batches:
    """The named columns of a file, in pieces. Raises as `load`, where the piece that is wrong comes."""
    with reading(path, columns.encoding):
        yield from FORMATS[suffix(path.name)].stream(path, columns, names)


def head(path: Path, columns: Columns) -> pa.Table:
    """The first rows of a file, at most `ROWS`. Raises as `load`."""
    refuse_without_effect(path, columns)
    with reading(path, columns.encoding):
        first = next(iter(FORMATS[suffix(path.name)].stream(path, columns, None)), None)
        return pa.table({}) if first is None else pa.Table.from_batches([first]).slice(0, ROWS)


def refuse_without_effect(path: Path, columns: Columns) -> None:
    kind = suffix(path.name)
    for name in SEPARATED:
        if name not in FORMATS[kind].uses:
            columns.refuse(f"{kind} files", name)


@contextmanager
def reading(path: Path, encoding: str | None) -> Iterator[None]:
    """Inside, what cannot be read is told as the user's to mend."""
    try:
        yield
    except (pa.ArrowException, json.JSONDecodeError, OSError, OverflowError) as error:
        reason, kind = str(error).splitlines()[0], suffix(path.name)
        also = f", and that it is encoded as --encoding {encoding} says" if encoding else ""
        raise fail(
            str(path),
            f"cannot be read as {kind[1:].upper()}: {reason}",
            f"check that it is whole and of that kind{also}",
        ) from error
