"""What a person sees while a verb works: the plan as a table, one live line with the time left, and the figures at the end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from rich.console import Console, ConsoleOptions, RenderableType
from rich.constrain import Constrain
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

from acclimate.core.legible import legible
from acclimate.core.units import duration, size
from acclimate.engine.phase import HEAD, Outcome, Phase
from acclimate.engine.watcher import Watcher
from acclimate.verbs.judging import interval

EVERY = 0.5
"""Seconds between looks at the loss, which makes a device wait."""
SILENT = 30.0
"""Seconds without a line after which one says how far the work is, where there is no terminal to draw on."""
GAP = "  "
NARROWEST = 8
"""Columns that the names of stages keep where a terminal is too narrow for them."""


@dataclass(frozen=True)
class Narrower:
    """Leaves room for the ^C that a terminal echoes: a live line that this breaks could not be taken away."""

    inner: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        yield Constrain(self.inner, options.max_width - len("^C^C"))


class LiveLine(Progress):
    def get_renderable(self) -> RenderableType:
        return Narrower(super().get_renderable())


class Terminal(Watcher):
    """Draws on stderr; a context manager, so that the live line is taken away at the end."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False)
        rest = Column(no_wrap=True, overflow="ellipsis", ratio=1)
        self.progress = LiveLine(
            TextColumn("{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis")),
            BarColumn(bar_width=12),
            MofNCompleteColumn(table_column=Column(no_wrap=True)),
            TimeRemainingColumn(compact=True, table_column=Column(no_wrap=True)),
            TextColumn("{task.fields[note]}", table_column=rest),
            console=self.console,
            transient=True,
            expand=True,
            disable=not self.console.is_terminal,
        )
        self.line: TaskID | None = None
        self.what, self.of = "", 1
        self.judged = ""
        self.looked = 0.0
        self.told = time.monotonic()

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *reason: object) -> None:
        if self.line is not None:  # a live display that never began would leave an empty line
            self.progress.stop()

    def say(self, text: str) -> None:
        self.told = time.monotonic()
        self.console.print(legible(text), markup=False)

    def plan(self, plan: Any) -> None:
        print_plan(plan, self.console)

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

    def validated(self, epoch: int, value: float, loss: float | None) -> None:
        self.judged = f", val {value:.3f}"

    def outcome(self, outcome: Outcome) -> None:
        why = "learned from validation samples too" if outcome.learned_from_validation else "its head is fitted next"
        on = "on validation of the source" if outcome.adapted else "on validation"
        figure = f"{outcome.value:.3f} {on}" if outcome.judged or outcome.adapted else why
        self.say(f"{outcome.phase}: {figure}, {duration(outcome.seconds)}")

    def _begin(self, what: str, of: int) -> None:
        if self.line is None:
            self.progress.start()
        else:
            self.progress.remove_task(self.line)
        self.line, self.what, self.of = self.progress.add_task(what, total=of, note=""), what, of

    def _update(self, done: int, note: str) -> None:
        if self.line is not None:
            self.progress.update(self.line, completed=done, note=note)
        if not self.console.is_terminal and time.monotonic() - self.told > SILENT:
            self.say(f"{self.what}: {done} of {self.of}{note and f', {note}'}")


# --- the plan


def print_plan(plan: Any, console: Console | None = None) -> None:
    """The data, what was found in them, and what will train."""
    console = console or Console(highlight=False)
    console.print(Text.assemble((plan.job.card.name, "bold"), ", ", plan.title))
    for note in plan.notes:
        console.print(Padding(Text(legible(note)), (0, 0, 0, 2), expand=False))
    whole = f"{duration(sum(plan.seconds) + plan.trials)} in all by estimate"
    trials = f", {duration(plan.trials)} of it to judge phases out of fold" if plan.trials else ""
    console.print(Text(f"\nwhat will train if every phase gains, {whole}{trials}"))
    for line in plan_lines(plan, console.width):
        console.print(line)
    console.print()


