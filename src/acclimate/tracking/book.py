"""`Book`: what a tracker writes to; the classes of `TRACKERS` are such."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, Protocol

from acclimate.core.run import Run
from acclimate.engine.watcher import Mistake
from acclimate.tracking.flat import Value

Ended = Literal["finished", "stopped", "failed"]
"""How the work of a process on a run ended: the run is whole, it was asked to stop, or there was an error."""


class Book(Protocol):
    """Where a tracker writes; one made anew for each run. To be made raises `MissingExtra` where its package is not installed."""

    name: str
    """Its own, in `TRACKERS`."""
    where: str
    """Once open: how a person gets to see it, in one line."""

    def open(self, run: Run, folder: Path, known: str | None, settings: Mapping[str, Value]) -> str:
        """Begin, or go on with what was `known` by the name that this returned. `folder`: where files of its own may lie."""
        ...

    def points(self, axis: str, place: int, values: Mapping[str, float]) -> None:
        """Values of curves at a place of an axis, "step" or "phase"; at no place of an axis is a value told twice."""
        ...

    def flush(self) -> None:
        """What was told so far is kept should the process be killed."""
        ...

    def result(
        self, run: Run, settings: Mapping[str, Value], figures: Mapping[str, float], samples: Sequence[Mistake]
    ) -> None:
        """How the run ended."""
        ...

    def close(self, ended: Ended) -> None:
        """No more is to come from this process."""
        ...
