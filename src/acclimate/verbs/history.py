"""What a run went through, from its log: each phase with its curve and what it gained, what trials said, where the time went."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from acclimate.core.run import Run
from acclimate.engine.phase import CURVE, CUT, UNBEGUN, Outcome
from acclimate.engine.trainer import Trainer
from acclimate.metrics.intervals import paired
from acclimate.metrics.metric import Metric
from acclimate.metrics.selection import corrected

PART = "part"
"""The event that ends a part of a run's time."""
REMARK = "remark"
BEFORE = "before an interruption"
CORRECTION = "bootstrap bias correction (Tsamardinos et al., 2018)"


class Parts:
    """Where the time of a process that works on a run goes: each part from the end of the one before, a line of the log."""

    def __init__(self, run: Run, began: float) -> None:
        self.run = run
        self.last = run.elapsed() - (time.monotonic() - began)

    def end(self, name: str) -> None:
        now = self.run.elapsed()
        self.run.log(PART, name=name, seconds=round(now - self.last, 3))
        self.last = now


def seconds(run: Run) -> dict[str, float]:
    """Seconds by part, in the order in which they first came; what a process had under way when it was interrupted is one of its own."""
    found: dict[str, float] = {}
    for event in run.events():
        if event["event"] == PART:
            found[event["name"]] = round(found.get(event["name"], 0.0) + event["seconds"], 3)
    lost = round(run.elapsed() - sum(found.values()), 3)
    return {**found, BEFORE: lost} if lost > 1 else found


def phases(trainer: Trainer, chosen: Outcome) -> list[dict[str, Any]]:
    """Each outcome in order: {"name", "why", "chosen", "seconds", "epochs", "value"[, "gain", "over"][, "unbegun"][, "remembered"]
    [, "curve"]}.

    "value": of the primary figure on validation, null where it says nothing (`Outcome.judged`). "gain": the paired difference to the
    outcome that it started from, which is called "over". "unbegun": true where the budget ended before its first step. "remembered":
    true where the cache had it, trained in an earlier run. "curve": that of `Outcomes.curve`.
    """
    found: list[dict[str, Any]] = []
    outcomes = [trainer.outcomes.read(event["index"]) for event in _events(trainer.run, "outcome")]
    for one in outcomes:
        phase = trainer.outcomes.phase(one.index)
        start = next((other for other in outcomes if other.index == phase.start), None)
        told: dict[str, Any] = {"name": one.phase, "why": phase.why, "chosen": one.index == chosen.index}
        told |= {"seconds": round(one.seconds, 2), "epochs": one.epochs, "value": one.value if one.judged else None}
        if one.notes.get(UNBEGUN):
            start, told["unbegun"] = None, True
        if start is not None and one.judged and start.judged and len(one.scores) > 1:
            gain = paired(one.scores, start.scores)
            metric = Metric(value=gain.difference, low=gain.low, high=gain.high, n=len(one.scores))
            told |= {"gain": metric, "over": start.phase}
        if CURVE in one.notes:
            told["remembered"] = True
        curve = trainer.outcomes.curve(one)
        found.append({**told, **({"curve": curve} if curve else {})})
    return found


def begun(trainer: Trainer, outcome: Outcome) -> Outcome:
    """The outcome, or the one that it stands for where the budget ended its phase before its first step."""
    while outcome.notes.get(UNBEGUN):
        start = trainer.outcomes.phase(outcome.index).start
        assert start is not None
        outcome = trainer.outcomes.read(start)
    return outcome


def remarks(run: Run) -> list[str]:
    """Why the strategy went on or not, in its words, and what the budget ended."""
    known = run.decisions()
    return [*(known[name] for name in known if name.startswith(REMARK)), *_cuts(run)]


def _cuts(run: Run) -> Iterator[str]:
    for event in _events(run, "outcome"):
        if event["notes"].get(UNBEGUN):
            yield f"{event['name']}: the budget ended before its first step"
        elif event["notes"].get(CUT):
            yield f"{event['name']}: the budget ended it after {event['notes'].get('steps', 0):,} steps"


def trials(run: Run) -> list[dict[str, Any]]:
    """{"folds", "phases": [{"name", "value"}]} of each cross-validation."""
    return [{"folds": event["folds"], "phases": event["phases"]} for event in _events(run, "trial")]


def selection(trainer: Trainer) -> dict[str, Any]:
    """{"tried", "by", "corrected": what the best of the outcomes is worth on new samples}, where validation judged several; else empty.

    The best of several figures on the same samples is too high, by the more the more there are.
    """
    outcomes = [trainer.outcomes.read(event["index"]) for event in _events(trainer.run, "outcome")]
    judged = [one for one in outcomes if one.judged and not one.notes.get(UNBEGUN)]
    if len(judged) < 2 or len(judged[0].scores) < 2:
        return {}
    scores = np.stack([one.scores for one in judged])
    return {"tried": len(judged), "by": CORRECTION, "corrected": corrected(scores)}


def _events(run: Run, kind: str) -> Iterator[dict[str, Any]]:
    return (event for event in run.events() if event["event"] == kind)
