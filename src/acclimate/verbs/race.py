"""Races: what a fit would run, shortened, each candidate at several learning rates, in a run folder that goes afterwards."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from acclimate.core.run import Run
from acclimate.engine.estimate import Speed
from acclimate.engine.phase import Outcome, Phase, Trial
from acclimate.engine.precision import Precision
from acclimate.engine.trial import Aside
from acclimate.engine.watcher import Watcher
from acclimate.strategies.strategy import better
from acclimate.verbs.job import Job, preview

RATES = (1.0, 1 / 3, 3.0)
"""Multiples of the strategy's own learning rates; without them a race ranks learning rates and not models."""
EVER = 1e9
"""Seconds between checkpoints of a race: what it has finished is remembered by the cache."""


@dataclass(frozen=True)
class Raced:
    """The best outcome, its head's rate where the phases train by steps, and the seconds; None where the cache remembered some."""

    outcome: Outcome
    lr: float | None
    seconds: float | None


@dataclass(frozen=True)
class Course:
    """What a fit without a budget would run if every phase gained. `phases`: validation samples judge all of them; `trial`: the last in
    which the strategy itself judges out of fold, where it finds validation too small."""

    phases: list[Phase]
    trial: Trial | None
    seconds: float
    """Of the phases."""
    judging: float
    """Seconds of the trial, or else of the phases."""

    @classmethod
    def of(cls, job: Job, speed: Speed, room: int) -> Course:
        context = job.context(speed, room)
        found, trials = preview(job.entry.plan, context, math.inf)
        phases = [replace(phase, everything=False) for phase in found]
        seconds = sum(map(context.seconds, phases))
        trial = replace(trials[-1], new=len(trials[-1].phases)) if trials else None
        return cls(phases, trial, seconds, context.trial_seconds(trial) if trial else seconds)

    @property
    def trains(self) -> bool:
        """Whether any of it takes steps, which a learning rate belongs to."""
        return any(not phase.solve for phase in self.phases)


def shortened(phase: Phase, share: float, rate: float) -> Phase:
    """A phase that trains by steps, of a share of its epochs and views, at a multiple of its rates; a solved one stays."""
    if phase.solve:
        return phase
    epochs = max(1, round(share * phase.epochs))
    views = min(phase.views, math.ceil(share * phase.views))
    patience = None if phase.patience is None or phase.patience >= epochs else phase.patience
    return replace(phase, epochs=epochs, views=views, patience=patience, lr=tuple(rate * one for one in phase.lr))


def race(
    job: Job, precision: Precision, plan: Sequence[Phase], watcher: Watcher, share: float = 1.0, rate: float = 1.0
) -> Raced:
    """Run the phases one after another; the net is left as it was."""
    short = [shortened(phase, share, rate) for phase in plan]
    outcomes = _driven(job, precision, watcher, _one_by_one(short))
    known = any(outcome.notes.get("remembered") for outcome in outcomes)
    lr = short[-1].lr[-1] if short[-1].lr else None
    return Raced(_best(outcomes), lr, None if known else sum(outcome.seconds for outcome in outcomes))


def out_of_fold(job: Job, precision: Precision, trial: Trial, watcher: Watcher, rate: float = 1.0) -> Outcome:
    """The best outcome of a trial, at a multiple of its rates; the net is left as it was."""
    asked = replace(trial, phases=tuple(shortened(phase, 1.0, rate) for phase in trial.phases))
    return _best(_driven(job, precision, watcher, _alone(asked)))


def _driven(
    job: Job, precision: Precision, watcher: Watcher, plan: Generator[Any, Any, list[Outcome]]
) -> list[Outcome]:
    with tempfile.TemporaryDirectory(prefix="acclimate-race-") as folder:
        run = Run(Path(folder))
        run.start(time.monotonic())
        trainer = job.trainer(run, precision, Aside(watcher, job.card.name), every=EVER)
        try:
            outcomes: list[Outcome] = trainer.drive(plan)
        finally:
            trainer.restore(None)
            job.net.requires_grad_(True)
    return outcomes


def _one_by_one(wanted: Sequence[Phase]) -> Generator[Phase, Outcome, list[Outcome]]:
    found: list[Outcome] = []
    for phase in wanted:
        found.append((yield phase))
    return found


def _alone(trial: Trial) -> Generator[Trial, list[Outcome], list[Outcome]]:
    return (yield trial)


def _best(outcomes: list[Outcome]) -> Outcome:
    judged = [outcome for outcome in outcomes if outcome.judged]
    best = judged[0]
    for outcome in judged[1:]:
        best = outcome if better(outcome, best) else best
    return best
