"""`Notebook`: what a notebook shows while a verb works, in a cell's own output: lines worth reading, and how far the work is."""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable
from html import escape
from typing import Any, ParamSpec, TypeVar

import torch

from acclimate.engine.phase import Outcome, Phase
from acclimate.engine.watcher import Watcher

P = ParamSpec("P")
T = TypeVar("T")

EVERY = 0.5
"""Seconds between drawings, each of which looks at the loss, which makes a device wait."""


class Notebook(Watcher):
    """Draws one line that is taken away at the end."""

    def __init__(self) -> None:
        self.what, self.of, self.judged = "", 1, ""
        self.drawn = 0.0
        self.line: Any = None

    def __enter__(self) -> Notebook:
        from IPython.display import display

        self.line = display(_html(""), display_id=True)
        return self

    def __exit__(self, *reason: object) -> None:
        self.line.update(_html(""))

    def say(self, text: str) -> None:
        print(text)

    def plan(self, plan: Any) -> None:
        self.say(f"{plan.job.card.name}, {plan.title}")
        for note in plan.notes:
            self.say(f"  {note}")
        seconds = sum(plan.seconds) + plan.trials
        phases = ", ".join(phase.name for phase in plan.phases)
        self.say(f"what will train if every phase gains, {seconds:.0f} s in all by estimate: {phases}")

    def phase(self, phase: Phase, steps: int) -> None:
        self.what, self.of, self.judged = phase.name, steps or 1, ""
        self._draw(0)

    def work(self, what: str, done: int, of: int) -> None:
        if what != self.what or self._due():
            self.what, self.of = what, of
            self._draw(done)

    def step(self, step: int, loss: torch.Tensor, rate: float) -> None:
        if self._due():
            self._draw(step, f"loss {float(loss):.3f}{self.judged}")

    def validated(self, epoch: int, value: float, loss: float | None) -> None:
        self.judged = f", val {value:.3f}"

    def outcome(self, outcome: Outcome) -> None:
        figure = f"{outcome.value:.3f} on validation, " if outcome.judged else ""
        self.say(f"{outcome.phase}: {figure}{outcome.seconds:.1f} s")

    def _due(self) -> bool:
        return time.monotonic() - self.drawn > EVERY

    def _draw(self, done: int, note: str = "") -> None:
        self.drawn = time.monotonic()
        bar = f'<progress value="{done}" max="{self.of}" aria-label="{escape(self.what)}"></progress>'
        self.line.update(_html(f"<div>{bar} {escape(self.what)}: {done:,} of {self.of:,} {escape(note)}</div>"))


def _html(text: str) -> Any:
    from IPython.display import HTML

    return HTML(text)


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook, which is what shows HTML."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return getattr(shell, "kernel", None) is not None


def watched(verb: Callable[P, T]) -> Callable[P, T]:
    """The verb; called in a notebook without a `watcher`, it has a `Notebook` look on."""

    @functools.wraps(verb)
    def call(*given: P.args, **asked: P.kwargs) -> T:
        if asked.get("watcher") is not None or not in_notebook():
            return verb(*given, **asked)
        with Notebook() as watcher:
            asked["watcher"] = watcher
            return verb(*given, **asked)

    return call
