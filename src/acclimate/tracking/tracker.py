"""`Tracker`: turns what goes on in a fit into points of curves, settings and figures, for the book of one of `TRACKERS`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from acclimate.core.errors import Problems, fail
from acclimate.core.run import Run, write_whole
from acclimate.engine.phase import CURVE, Outcome
from acclimate.engine.trainer import Stopped
from acclimate.engine.watcher import Mistake, Watcher, Watchers
from acclimate.tracking import TRACKERS
from acclimate.tracking.book import Book, Ended
from acclimate.tracking.flat import figures, settings

FOLDER = "track"
"""Of the run, where trackers keep what they need to go on, and some of them all."""
EVERY = 1.0
"""Seconds between looks at the losses, which make a device wait."""
MOST = 20
"""Points of one look: where more steps were made they are spread evenly, the last among them."""


class Tracker(Watcher):
    """Looks on for a `Book`. A run that is gone on with continues its curves: `track/NAME.json` tells how far each one is, and since a
    resume makes the very same steps again, those are left out."""

    def __init__(self, book: Book, say: Callable[[str], None]) -> None:
        """`say`: what tells people a line (`Watcher.say`)."""
        self.book, self.aloud = book, say
        self.primary = "primary"
        self.before, self.now, self.phases = 0, 0, 0
        self.pending: list[tuple[int, torch.Tensor, float]] = []
        self.looked = time.monotonic()
        self.held: dict[str, int] = {}
        self.known: str | None = None
        self.ended: Ended = "failed"
        self.lost = False

    @property
    def file(self) -> str:
        return f"{FOLDER}/{self.book.name}.json"

    def begun(self, run: Run) -> None:
        """Raises `UserError` where the tracker cannot be begun."""
        super().begun(run)
        if run.file(self.file).exists():
            told = run.read_json(self.file)
            self.known, self.held = told["known"], told["held"]
        try:
            self.known = self.book.open(run, run.file(FOLDER), self.known, settings(run))
        except Exception as error:
            raise fail(
                f"--track {self.book.name}", f"cannot be begun: {_said(error)}", "mend it, or leave it out"
            ) from error
        self.aloud(f"{self.book.name}: {self.book.where}")

    def plan(self, plan: Any) -> None:
        self.primary = plan.job.task.primary

    def step(self, step: int, loss: torch.Tensor, rate: float) -> None:
        self.now = self.before + step
        self.pending.append((self.now, loss, rate))
        if time.monotonic() - self.looked > EVERY:
            self._look()
            self._keep()

    def validated(self, epoch: int, value: float, loss: float | None) -> None:
        self._look()
        self._judged(self.now, epoch, value, loss)
        self._keep()

    def _judged(self, step: int, epoch: int, value: float, loss: float | None) -> None:
        told = {f"validation/{self.primary}": value, "epoch": epoch}
        self._points("step", step, told if loss is None else {**told, "validation/loss": loss})

    def outcome(self, outcome: Outcome) -> None:
        self._look()
        curve = outcome.notes.get(CURVE, ())  # of what the cache remembered: its steps were another run's
        for point in curve:
            self._points("step", self.before + point["step"], {"train/loss": point["loss"]})
            if "value" in point:
                self._judged(self.before + point["step"], point["epoch"], point["value"], point.get("val_loss"))
        if curve or not outcome.notes.get("remembered"):
            self.before += outcome.notes.get("steps", 0)
        values = {self.primary: outcome.value, "seconds": outcome.seconds}
        if outcome.graded:
            values["loss"] = float(outcome.losses.mean())
        self._points("phase", self.phases, {f"phase/{name}": value for name, value in values.items()})
        self.phases += 1
        self._keep()

    def finished(self, run: Run, samples: Sequence[Mistake]) -> None:
        self._tell(self.book.result, run, settings(run), figures(run), samples)
        self.ended = "finished"

    def __exit__(self, *reason: object) -> None:
        if self.known is None:
            return
        if isinstance(reason[1], Stopped | KeyboardInterrupt):
            self.ended = "stopped"
        self._look()
        self._keep()
        self._tell(self.book.close, self.ended)

    def _look(self) -> None:
        """Read the losses of the steps since the last look, all at once."""
        pending, self.pending = self.pending, []
        self.looked = time.monotonic()
        if not pending:
            return
        picked = pending[:: len(pending) // -MOST][::-1]
        losses = torch.stack([loss.detach() for _, loss, _ in picked]).tolist()
        for (step, _, rate), loss in zip(picked, losses, strict=True):
            self._points("step", step, {"train/loss": loss, "train/learning rate": rate})

    def _points(self, axis: str, place: int, values: Mapping[str, float]) -> None:
        new = {name: value for name, value in values.items() if place > self.held.get(name, -1)}
        if new:
            self._tell(self.book.points, axis, place, new)
            self.held |= dict.fromkeys(new, place)

    def _tell(self, what: Callable[..., None], *values: Any) -> None:
        """Once the run has begun a tracker that fails must not end it: that is said, and the tracker told nothing more."""
        if self.lost:
            return
        try:
            what(*values)
        except Exception as error:
            self.lost = True
            self.aloud(f"--track {self.book.name} failed, and the run goes on without it: {_said(error)}")

    def _keep(self) -> None:
        """Write down how far the curves are, once they are there."""
        assert self.run is not None
        self._tell(self.book.flush)
        if self.lost:
            return
        told = json.dumps({"known": self.known, "held": self.held})
        write_whole(self.run.file(self.file), told, durable=False)


def _said(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def books(names: str | Sequence[str], problems: Problems) -> list[Book]:
    """A book of each tracker named; unknown names and packages that are not installed are added to the problems."""
    each = dict.fromkeys([names] if isinstance(names, str) else names)
    return [book for name in each if (book := problems.attempt(_book, name)) is not None]


def _book(name: str) -> Book:
    book: Book = TRACKERS[name]()
    return book


@contextmanager
def followed(watcher: Watcher, books: Sequence[Book]) -> Iterator[Watcher]:
    """The watcher, with a tracker beside it for each book while this lasts."""
    with ExitStack() as stack:
        trackers = [stack.enter_context(Tracker(book, watcher.say)) for book in books]
        yield Watchers(watcher, *trackers) if trackers else watcher
