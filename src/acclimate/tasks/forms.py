"""`Form` and `Piece`: how rows of answers are written, to one file or as a file for each sample; `Asked`, what was asked of that.

A row is {the cells that name the sample, `Task.details`, `Task.answer`}, or these names and {"error": why it cannot be read}.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from acclimate.core.errors import UserError, fail

Row = dict[str, Any]


@dataclass(frozen=True)
class Asked:
    """What `predict` can be asked about the files it writes, beside their names."""

    probabilities: bool = False
    """That of every class besides."""
    coco: str | None = None
    """A COCO annotation file, whose ids are to be used."""


@dataclass(frozen=True)
class Form:
    """How rows become the entries of one file: the rows of a table, lines of JSON, or the elements of a JSON list."""

    columns: Mapping[str, type]
    """The cells of an entry behind those that name its sample, and their kind; those that an entry lacks stay empty."""
    entries: Callable[[Iterable[Row]], Iterable[Row]]
    """All rows, in order -> their entries, one by one."""
    note: Callable[[], str] = str
    """What is to be said when all is written; nothing in most cases."""


@dataclass(frozen=True)
class Piece:
    """A file for each sample that could be read, in a folder."""

    ending: str
    made: Callable[[Row], bytes]
    """Row -> the content of its file. Raises OSError, ValueError where the sample has gone since it was read."""
    beside: Mapping[str, bytes] = field(default_factory=dict)
    """Files that lie in the folder once, by name."""


def no_effect(option: str, what: str) -> UserError:
    """To be raised for an option that is nothing to a task: "--threshold 0.3: has no effect on text_classification"."""
    return fail(f"--{option}", f"has no effect on {what}", "leave it out")
