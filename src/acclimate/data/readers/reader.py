"""`Reader`: one layout of data, as two functions; and what every reader is told about columns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

from acclimate.core.errors import Problems
from acclimate.core.recipe import spoken
from acclimate.data.table import Table


@dataclass(frozen=True)
class Columns:
    """What the user said about columns; None = recognise it."""

    image: str | None = None
    text: tuple[str, ...] | None = None
    """One column of texts, or two that make a pair."""
    label: str | None = None
    split: str | None = None
    group: str | None = None
    separator: str | None = None
    """Cuts one label column into several labels a sample."""
    quoting: str | None = None
    """Whether quotation marks enclose the fields of a table of text: "double", "none", or "auto" (None), which looks."""
    encoding: str | None = None
    """How files of text are encoded; None = UTF-8."""
    labels: bool = True
    """False: labels are neither looked for nor kept."""
    boxes: bool | None = None
    """Whether a table holds boxes; None = it is seen."""

    def refuse(self, layout: str, *names: str) -> None:
        """Raises `UserError` for the named options that were given: the layout has no use for them."""
        problems = Problems()
        for name in names or [one.name for one in fields(self) if one.name not in ("labels", "boxes")]:
            if (value := getattr(self, name)) is not None:
                problems.add(spoken(name, value), f"has no effect on {layout}", "leave it out", name)
        problems.stop()


LISTED = 20


@dataclass
class Passed:
    """What a reader passed over: what it is -> (how many, the names of the first 20)."""

    named: dict[str, tuple[int, list[str]]] = field(default_factory=dict)

    def add(self, what: str, *names: str) -> None:
        if names:
            count, first = self.named.get(what, (0, []))
            self.named[what] = count + len(names), [*first, *names][:LISTED]


@dataclass(frozen=True)
class Reader:
    """`matches(source)` says whether the source has this layout; `read(source, columns)` gives its `Table`.

    A source is a `pathlib.Path` that exists, or an object in memory. The first reader that matches reads.
    """

    matches: Callable[[Any], bool]
    read: Callable[[Any, Columns], Table]
    explains: bool = False
    """Whether `read` says of any path what is lacking for this layout, so that it can be asked for by name."""
