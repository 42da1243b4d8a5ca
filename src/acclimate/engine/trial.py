"""Trials: phases judged by cross-validation over all that is not test, where validation alone is too small to tell them apart."""

from __future__ import annotations

import json
import shutil
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import save

from acclimate.core.run import Run, write_whole
from acclimate.core.seeds import key
from acclimate.engine.checkpoint import read
from acclimate.engine.phase import HEAD, Outcome, Phase, Trial
from acclimate.engine.watcher import Watcher

ANSWERS = "answers"

if TYPE_CHECKING:
    from acclimate.engine.trainer import Trainer


def cross_validate(trainer: Trainer, number: int, trial: Trial) -> list[Outcome]:
    """An outcome for each phase of the trial, its scores out of fold over every training and validation sample.

    In each fold the phases follow one another, each from the weights of the one before. Weights are left as they were before
    the trial. A fold is a run of its own in the run folder, so a resume goes on inside it; the folders go with the trial's end.
    """
    home = f"checkpoint/trial-{number}"
    if not any(event["event"] == "trial" and event["number"] == number for event in trainer.run.events()):
        rows = trainer.pass_rows
        fold = folds(trainer, rows, trial.folds)
        parts = [
            _fold(trainer, f"{home}-fold-{i}", trial, rows[fold != i], rows[fold == i]) for i in range(trial.folds)
        ]
        order = np.argsort(np.concatenate([rows[fold == i] for i in range(trial.folds)]))
        answers = np.concatenate([answered for _, answered in parts])[order]
        tensors, told = {ANSWERS: torch.from_numpy(answers)}, []
        for position, phase in enumerate(trial.phases):
            for kind in ("scores", "losses"):
                joined = np.concatenate([getattr(part[position], kind) for part, _ in parts])[order]
                tensors[f"{position}/{kind}"] = torch.from_numpy(joined)
            told.append({"name": phase.name, "value": float(np.mean([part[position].value for part, _ in parts]))})
        write_whole(trainer.run.file(f"{home}.safetensors"), save(tensors, {"acclimate": json.dumps({"phases": told})}))
        trainer.run.log("trial", durable=True, number=number, folds=trial.folds, phases=told)
        for i in range(trial.folds):
            shutil.rmtree(trainer.run.file(f"{home}-fold-{i}"), ignore_errors=True)
    notes, tensors = read(trainer.run.file(f"{home}.safetensors"))
    figures = ", ".join(
        f"{one['name']} {one['value']:.3f}" if HEAD in phase.stages else f"{one['name']} (its head is fitted next)"
        for one, phase in zip(notes["phases"], trial.phases, strict=True)
    )
    trainer.watcher.say(f"{trial.folds}-fold trial over all that is not test: {figures}")
    return [
        Outcome(i, one["name"], one["value"], 0.0, 0, tensors[f"{i}/scores"].numpy(), tensors[f"{i}/losses"].numpy())
        for i, one in enumerate(notes["phases"])
    ]


def folds(trainer: Trainer, rows: np.ndarray, count: int) -> np.ndarray:
    """int64 [rows]: the fold of each; strata are shared out evenly, groups and samples that count as one stay together."""
    table = trainer.dataset.table.take(rows)
    strata = trainer.task.strata(table.column("target"))
    named = table.column("group").to_pylist() if "group" in table else [None] * len(rows)
    own = trainer.dataset.same[rows]
    units = [
        f"group {group}" if group is not None else f"sample {digest}" for group, digest in zip(named, own, strict=True)
    ]
    first: dict[str, int] = {}
    for position, unit in enumerate(units):
        first.setdefault(unit, position)
    turn = sorted(first, key=lambda unit: (strata[first[unit]], key("fold", unit)))
    chosen = {unit: place % count for place, unit in enumerate(turn)}
    return np.array([chosen[unit] for unit in units])


class Aside(Watcher):
    """Shows a fold as work that goes on, with none of its steps and results: they are not the run's."""

    def __init__(self, outer: Watcher, name: str) -> None:
        self.outer, self.name = outer, name
        self.what, self.steps = name, 1

    def phase(self, phase: Phase, steps: int) -> None:
        self.what, self.steps = f"{self.name}: {phase.name}", steps or 1
        self.outer.work(self.what, 0, self.steps)

    def work(self, what: str, done: int, of: int) -> None:
        self.outer.work(what, done, of)

    def step(self, step: int, loss: torch.Tensor, rate: float) -> None:
        self.outer.work(self.what, step, self.steps)


def proved(trainer: Trainer, phase: str) -> np.ndarray | None:
    """What the last trial that ended with a phase of this name answered out of fold, a row for each training and validation sample, in
    order; None without one."""
    numbers = [
        event["number"]
        for event in trainer.run.events()
        if event["event"] == "trial" and event["phases"][-1]["name"] == phase
    ]
    if not numbers:
        return None
    _, tensors = read(trainer.run.file(f"checkpoint/trial-{numbers[-1]}.safetensors"))
    return tensors[ANSWERS].numpy()


def _fold(
    trainer: Trainer, home: str, trial: Trial, train: np.ndarray, val: np.ndarray
) -> tuple[list[Outcome], np.ndarray]:
    """The outcomes of the phases, and what the last of them answers to the samples of `val`."""
    run = Run(trainer.run.file(home))
    run.path.mkdir(parents=True, exist_ok=True)
    run.mend_log()
    fold = Path(home).name
    own = f"{fold}: "
    run.given = {name.removeprefix(own): value for name, value in trainer.run.given.items() if name.startswith(own)}
    trainer.restore(None)
    watcher = Aside(trainer.watcher, fold)
    inner = replace(trainer, run=run, train_rows=train, val_rows=val, watcher=watcher)
    inner.held = trainer.held
    outcomes: list[Outcome] = inner.drive(_chain(trial.phases))
    for name, value in run.decisions().items():
        trainer.run.decide(own + name, value)
    inner.restore(outcomes[-1].index)
    inner.work = inner.feature_pass(inner.dataset)
    return outcomes, inner.answered(trial.phases[-1], val)


def _chain(phases: tuple[Phase, ...]) -> Generator[Phase, Outcome, Any]:
    """The phases one after another, each from the outcome of the one before, but for those that begin from pretrained weights."""
    found: list[Outcome] = []
    for phase in phases:
        found.append((yield phase if phase.start is None else replace(phase, start=len(found) - 1)))
    return found
