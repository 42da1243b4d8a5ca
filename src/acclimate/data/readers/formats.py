"""Table files: suffix -> how it becomes an Arrow table."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
from pyarrow import csv, parquet
from pyarrow import json as json_lines

from acclimate.core.errors import fail
from acclimate.data.readers.words import suffix

BLOCK = 1 << 24
"""Bytes that are parsed at a time; a line must fit into it."""


def read_csv(path: Path, delimiter: str | None = None) -> pa.Table:
    """Every value as the text it is (a class "007" stays "007"); an empty cell is null.

    Unless given, the delimiter is the commonest of comma, semicolon and tab in the first line.
    """
    if delimiter is None:
        with path.open(encoding="utf-8-sig") as file:
            header = file.readline()
        delimiter = max(",;\t", key=header.count)
    parse = csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    options = csv.ReadOptions(block_size=BLOCK)
    names = csv.open_csv(path, read_options=options, parse_options=parse).schema.names
    convert = csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=True, null_values=[""]
    )
    return csv.read_csv(path, read_options=options, parse_options=parse, convert_options=convert)


def read_tsv(path: Path) -> pa.Table:
    return read_csv(path, "\t")


def read_json(path: Path) -> pa.Table:
    """One JSON object a line, or one array of objects."""
    with path.open(encoding="utf-8-sig") as file:
        if file.read(64).lstrip().startswith("["):
            file.seek(0)
            return pa.Table.from_pylist(json.load(file))
    return json_lines.read_json(path, read_options=json_lines.ReadOptions(block_size=BLOCK))


def read_parquet(path: Path) -> pa.Table:
    return parquet.ParquetFile(path).read()


FORMATS: dict[str, Callable[[Path], pa.Table]] = {
    ".csv": read_csv,
    ".tsv": read_tsv,
    ".jsonl": read_json,
    ".ndjson": read_json,
    ".json": read_json,
    ".parquet": read_parquet,
}


def load(path: Path) -> pa.Table:
    """The file as it is, column by column.

    Raises `UserError` for a file that cannot be read as what its suffix says.
    """
    kind = suffix(path.name)
    try:
        return FORMATS[kind](path)
    except UnicodeDecodeError as error:
        raise fail(str(path), "is not UTF-8 text", "save it with the encoding UTF-8") from error
    except (pa.ArrowException, json.JSONDecodeError, OSError) as error:
        reason = str(error).splitlines()[0]
        remedy = "save it with the encoding UTF-8" if "UTF8" in reason else "check that it is whole and of that kind"
        raise fail(str(path), f"cannot be read as {kind[1:].upper()}: {reason}", remedy) from error
