"""`Reader`: one layout of data, as two functions; and what every reader is told about columns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from acclimate.core.errors import Problems
from acclimate.data.table import Table


@dataclass(frozen=True)
class Columns:
    """What the user said about columns; None = recognise it."""

    image: str | None = None
    label: str | None = None
    split: str | None = None
    group: str | None = None
    separator: str | None = None
    """Cuts one label column into several labels a sample."""
    labels: bool = True
    """False: labels are neither looked for nor kept."""

    def refuse(self, layout: str, *names: str) -> None:
        """Raises `UserError` for the named options that were given: the layout has no use for them."""
        problems = Problems()
        for name in names or [field.name for field in fields(self) if field.name != "labels"]:
            if getattr(self, name) is not None:
                problems.add(f"--{name} {getattr(self, name)}", f"has no effect on {layout}", "leave it out")
        problems.stop()


@dataclass(frozen=True)
class Reader:
    """`matches(source)` says whether the source has this layout; `read(source, columns)` gives its `Table`.

    A source is a `pathlib.Path` that exists, or an object in memory. The first reader that matches reads.
    """

    matches: Callable[[Any], bool]
    read: Callable[[Any, Columns], Table]
