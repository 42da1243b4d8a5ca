"""`Watcher`: who looks on while the engine works; the terminal is one, a test may be another."""

from __future__ import annotations

from typing import Any

import torch

from acclimate.core.run import Run
from acclimate.engine.phase import Outcome, Phase


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

    def plan(self, plan: Any) -> None:
        """What will be done, before the first step."""

    def phase(self, phase: Phase, steps: int) -> None:
        """A phase begins (`steps`: 0 where it is solved)."""

    def work(self, what: str, done: int, of: int) -> None:
        """Something other than training goes on."""

    def step(self, step: int, loss: torch.Tensor, rate: float) -> None:
        """A step was made."""

    def validated(self, epoch: int, value: float) -> None:
        """An epoch was judged on validation."""

    def outcome(self, outcome: Outcome) -> None:
        """A phase reached its end, now or before the run was interrupted."""
