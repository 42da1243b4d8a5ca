"""`Watcher`: who looks on while the engine works; the terminal is one, a tracker another, `Watchers` are several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from acclimate.core.run import Run
from acclimate.engine.phase import Outcome, Phase


@dataclass(frozen=True)
class Mistake:
    """A sample worth showing, drawn: its title and a picture as the bytes of a PNG file, or a text."""

    title: str
    kind: Literal["picture", "text"]
    content: bytes | str


class Watcher:
    """Who looks on: every method may be overridden, none needs to be."""

    run: Run | None = None
    """The run, from when its folder can be gone on with."""

    def __enter__(self) -> Watcher:
        return self

    def __exit__(self, *reason: object) -> None:
        """Take away what was drawn."""

    def say(self, text: str) -> None:
        """A line worth reading."""

    def begun(self, run: Run) -> None:
        """The folder of the run is there, new or to be gone on with."""
        self.run = run

    def plan(self, plan: Any) -> None:
        """What will be done, before the first step."""

    def phase(self, phase: Phase, steps: int) -> None:
        """A phase begins (`steps`: 0 where it is solved)."""

    def work(self, what: str, done: int, of: int) -> None:
        """Something other than training goes on."""

    def step(self, step: int, loss: torch.Tensor, rate: float) -> None:
        """A step was made."""

    def validated(self, epoch: int, value: float, loss: float | None) -> None:
        """An epoch was judged on validation: the primary metric, and the mean loss of the samples (None: `Outcome.graded`)."""

    def outcome(self, outcome: Outcome) -> None:
        """A phase reached its end, now or before the run was interrupted."""

    def finished(self, run: Run, samples: Sequence[Mistake]) -> None:
        """The run is whole; `samples` of its mistakes, worst first."""


def _to_each(name: str) -> Any:
    def call(self: Watchers, *told: Any, **named: Any) -> None:
        for one in self.each:
            getattr(one, name)(*told, **named)

    return call


class Watchers(Watcher):
    """Several that look on, each told everything in this order; who made them enters and leaves them."""

    def __init__(self, *each: Watcher) -> None:
        self.each = each

    say, begun, plan, phase, work = map(_to_each, ("say", "begun", "plan", "phase", "work"))
    step, validated, outcome, finished = map(_to_each, ("step", "validated", "outcome", "finished"))