def plan_lines(plan: Any, width: int) -> Iterator[RenderableType]:
    """A line of figures for each phase, as wide as the terminal at most, and below it the phase and why."""
    names = ("", "learns", "rate", "parameters", "epochs", "batch", "memory", "time")
    each = zip(plan.phases, plan.parameters, plan.memory, plan.seconds, strict=True)
    rows = [
        (
            str(number),
            span(phase.stages),
            rates(phase),
            f"{parameters:,}",
            str(phase.epochs or "-"),
            "all" if phase.solve else str(phase.batch_size),
            size(memory),
            duration(seconds),
        )
        for number, (phase, parameters, memory, seconds) in enumerate(each, 1)
    ]
    widths = [max(map(len, column)) for column in zip(names, *rows, strict=True)]
    room = width - (sum(widths) - widths[1]) - len(GAP) * (len(widths) - 1)
    widths[1] = max(NARROWEST, min(widths[1], room))
    yield Text(_line(names, widths), "dim")
    for row, phase in zip(rows, plan.phases, strict=True):
        yield Text(_line(row, widths))
        told = Text.assemble((phase.name, "bold"), (f"{how(phase)}, {reads(phase)}: {phase.why}", "dim"))
        yield Padding(told, (0, 0, 0, widths[0] + len(GAP)), expand=False)


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    number, learns, *rest = cells
    learns = learns if len(learns) <= widths[1] else learns[: widths[1] - 1] + "…"
    figures = [cell.rjust(width) for cell, width in zip(rest, widths[2:], strict=True)]
    return GAP.join([number.ljust(widths[0]), learns.ljust(widths[1]), *figures])


def span(stages: tuple[str, ...]) -> str:
    """The stages that learn, in a few words."""
    if len(stages) <= 2:
        return ", ".join(stages)
    return f"{stages[0]} … {HEAD}"


def rates(phase: Phase) -> str:
    if phase.solve:
        return "closed form"
    low, high = min(phase.lr), max(phase.lr)
    return f"{high:.2g}" if low == high else f"{low:.1g} … {high:.2g}"


def how(phase: Phase) -> str:
    """What is unusual about how its stages learn: ", lora of rank 8", ", objective fgm"."""
    told = [f"{phase.adapter} of rank {phase.rank}" if phase.adapter == "lora" else phase.adapter or ""]
    told.append(f"the {phase.only} of each layer alone" if phase.only else "")
    told.append(f"the last {phase.reinit} from fresh weights" if phase.reinit else "")
    told.append(f"objective {phase.objective}" if phase.objective != "supervised" else "")
    return "".join(f", {one}" for one in told if one)


def reads(phase: Phase) -> str:
    if phase.solve:
        return "on cached features"
    if phase.views:
        return f"on cached activations of {phase.views} view{'s' if phase.views > 1 else ''}"
    return f"on samples augmented afresh ({phase.augment})" if phase.augment != "none" else "on the samples as they are"


# --- the figures


SHOWN = 12
"""Classes, and values of what samples are cut by, that are shown."""


def _beside(result: dict[str, Any]) -> Iterator[str]:
    """What each baseline reaches, and by how much the model is better."""
    for found in result["baselines"]:
        for name, metric in found["metrics"].items():
            better = interval(found["better by"], sign=True)
            yield f"  {found['name']:18s} {metric['value']:.3f}  {name.replace('_', ' ')}; model minus baseline {better}"


def _corrected(result: dict[str, Any]) -> Iterator[str]:
    """What samples that chose, or that training holds too, make of the figures."""
    if found := result.get("selection"):
        yield f"  validation chose among {found['tried']} outcomes; corrected for that {interval(found['corrected'])}, by {found['by']}"
    if found := result.get("leaks"):
        rest = "; without them:" if "metrics" in found else ""
        yield f"  {found['count']:,} of these samples are, or nearly are, among those it learned from{rest}"
        for name, metric in found.get("metrics", {}).items():
            yield _figure(name, metric)


