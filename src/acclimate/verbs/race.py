"""Races: the phases that a fit would run, shortened, each candidate at several learning rates, in a run folder that goes afterwards."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from acclimate.core.run import Run
from acclimate.engine.estimate import Speed
from acclimate.engine.phase import Outcome, Phase
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


def phases(job: Job, speed: Speed, room: int) -> list[Phase]:
    """What a fit without a budget would run if every phase gained; validation samples judge all of it."""
    found, _ = preview(job.entry.plan, job.context(speed, room), math.inf)
    return [replace(phase, everything=False) for phase in found]


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
    with tempfile.TemporaryDirectory(prefix="acclimate-race-") as folder:
        run = Run(Path(folder))
        run.start(time.monotonic())
        trainer = job.trainer(run, precision, Aside(watcher, job.card.name), every=EVER)
        try:
            outcomes: list[Outcome] = trainer.drive(_one_by_one(short))
        finally:
            trainer.restore(None)
            job.net.requires_grad_(True)
    best = _best(outcomes)
    known = any(outcome.notes.get("remembered") for outcome in outcomes)
    lr = short[-1].lr[-1] if short[-1].lr else None
    return Raced(best, lr, None if known else sum(outcome.seconds for outcome in outcomes))


def _one_by_one(wanted: Sequence[Phase]) -> Generator[Phase, Outcome, list[Outcome]]:
    found: list[Outcome] = []
    for phase in wanted:
        found.append((yield phase))
    return found


def _best(outcomes: list[Outcome]) -> Outcome:
    judged = [outcome for outcome in outcomes if outcome.judged]
    best = judged[0]
    for outcome in judged[1:]:
        best = outcome if better(outcome, best) else best
    return best
