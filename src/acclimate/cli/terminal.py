"""What a person sees while a verb works: the plan as a table, one live line with the time left, and the figures at the end."""

from __future__ import annotations

import time
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from acclimate.engine.phase import HEAD, Phase
from acclimate.engine.trainer import Watcher

EVERY = 0.5
"""Seconds between looks at the loss, which makes a device wait."""


class Terminal(Watcher):
    """Draws on stderr; a context manager, so that the live line is taken away at the end."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False)
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[note]}"),
            console=self.console,
            transient=True,
        )
        self.line: TaskID | None = None
        self.what = ""
        self.judged = ""
        self.looked = 0.0

    def __enter__(self) -> Terminal:
        self.progress.start()
        return self

    def __exit__(self, *reason: object) -> None:
        self.progress.stop()

    def say(self, text: str) -> None:
        self.console.print(text, markup=False)

    def plan(self, plan: Any) -> None:
        self.console.print(f"[bold]{plan.job.card.name}[/bold]", plan.title, sep="  ")
        for note in plan.notes:
            self.console.print(f"  {note}", markup=False)
        self.console.print(plan_table(plan))

    def phase(self, phase: Phase, steps: int) -> None:
        self.judged = ""
        self._begin(phase.name, steps or 1)

    def work(self, what: str, done: int, of: int) -> None:
        if self.what != what:
            self._begin(what, of)
        self._update(done, "")

    def step(self, step: int, loss: torch.Tensor, rate: float) -> None:
        if time.monotonic() - self.looked > EVERY:
            self.looked = time.monotonic()
            self._update(step, f"loss {float(loss):.3f}{self.judged}")

    def validated(self, epoch: int, value: float) -> None:
        self.judged = f"  validation {value:.3f} after epoch {epoch}"

    def _begin(self, what: str, of: int) -> None:
        if self.line is not None:
            self.progress.remove_task(self.line)
        self.line, self.what = self.progress.add_task(what, total=of, note=""), what

    def _update(self, done: int, note: str) -> None:
        if self.line is not None:
            self.progress.update(self.line, completed=done, note=note)


def plan_table(plan: Any) -> Table:
    """What will train: one row a phase."""
    table = Table(title="what will train, if each phase gains", title_justify="left", box=None, pad_edge=False)
    for name in ("phase", "learns", "rates", "parameters", "reads", "epochs", "batch", "memory", "time", "why"):
        table.add_column(
            name, overflow="fold", justify="right" if name in ("parameters", "epochs", "batch") else "left"
        )
    for phase, seconds, memory, parameters in zip(plan.phases, plan.seconds, plan.memory, plan.parameters, strict=True):
        table.add_row(
            phase.name,
            span(phase.stages),
            rates(phase),
            f"{parameters:,}",
            reads(phase),
            str(phase.epochs or "-"),
            "all" if phase.solve else str(phase.batch_size),
            f"{memory / 1e6:.0f} MB",
            f"{seconds:.0f} s",
            phase.why,
        )
    return table


def span(stages: tuple[str, ...]) -> str:
    """The stages that learn, in a few words."""
    if len(stages) <= 3:
        return ", ".join(stages)
    return f"{stages[0]} to {stages[-2]}, {HEAD}"


def rates(phase: Phase) -> str:
    if phase.solve:
        return "closed form"
    low, high = min(phase.lr), max(phase.lr)
    return f"{high:.2g}" if low == high else f"{low:.1g} to {high:.2g}"


def reads(phase: Phase) -> str:
    if phase.solve:
        return "cached features"
    if phase.views:
        return f"cached activations, {phase.views} view{'s' if phase.views > 1 else ''}"
    return f"samples, augmented: {phase.augment}"


def print_metrics(result: dict[str, Any]) -> None:
    """The figures, with where the run is, on stdout."""
    console = Console(highlight=False, soft_wrap=True)
    names = {"test": "test", "val": "validation (no test data were given)"}
    for name, metric in result["metrics"].items():
        interval = f"[{metric['low']:.3f}, {metric['high']:.3f}]"
        console.print(f"{name:18s} {metric['value']:.3f}  95 % {interval}  n={metric['n']}", markup=False)
    console.print(f"on {names.get(result['split'], result['split'])}", markup=False)
    if "seconds" in result:
        console.print(f"run {result['run']}  ({result['chosen']}, {result['seconds']:.0f} s)", markup=False)
