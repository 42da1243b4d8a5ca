"""How entries become a file: CSV, JSON Lines, Parquet or a JSON list, streamed, and whole or not at all."""

from __future__ import annotations

import csv
import itertools
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

BATCH = 1024
"""Rows of one Parquet row group."""
Entries = Iterable[dict[str, Any]]
Columns = Mapping[str, type]


@contextmanager
def opened(out: str | None) -> Iterator[IO[bytes]]:
    """The file under a temporary name, renamed when it is whole; or stdout."""
    if out is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    temporary = Path(out).with_name(f".{Path(out).name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
        temporary.replace(out)
    except OSError as error:
        error.filename = out
        raise
    finally:
        temporary.unlink(missing_ok=True)


class _Rows:
    """Takes rows from a CSV writer. Its rows end in CR LF, so that it encloses fields that hold either; ours end in LF."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file

    def write(self, row: str) -> None:
        self.file.write(_encoded(row.removesuffix("\r\n") + "\n"))


def _encoded(text: str) -> bytes:
    """Names of files as the bytes that they are; what is no valid Unicode otherwise is replaced."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")


def _write_csv(entries: Entries, columns: Columns, file: IO[bytes]) -> None:
    writer = csv.DictWriter(_Rows(file), list(columns), extrasaction="ignore", lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(entries)


def _write_lines(entries: Entries, columns: Columns, file: IO[bytes]) -> None:
    for entry in entries:
        file.write(_encoded(json.dumps({name: entry.get(name) for name in columns}, ensure_ascii=False) + "\n"))


def _write_list(entries: Entries, columns: Columns, file: IO[bytes]) -> None:
    """Entries as they are, one a line."""
    file.write(b"[")
    for number, entry in enumerate(entries):
        file.write(_encoded(f"{',' if number else ''}\n{json.dumps(entry, ensure_ascii=False)}"))
    file.write(b"\n]\n")


def _write_parquet(entries: Entries, columns: Columns, file: IO[bytes]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from acclimate.data.readers.texts import valid

    source = iter(entries)
    schema = pa.schema([(name, pa.float64() if kind is float else pa.string()) for name, kind in columns.items()])
    with pq.ParquetWriter(file, schema) as writer:
        while batch := list(itertools.islice(source, BATCH)):
            rows = [{name: valid(entry.get(name)) for name in columns} for entry in batch]
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))


WRITERS: dict[str, Callable[[Entries, Columns, IO[bytes]], None]] = {
    ".csv": _write_csv,
    ".jsonl": _write_lines,
    ".parquet": _write_parquet,
    ".json": _write_list,
}
"""By the ending of the file."""
