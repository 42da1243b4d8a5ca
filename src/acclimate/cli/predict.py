"""acclimate predict: samples in, rows out, in the same order, as CSV, JSON Lines or Parquet."""

from __future__ import annotations

import csv
import io
import json
import os
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import click

from acclimate.core.errors import Problems, fail, near

FORMATS = (".csv", ".jsonl", ".parquet")
BATCH = 1024
"""Rows of one Parquet row group."""


@click.command()
@click.argument("run")
@click.argument("paths", nargs=-1, required=True)
@click.option("--out", metavar="FILE", help="where to write: .csv, .jsonl or .parquet [default: CSV on stdout]")
@click.option("--probabilities", is_flag=True, help="a column for each class besides")
@click.option("--device", default="auto", help="where to run: auto, cpu, cuda or mps")
@click.option("--json", "as_json", is_flag=True, help="JSON Lines on stdout")
def predict(run: str, paths: tuple[str, ...], out: str | None, probabilities: bool, device: str, as_json: bool) -> int:
    """Predict with RUN for PATHS: files, folders, globs, or - for a list of files on stdin.

    A file that cannot be read becomes a row with its reason in the column `error`.
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
    from acclimate.verbs.predict import find_samples, load, rows

    problems = Problems()
    samples = find_samples(paths, sys.stdin)
    first = problems.attempt(_first, samples, paths)
    model = problems.attempt(load, run, device)
    problems.stop()
    assert first is not None
    assert model is not None
    count = Counter[bool]()
    answered = _counted(rows(model, _chain(first, samples)), count)
    shaped = (_flat(row, model.saved.task.columns, probabilities) for row in answered)
    with _opened(out) as file:
        WRITERS[ending](shaped, file)
    if count[True]:
        click.echo(f"{count[True]:,} of {count.total():,} samples could not be read: see the column error", err=True)
    return 0


def _first(samples: Iterator[str], paths: tuple[str, ...]) -> str:
    found = next(samples, None)
    if found is None:
        raise fail(" ".join(paths), "holds no files", "name files, folders or patterns that match some")
    return found


def _counted(rows: Iterator[dict[str, Any]], count: Counter[bool]) -> Iterator[dict[str, Any]]:
    """The rows; `count` tells those with an error (True) and the others as they pass."""
    for row in rows:
        count["error" in row] += 1
        yield row


def _chain(first: str, rest: Iterator[str]) -> Iterator[str]:
    yield first
    yield from rest


def _flat(row: dict[str, Any], columns: tuple[str, ...], probabilities: bool) -> dict[str, Any]:
    """One row with every column, whatever became of the sample."""
    flat = {"path": row["path"], **{name: row.get(name) for name in columns}, "error": row.get("error")}
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
    return plain | {f"p:{name}": (given or {}).get(name) for name in names}


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


def _write_csv(rows: Iterable[dict[str, Any]], file: IO[bytes]) -> None:
    text = io.TextIOWrapper(file, encoding="utf-8", errors="surrogateescape", newline="", write_through=True)
    writer = None
    for row in _tabular(rows):
        if writer is None:
            writer = csv.DictWriter(text, fieldnames=list(row), lineterminator="\n")
            writer.writeheader()
        writer.writerow(row)
    text.detach()


def _write_json(rows: Iterable[dict[str, Any]], file: IO[bytes]) -> None:
    for row in rows:
        file.write((json.dumps(row, ensure_ascii=False) + "\n").encode("utf-8", "surrogateescape"))


def _write_parquet(rows: Iterable[dict[str, Any]], file: IO[bytes]) -> None:
    import itertools

    import pyarrow as pa
    import pyarrow.parquet as pq

    source = _tabular(rows)
    writer = None
    while batch := list(itertools.islice(source, BATCH)):
        if writer is None:
            kinds = {"path": pa.string(), "label": pa.string(), "labels": pa.string(), "error": pa.string()}
            writer = pq.ParquetWriter(file, pa.schema([(name, kinds.get(name, pa.float64())) for name in batch[0]]))
        writer.write_table(pa.Table.from_pylist(batch, schema=writer.schema))
    if writer is not None:
        writer.close()


WRITERS: dict[str, Callable[[Iterable[dict[str, Any]], IO[bytes]], None]] = {
    ".csv": _write_csv,
    ".jsonl": _write_json,
    ".parquet": _write_parquet,
}