def _slices(result: dict[str, Any]) -> Iterator[str]:
    for name, parts in result["slices"].items():
        for told, metrics in list(parts.items())[:SHOWN]:
            for of, metric in metrics.items():
                yield f"  {f'{name} {told}':30s} {interval(metric)}  n={metric['n']:,}, {of.replace('_', ' ')}"


def _by_class(result: dict[str, Any]) -> Iterator[str]:
    """The classes with the lowest first figure."""
    found = result.get("by class", {})
    if not found:
        return
    first = next(iter(next(iter(found.values()), {})), "")
    known = {name: figures[first] for name, figures in found.items() if first in figures}
    if not known:
        return
    worst = sorted(known, key=lambda name: known[name]["value"])[:SHOWN]
    some = "" if len(worst) == len(found) else f" ({len(worst)} of {len(found):,})"
    yield f"  {first.replace('_', ' ')} by class, the lowest first{some}"
    for name in worst:
        yield f"  {name:30.30s} {interval(known[name])}  n={known[name]['n']:,}"


def _calibrated(result: dict[str, Any]) -> Iterator[str]:
    found = result.get("calibration", {})
    if (heat := found.get("temperature", 1.0)) != 1.0:
        each = ", ".join(f"{when} {interval(found[when]['ece'])}" for when in ("before", "after"))
        moved = f" and offset {found['offset']:+.2f}" if found.get("offset") else ""
        yield f"  temperature {heat:.2f}{moved}, fitted on validation; calibration error {each}"


def _figure(name: str, metric: dict[str, Any], n: int | None = None) -> str:
    more = f"  n={metric['n']:,}" if n is not None and metric["n"] != n else ""
    return f"  {name.replace('_', ' '):18s} {metric['value']:.3f}  [{metric['low']:.3f}, {metric['high']:.3f}]{more}"


def _of_target(result: dict[str, Any]) -> list[str]:
    """What these figures do not say of the target, and what labels of it do."""
    target = result.get("target")
    if target is None:
        return []
    done = "adapted to" if target["adapted"] else "not adapted to"
    lines = [
        f"the model is {done} {target['data']}; these figures are of the source, and do not say how good it is there"
    ]
    for name, share in target.get("right", {}).items():
        lines.append(f"  {name:18s} {share['right']} of {share['of']} labels of the target right")
    return lines


def print_metrics(result: dict[str, Any], console: Console | None = None) -> None:
    """The figures, with where the run is, on stdout unless said."""
    console = console or Console(highlight=False, soft_wrap=True)
    lacking = " (no test data were given)" if "seconds" in result else ""
    names = {"test": "the test data", "val": f"validation data{lacking}", "all": "all samples"}
    n = next(iter(result["metrics"].values()), {"n": 0})["n"]
    on = names.get(result["split"], f"{result['split']} data")
    for line in (
        result["verdict"],
        f"on {on}, {n:,} samples, with 95 % intervals",
        *_of_target(result),
        *(_figure(name, metric, n) for name, metric in result["metrics"].items()),
        *_calibrated(result),
        *_beside(result),
        *_corrected(result),
        *_slices(result),
        *_by_class(result),
    ):
        console.print(legible(line), markup=False)
    for name, kind in result.get("errors", {}).items():
        told = (
            f"{of} {one:+.3f} were they put right" if isinstance(one, float) else f"{one} {of}"
            for of, one in kind.items()
        )
        console.print(f"  {name:18s} {', '.join(told)}", markup=False)
    for name, value in result.get("settled", {}).items():
        if name in result.get("calibration", {}):  # it was told there
            continue
        each = value.values() if isinstance(value, dict) else [value]
        ends = dict.fromkeys(f"{end:.3g}" for end in (min(each), max(each)))
        console.print(f"  {name} {' to '.join(ends)}, chosen on validation", markup=False)
    if "seconds" in result:
        console.print(f"run {result['run']}: {result['chosen']}, {duration(result['seconds'])}", markup=False)
