"""fit: from data and a pretrained model to a run folder with a model, its figures and how it came to be."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import acclimate
from acclimate.core.device import give_back_memory
from acclimate.core.errors import Problems
from acclimate.core.recipe import Options, Recipe
from acclimate.core.run import Run
from acclimate.data.table import Table
from acclimate.engine import estimate
from acclimate.engine.adapters import attached
from acclimate.engine.optim import trained_parameters
from acclimate.engine.phase import Outcome, Phase
from acclimate.engine.precision import Precision
from acclimate.engine.saved import known_to
from acclimate.engine.trainer import Stopping
from acclimate.engine.watcher import Watcher
from acclimate.strategies.strategy import better, compared
from acclimate.tracking.notebook import watched
from acclimate.tracking.tracker import books, followed
from acclimate.verbs import folder, harmonise, history
from acclimate.verbs.chosen import DECISION, settle
from acclimate.verbs.finish import Ended, finish, judged_split, left_aside, look_aside
from acclimate.verbs.job import VIEW_SHARE, Job, look, prepare, preview
from acclimate.verbs.target import OF_DATA

OVERHEAD = 8.0
"""Seconds a budget sets aside for starting, saving and loading back, figures and the page."""
DRAWN = 500
"""Forward passes that the samples of the page take."""


@dataclass(frozen=True)
class Plan:
    """What a fit will do, before its first step: the phases if each of them gains."""

    job: Job
    phases: list[Phase]
    seconds: list[float]
    trials: float
    """Seconds of the trials that judge phases out of fold."""
    parameters: list[int]
    """How many values each phase trains."""
    memory: list[int]
    """Bytes."""
    notes: list[str]

    @property
    def title(self) -> str:
        """The data in one line."""
        counts = self.job.samples
        said = ", ".join(f"{count:,} {split}" for split, count in counts.items() if count)
        size, unit = self.job.preprocessing.size, self.job.preprocessing.unit
        return f"{self.job.task.name.replace('_', ' ')}: {said}, {self.job.task.about}, input {size} {unit}"

    def json(self) -> dict[str, Any]:
        each = zip(self.phases, self.parameters, self.seconds, self.memory, strict=True)
        return {
            "task": self.job.task.name,
            "model": self.job.card.name,
            "strategy": self.job.options.strategy,
            "samples": self.job.samples,
            "notes": self.notes,
            "trials": {"seconds": self.trials},
            "phases": [
                {**phase.json(), "parameters": parameters, "seconds": seconds, "memory": memory}
                for phase, parameters, seconds, memory in each
            ],
        }


@watched
def fit(
    data: Any = None,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    dry_run: bool = False,
    recipe: str | Path | None = None,
    fresh: bool = False,
    track: str | Sequence[str] = (),
    watcher: Watcher | None = None,
    checkpoint_every: float = 30.0,
    began: float | None = None,
    **asked: Any,
) -> Run | Plan:
    """Fine-tune a pretrained model on labelled data.

    `data`: a path, a Hugging Face Dataset, a DataFrame or a list of (path or picture, label).
    `out`: the run folder (default: runs/NAME-N, N counting up).
    `resume`: go on with the newest unfinished run that was asked the same.
    `dry_run`: return the `Plan` instead.
    `recipe`: a recipe.yaml to replay; what is asked beside it replaces its entries.
    `fresh`: train again even what the cache remembers having trained alike.
    `track`: names of `acclimate.tracking.TRACKERS`, where curves, settings and mistakes are kept besides.
    `watcher`: who looks on; without one a notebook shows how far the work is.
    `checkpoint_every`: seconds between checkpoints.
    `began`: time.monotonic() from which `minutes` and the seconds reported count (default: now).
    `asked`: the fields of `acclimate.core.recipe.Options`; `target` and `target_labels` may be anything that `data` may be,
    `target_shares` a dict of shares by class.

    Returns the finished run. Raises `UserError` for mistakes, before anything is written, and `Stopped` after SIGINT or
    SIGTERM, with everything saved.
    """
    began, watcher = time.monotonic() if began is None else began, watcher or Watcher()
    problems = Problems()
    given = {name: asked[name] for name in OF_DATA if not isinstance(asked.get(name), str | Path | None)}
    asked |= {name: folder.described(asked[name]) for name in OF_DATA if asked.get(name) is not None}
    data, options, decisions = _asked(data, recipe, asked, problems, watcher)
    look(data, options, problems, given)
    tracked = books(track, problems)
    if out is not None:
        problems.attempt(folder.find, data, out, resume, options)
    problems.stop()
    if resume and (done := folder.finished(data, out, options)):
        watcher.say(f"{done.path} is finished already")
        return done
    target = given.get("target", options.target)
    settled = settle(data, options, decisions, out, resume, began=began, watcher=watcher, target=target)
    job = replace(prepare(data, options.model_copy(update=settled), watcher, given), said=options)
    known = folder.decided(harmonise.DECISION, decisions, data, out, options, resume)
    harmony = harmonise.Harmony.of(known) if known else harmonise.choice(job, watcher)
    job = harmonise.harmonised(job, harmony, watcher)
    if harmony:
        watcher.say(harmonise.told(job, harmony))
    if dry_run:
        precision, speed = _measure(job, None, watcher)
        return _plan(job, precision, speed, _budget(job, precision, speed, time.monotonic() - began))
    run = folder.find(data, out, resume, options)
    with run.locked(), _signals() as stopping, followed(watcher, tracked) as watcher:
        if resume and not run.exists:
            watcher.say(f"there is no run to go on with: {run.path} begins anew")
        folder.begin(run, data, job, began)
        if settled:
            run.decide(DECISION, settled)
        if harmony:
            run.decide(harmonise.DECISION, harmony.json())
        run.given = {} if decisions.get("precision", {}).get("device") != job.device.type else decisions
        watcher.begun(run)
        parts = history.Parts(run, began)
        parts.end("reading and checking")
        precision, speed = _measure(job, run, watcher)
        parts.end("measuring what is fast")
        watcher.work("fitting the baseline", 0, 1)
        table, rows = job.dataset.table, job.rows(judged_split(job))
        cheap = job.task.baseline(table, job.dataset.own("train"), job.rows("val"), rows, job.came(precision))
        parts.end("baselines")
        left = _budget(job, precision, speed, run.elapsed())
        plan = _plan(job, precision, speed, left)
        watcher.plan(plan)
        context = _context(job, run, speed)
        until = float("inf") if run.given else time.monotonic() + left  # a replay ends where it is recorded
        trainer = job.trainer(
            run,
            precision,
            watcher,
            deadline=until - left_aside(context, plan.phases, left),
            every=checkpoint_every,
            remember=not fresh,
            stopping=stopping,
            target=job.target,
        )
        run.decide("plan", [phase.name for phase in plan.phases])
        chosen = trainer.drive(job.plan(context))
        parts.end("training")
        for line in _better_before(chosen, [trainer.outcomes.read(index) for index in range(chosen.index)]):
            watcher.say(line)
        beside = [cheap] if cheap else []
        ended = Ended(
            run, data, job, trainer, history.begun(trainer, chosen), context, beside, parts, until, sum(speed.forward)
        )
        watcher.finished(run, finish(ended))
    if job.store.spilled:
        watcher.say(f"the disk of the cache was full: {job.store.spilled / 1e6:.0f} MB were kept in memory instead")
    job.store.trim()
    return run


def _asked(
    data: Any, recipe: str | Path | None, asked: dict[str, Any], problems: Problems, watcher: Watcher
) -> tuple[Any, Options, dict[str, Any]]:
    """The data, what was asked, and the decisions to repeat; values that cannot be are added to the problems.

    The decisions of a recipe hold for what it asked; where anything is asked otherwise they are made anew.
    """
    found = None if recipe is None else problems.attempt(Recipe.read, Path(recipe))
    if found is None:
        if data is None and recipe is None:
            problems.add("DATA", "is missing", "name the data, or a recipe that does")
        return data, Options.check(asked, problems), {}
    if found.acclimate != acclimate.__version__:
        watcher.say(
            f"the recipe was written by acclimate {found.acclimate}; the result of {acclimate.__version__} may be another"
        )
    joined = {**found.asked, **{name: value for name, value in asked.items() if value is not None}}
    options = Options.check(joined, problems)
    same = options.asked() == found.asked
    return (found.data if data is None else data), options, (found.decisions if same else {})


# --- what is measured at the start, and what it decides


def _measure(job: Job, run: Run | None, watcher: Watcher) -> tuple[Precision, estimate.Speed]:
    watcher.work("measuring what is fast on this machine", 0, 1)
    recorded = run.recorded if run is not None else lambda name, measure: measure()
    precision = Precision.of(
        recorded(
            "precision",
            lambda: Precision.measure(job.net, job.example(), job.device, asked=job.options.precision).json(),
        )
    )
    speed = estimate.Speed.of(
        recorded("speed", lambda: estimate.measure(job.net, job.example(), precision, job.device).json())
    )
    give_back_memory()
    return precision, speed


def _context(job: Job, run: Run | None, speed: estimate.Speed) -> Any:
    recorded = run.recorded if run is not None else lambda name, measure: measure()
    return job.context(speed, recorded("room", lambda: int(job.store.room() * VIEW_SHARE)))


def _plan(job: Job, precision: Precision, speed: estimate.Speed, left: float) -> Plan:
    context = _context(job, None, speed)
    phases, trials = preview(job.plan, context, left)
    parameters, memory = [], []
    for phase in phases:
        with attached(job.net, phase, job.example(2)):
            parameters.append(sum(value.numel() for value in trained_parameters(job.net, phase).values()))
            memory.append(estimate.memory(phase, speed, job.net, job.stages))
    passed_over = [f"{what}: {count:,}" for what, (count, _) in job.dataset.table.passed.items()]
    return Plan(
        job,
        phases,
        [context.seconds(phase) for phase in phases],
        sum(map(context.trial_seconds, trials)),
        parameters,
        memory,
        [
            *_columns(job.dataset.table),
            *job.dataset.table.notes,
            *passed_over,
            *(one.line for one in job.findings),
            *_learned_before(job),
            job.answering(precision).why,
            *_too_short(context.seconds(phases[0]), phases[0], left),
        ],
    )


def _learned_before(job: Job) -> list[str]:
    """A note where the samples that judge the result are known to the run that the model comes from."""
    rows = job.rows(judged_split(job))
    known = int(known_to(job.card.name, job.task, job.dataset, rows).sum())
    if not known:
        return []
    told = f"{known:,} of the {len(rows):,} samples that judge the result"
    return [f"{job.card.name}, which this starts from, learned from {told}: figures on them say nothing about new ones"]


def _columns(table: Table) -> list[str]:
    """Which columns were read, where there are columns: they may have been recognised wrongly."""
    if not table.named:
        return []
    return [f"samples from {' and '.join(map(repr, table.named))}, labels from {table.label!r}"]


def _budget(job: Job, precision: Precision, speed: estimate.Speed, elapsed: float) -> float:
    """Seconds of the budget that are left for training: without what has gone by, and without what comes after it: saving, judging by
    the model and by the probe, the second look at labels, drawing samples."""
    if job.options.minutes is None:
        return float("inf")
    answers, each = job.answering(precision), speed.forward
    if answers != precision:
        each, _ = estimate.forward(job.net, job.example(), answers, job.device)
    passes = len(job.rows(judged_split(job))) * 2 + DRAWN
    return job.options.minutes * 60 - elapsed - OVERHEAD - look_aside(job, sum(each)) - passes * sum(each)


def _too_short(needed: float, phase: Phase, left: float) -> list[str]:
    """A note where the budget is too small for the phase without which there is no model."""
    if phase.epochs > 1 or needed <= left:  # what has more can be ended sooner; what is solved has none
        return []
    return [
        f"the budget is too short by about {needed - left:.0f} s for the least there is to do: "
        f"no more than the first phase, {phase.name}, will be done"
    ]


# --- the end


def _better_before(chosen: Outcome, earlier: list[Outcome]) -> list[str]:
    """A line for a strategy that did as it was told and ended below a phase before."""
    best = max((one for one in earlier if one.judged), key=lambda one: one.value, default=None)
    if best is None or not chosen.judged or not better(best, chosen):
        return []
    return [f"{chosen.phase} ended below {best.phase}: {compared(chosen, best)}; --strategy auto keeps what is better"]


@contextmanager
def _signals() -> Iterator[Stopping]:
    """Ask to save and stop on SIGINT or SIGTERM, instead of dying; a second SIGINT interrupts at once."""
    stopping = Stopping()
    if threading.current_thread() is not threading.main_thread():
        yield stopping
        return
    before = {name: signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, frame: Any) -> None:
        if stopping.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        stopping.signal = number

    for name in before:
        signal.signal(name, ask)
    try:
        yield stopping
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
