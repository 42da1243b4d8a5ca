"""acclimate predict: samples in, rows out, in the same order, as CSV, JSON Lines or Parquet."""

from __future__ import annotations

import csv
import json
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import click

from acclimate.cli.fit import option
from acclimate.core.errors import Problems, fail, near
from acclimate.core.recipe import choices

FORMATS = (".csv", ".jsonl", ".parquet")
BATCH = 1024
"""Rows of one Parquet row group."""
PROBABILITY = "p:"
"""How the columns of probabilities begin."""


@click.command()
@click.argument("run")
@click.argument("paths", nargs=-1, required=True)
@click.option("--out", metavar="FILE", help="where to write: .csv, .jsonl or .parquet [default: CSV on stdout]")
@click.option("--probabilities", is_flag=True, help="a column for each class besides")
@option("text")
@option("quoting")
@option("encoding")
@click.option("--device", default="auto", help="where to run: auto, cpu, cuda or mps")
@click.option("--json", "as_json", is_flag=True, help="JSON Lines on stdout")
def predict(
    run: str,
    paths: tuple[str, ...],
    out: str | None,
    probabilities: bool,
    text: tuple[str, ...] | None,
    quoting: str | None,
    encoding: str | None,
    device: str,
    as_json: bool,
) -> int:
    """Predict with RUN for PATHS: files, folders, globs, or - for stdin.

    Pictures are files, and stdin names one a line. Texts are the lines of text files and of stdin (of a pair the two with a tab
    between), the rows of tables, and each .txt file in a folder. What cannot be read becomes a row with its reason in the column
    `error`; where no sample at all could be read the exit code is 1.
    """
    ending = Path(out).suffix if out else ".jsonl" if as_json else ".csv"
    if ending not in FORMATS:
        raise fail(f"--out {out!r}", "has no ending that says its format", near(ending, FORMATS))
    if out and as_json:
        raise fail("--json with --out", "exclude each other", "leave one out: the ending of --out says the format")
    if out and not Path(out).absolute().parent.is_dir():
        raise fail(
            f"--out {out!r}", "is in a folder that is not there", f"mkdir -p {shlex.quote(str(Path(out).parent))}"
        )
    if out and Path(out).is_dir():
        raise fail(f"--out {out!r}", "is a folder", "name a file in it")
    if out and Path(out).exists() and not Path(out).is_file():
        raise fail(f"--out {out!r}", "is no regular file", "name another, or write to stdout")
    from acclimate.data.found import check_paths
    from acclimate.data.readers.encoding import check
    from acclimate.data.readers.reader import Columns
    from acclimate.verbs.predict import load, rows, samples_of

    problems = Problems()
    problems.attempt(check, encoding)
    problems.attempt(_known, quoting)
    problems.attempt(check_paths, paths)
    model = problems.attempt(load, run, device)
    problems.stop()
    assert model is not None
    columns = Columns(text=text or None, quoting=quoting, encoding=encoding, labels=False)
    found = samples_of(model, paths, sys.stdin.buffer, columns)
    tally = Tally()
    answered = tally.over(rows(model, found.samples))
    shaped = (_flat(row, (*found.columns, *model.saved.task.columns), probabilities) for row in answered)
    with _opened(out) as file:
        WRITERS[ending](shaped, file)
    if tally.failed:
        told = f"{tally.failed:,} of {tally.seen:,} samples could not be read: see the column error"
        click.echo(f"{told} (the first: {tally.first})", err=True)
    return int(tally.failed == tally.seen)


def _known(quoting: str | None) -> None:
    if quoting is not None and quoting not in choices("quoting"):
        raise fail(f"--quoting {quoting!r}", "is not one of its values", near(quoting, choices("quoting")))


@dataclass
class Tally:
    """How many rows have passed, how many of them with an error, and the first of these."""

    seen: int = 0
    failed: int = 0
    first: str = ""

    def over(self, rows: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """The rows, counted as they pass."""
        for row in rows:
            self.seen += 1
            self.failed += "error" in row
            self.first = self.first or row.get("error", "")
            yield row


def _flat(row: dict[str, Any], columns: tuple[str, ...], probabilities: bool) -> dict[str, Any]:
    """One row with every column, whatever became of the sample."""
    flat = {**{name: row.get(name) for name in columns}, "error": row.get("error")}
    if probabilities:
        flat["probabilities"] = row.get("probabilities")
    return flat


@contextmanager
def _opened(out: str | None) -> Iterator[IO[bytes]]:
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


def _spread(row: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """Lists as text and probabilities as columns, for tables of plain values."""
    given = row.pop("probabilities", None)
    plain = {key: "|".join(value) if isinstance(value, list) else value for key, value in row.items()}
    return plain | {f"{PROBABILITY}{name}": (given or {}).get(name) for name in names}


def _tabular(rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Rows with the same columns throughout: rows before the first good one wait for it to name the classes."""
    waiting: list[dict[str, Any]] = []
    names: list[str] | None = None
    for row in rows:
        if names is None and "probabilities" in row and row["probabilities"] is None:
            waiting.append(row)
            continue
        names = list(row.get("probabilities") or {}) if names is None else names
        yield from (_spread(each, names) for each in [*waiting, row])
        waiting = []
    yield from (_spread(each, names or []) for each in waiting)


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


def _write_csv(rows: Iterable[dict[str, Any]], file: IO[bytes]) -> None:
    writer = None
    for row in _tabular(rows):
        if writer is None:
            writer = csv.DictWriter(_Rows(file), fieldnames=list(row), lineterminator="\r\n")
            writer.writeheader()
        writer.writerow(row)


def _write_json(rows: Iterable[dict[str, Any]], file: IO[bytes]) -> None:
    for row in rows:
        file.write(_encoded(json.dumps(row, ensure_ascii=False) + "\n"))


def _write_parquet(rows: Iterable[dict[str, Any]], file: IO[bytes]) -> None:
    import itertools

    import pyarrow as pa
    import pyarrow.parquet as pq

    from acclimate.data.readers.texts import valid

    source = _tabular(rows)
    writer = None
    while batch := list(itertools.islice(source, BATCH)):
        if writer is None:
            kinds = [(name, pa.float64() if _is_number(name) else pa.string()) for name in batch[0]]
            writer = pq.ParquetWriter(file, pa.schema(kinds))
        rows = [{name: valid(value) for name, value in row.items()} for row in batch]
        writer.write_table(pa.Table.from_pylist(rows, schema=writer.schema))
    if writer is not None:
        writer.close()


def _is_number(name: str) -> bool:
    return name == "confidence" or name.startswith(PROBABILITY)


WRITERS: dict[str, Callable[[Iterable[dict[str, Any]], IO[bytes]], None]] = {
    ".csv": _write_csv,
    ".jsonl": _write_json,
    ".parquet": _write_parquet,
}
