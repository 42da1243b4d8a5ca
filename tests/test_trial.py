"""Trials: folds that keep together what belongs together, figures out of fold, and a choice that uses them."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from conftest import TINY, write_digits

from acclimate.core.recipe import Options
from acclimate.core.run import Run
from acclimate.engine.checkpoint import read
from acclimate.engine.phase import CUT, HEAD, LEARNED, Clock, Outcome, Phase, Remark, Trial
from acclimate.engine.precision import Precision
from acclimate.engine.trial import folds, proved
from acclimate.engine.watcher import Watcher
from acclimate.strategies.strategy import find
from acclimate.tasks.tuning import TEXTS
from acclimate.verbs.fit import fit
from acclimate.verbs.job import Job, prepare


class Rows:
    """What `folds` looks at."""

    def __init__(self, job: Job) -> None:
        self.dataset, self.task = job.dataset, job.task


@pytest.fixture(scope="module")
def job(digits: Path) -> Job:
    return prepare(digits, Options.check({"model": TINY, "size": 32}), Watcher())


def test_folds_share_every_class_out_evenly(job: Job) -> None:
    rows = np.sort(np.concatenate([job.rows("train"), job.rows("val")]))
    fold = folds(Rows(job), rows, 3)  # type: ignore[arg-type]
    classes = job.dataset.targets[rows]
    for name in np.unique(classes):
        counts = np.bincount(fold[classes == name], minlength=3)
        assert counts.max() - counts.min() <= 1


def test_groups_and_identical_samples_stay_in_one_fold(job: Job) -> None:
    rows = np.sort(np.concatenate([job.rows("train"), job.rows("val")]))
    groups = [f"g{i // 5}" if i % 2 else None for i in range(len(job.dataset))]
    table, digests = job.dataset.table, job.dataset.digests.copy()
    digests[rows[2]] = digests[rows[40]]
    changed = prepare_with(job, table.with_column("group", pa.array(groups)), digests)
    fold = folds(changed, rows, 3)
    named = np.array([groups[row] or "" for row in rows])
    for group in set(named) - {""}:
        assert len(set(fold[named == group])) == 1
    if not named[2] and not named[40]:
        assert fold[2] == fold[40]


def prepare_with(job: Job, table: Any, digests: np.ndarray) -> Any:
    changed = Rows(job)
    changed.dataset = replace(job.dataset, table=table, digests=digests, same=digests[:, 0])
    return changed


def test_a_trial_leaves_its_figures_and_takes_its_folders_away(tmp_path: Path) -> None:
    data = write_digits(tmp_path / "data", 3, 20)
    run = fit(data, model=TINY, size=32, epochs=2, batch_size=8, precision="fp32", out=tmp_path / "run", fresh=True)
    (event,) = [event for event in run.events() if event["event"] == "trial"]
    assert event["phases"][0]["name"] == "probe"
    assert run.file("checkpoint/trial-0.safetensors").exists()
    assert list(run.file("checkpoint").glob("trial-0-fold-*")) == []
    assert run.finished
    found = prepare(data, Options.check({"model": TINY, "size": 32}), Watcher())
    rows = np.sort(np.concatenate([found.rows("train"), found.rows("val")]))
    last = event["phases"][-1]["name"]
    answers = proved(SimpleNamespace(run=run), last)  # type: ignore[arg-type]
    _, tensors = read(run.file("checkpoint/trial-0.safetensors"))
    right = answers.argmax(1) == found.dataset.targets[rows]
    assert right.tolist() == tensors[f"{len(event['phases']) - 1}/scores"].bool().tolist()
    assert proved(SimpleNamespace(run=run), "another") is None  # type: ignore[arg-type]


@pytest.mark.parametrize("tried", [True, False])
def test_what_a_trial_proved_is_settled_out_of_fold(tried: bool, job: Job, tmp_path: Path) -> None:
    """A model that has learned from validation is surer there than elsewhere."""
    run = Run(tmp_path)
    trainer = job.trainer(run, Precision("cpu"), Watcher())

    def plan() -> Any:
        probe = Phase("probe", "", (HEAD,), (), epochs=0, solve=True)
        if tried:
            yield Trial((probe,), 3)
        return (yield replace(probe, everything=True))

    chosen = trainer.drive(plan())
    assert chosen.learned_from_validation
    predictions, targets, learned = trainer.answers(chosen)
    rows = trainer.pass_rows if tried else job.rows("val")
    assert learned is not tried
    assert targets.tolist() == job.dataset.targets[rows].tolist()
    own = trainer.answered(trainer.outcomes.phase(0), rows)
    surer = own.max(axis=1).mean() - predictions.max(axis=1).mean()
    assert surer > 0.01 if tried else surer == pytest.approx(0, abs=1e-4)


def outcome(index: int, right: int, n: int, notes: dict[str, Any] | None = None) -> Outcome:
    scores = np.zeros(n)
    scores[:right] = 1
    return Outcome(index, "p", right / n, 1.0, 1, scores, 1 - scores, notes or {})


def auto(
    trials: list[tuple[int, ...]],
    val: tuple[int, ...],
    left: float | tuple[float, ...] = float("inf"),
    cut: int | None = None,
    **setting: Any,
) -> tuple[int, list[Phase]]:
    """(the outcome that `auto` chooses, its phases): right answers out of fold of 1000 in each trial, and on validation of 100.

    `left`: what the clock says, each time or one after the other; `cut`: the phase that the budget cuts.
    """
    from test_strategies import context

    clock = iter(left) if isinstance(left, tuple) else itertools.repeat(left)
    plan, answer, phases, asked_trials = find("auto")[0].plan(context("auto", validation=100, **setting)), None, [], 0
    try:
        while True:
            asked = plan.send(answer)
            if isinstance(asked, Clock):
                answer = next(clock)
            elif isinstance(asked, Remark):
                answer = None
            elif isinstance(asked, Trial):
                assert not any(phase.everything for phase in asked.phases)
                few = any(phase.objective == "contrastive" for phase in asked.phases)
                assert all(phase.blind == (few and phase.solve) for phase in asked.phases)
                answer, asked_trials = (
                    [outcome(i, n, 1000) for i, n in enumerate(trials[asked_trials])],
                    asked_trials + 1,
                )
            else:
                assert isinstance(asked, Phase)
                notes = {LEARNED: asked.everything, CUT: len(phases) == cut}
                answer = outcome(len(phases), val[len(phases)], 100, notes)
                phases.append(asked)
    except StopIteration as end:
        assert asked_trials == len(trials)
        return end.value.index, phases


@pytest.mark.parametrize(
    ("trial", "val", "chosen"),
    [
        ((880, 910), (88, 89), 1),  # validation cannot tell, the folds can
        ((880, 880), (88, 88), 0),  # neither can
        ((880, 910), (88, 63), 0),  # the folds gained, the tail itself collapsed
        ((880, 880), (80, 95), 1),  # validation alone is enough
    ],
)
def test_auto_heeds_both(trial: tuple[int, int], val: tuple[int, int], chosen: int) -> None:
    assert auto([trial], val)[0] == chosen


def test_what_loses_out_of_fold_is_not_begun() -> None:
    chosen, phases = auto([(880, 870)], (80,))
    assert (chosen, len(phases)) == (0, 1)


def test_what_is_proved_out_of_fold_learns_from_validation_too_where_a_test_judges() -> None:
    assert [phase.everything for phase in auto([(880, 910)], (88, 99), tested=True)[1]] == [False, True]
    assert [phase.everything for phase in auto([(880, 910)], (88, 99))[1]] == [False, False]
    assert [phase.everything for phase in auto([(880, 880)], (88, 99), tested=True)[1]] == [False, False]
    assert [phase.everything for phase in auto([(880, 910)], (88, 99), tested=True, patience=2)[1]] == [False, False]


@pytest.mark.parametrize(("third", "count"), [(940, 3), (910, 2)])
def test_what_follows_from_such_a_phase_is_judged_out_of_fold(third: int, count: int) -> None:
    chosen, phases = auto([(880, 910), (880, 910, third)], (88, 99, 99), left=1e6, tested=True, minutes=1e5)
    assert (chosen, len(phases)) == (count - 1, count)
    assert all(phase.everything for phase in phases[1:])


@pytest.mark.parametrize(
    ("third", "left", "names"),
    [
        (910, float("inf"), ["probe", "contrastive", "probe on what was learned"]),
        (880, float("inf"), ["probe"]),  # the folds cannot tell
        (910, 3.0, ["probe"]),  # there is no time to try
    ],
)
def test_where_samples_are_few_folds_decide_and_all_are_learned_from(third: int, left: float, names: list[str]) -> None:
    tuning = replace(TEXTS, few=1100)
    trials = [(880, 500, third)] if left > 100 else []
    _, phases = auto(trials, (88, 88, 88), left=left, tested=True, tuning=tuning)
    assert [phase.name for phase in phases] == names
    assert all(phase.everything for phase in phases) == (left > 100)


@pytest.mark.parametrize(("after", "cut", "chosen"), [(1e3, None, 2), (1e3, 2, 0), (3.0, None, 0)])
def test_a_budget_that_ends_among_few_samples_leaves_the_probe(after: float, cut: int | None, chosen: int) -> None:
    """Where the trial took too long nothing more is begun, and a head that was not fitted to what was learned is not delivered."""
    found, phases = auto(
        [(880, 500, 910)], (88, 88, 88), left=(1e3, after), cut=cut, tested=True, tuning=replace(TEXTS, few=1100)
    )
    assert (found, len(phases)) == (chosen, 1 if after < 10 else 3)
