"""`Found`: what the paths of a command line mean as samples to predict, one by one and in order."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acclimate.core.errors import Problems
from acclimate.data.read import existing
from acclimate.data.readers.words import is_hidden, natural_key

STDIN = "-"


@dataclass(frozen=True)
class Unread:
    """Stands for a sample that cannot be read."""

    reason: str


@dataclass(frozen=True)
class Sample:
    """A sample to predict: the cells that tell a reader which it is, by column; what it holds, or `Unread`."""

    named: dict[str, str | None]
    content: Any


@dataclass(frozen=True)
class Found:
    """The samples of some paths; `columns` are the names of their cells."""

    columns: tuple[str, ...]
    samples: Iterator[Sample]


def check_paths(paths: Iterable[str]) -> None:
    """Raises `UserError` where none of the paths is there, and tells each; one of several becomes a row that says so."""
    paths = list(paths)
    problems = Problems()
    for path in paths:
        if glob.has_magic(path) and not Path(path).exists():
            if next(glob.iglob(path, recursive=True), None) is None:
                problems.add(path, "matches no file", "quote the pattern, and look at it with ls")
        elif path != STDIN:
            problems.attempt(existing, path)
    if len(problems.found) == len(paths):
        problems.stop()


def files_of(paths: Iterable[str]) -> Iterator[tuple[str, bool]]:
    """(file, whether it was found in a folder) of files, folders (searched, in natural order, hidden names left out) and globs.

    "-" and a path that is not there are given as they are.
    """
    for path in paths:
        if path != STDIN and Path(path).is_dir():
            yield from ((file, True) for file in _within(Path(path)))
        else:
            kept = path == STDIN or Path(path).exists()
            matched = [] if kept else sorted(glob.glob(path, recursive=True), key=natural_key)
            for one in matched or [path]:
                inside = one != STDIN and Path(one).is_dir()
                yield from ((file, True) for file in _within(Path(one))) if inside else [(one, False)]


def _within(folder: Path) -> Iterator[str]:
    """Of a folder only the names are held, which its order asks for."""
    for name in sorted(os.listdir(folder), key=natural_key):  # noqa: PTH208  (a million paths would be ten times the size)
        path = os.path.join(folder, name)  # noqa: PTH118
        if is_hidden(name):
            continue
        if Path(path).is_dir():
            yield from _within(Path(path))
        else:
            yield path


def files(paths: Sequence[str], listed: Iterable[bytes]) -> Found:
    """Each file is a sample; "-" takes names of files, one a line of `listed`."""

    def names() -> Iterator[str]:
        for path, _ in files_of(paths):
            if path == STDIN:
                yield from (os.fsdecode(line.rstrip(b"\r\n")) for line in listed if line.strip())
            else:
                yield path

    return Found(("path",), (Sample({"path": path}, path) for path in names()))
