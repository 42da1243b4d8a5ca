"""Strategies as what they are: generators of Phases, driven here by outcomes made up on the spot."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from acclimate.core.errors import UserError
from acclimate.core.recipe import Options
from acclimate.engine.estimate import SOLVE
from acclimate.engine.phase import HEAD, PASS, Clock, Outcome, Phase, Remark
from acclimate.strategies import STRATEGIES
from acclimate.strategies.auto import pace_of, tails
from acclimate.strategies.strategy import Context, StageInfo, better, find
from acclimate.tasks.tuning import BOXES, PICTURES, TEXTS, Tuning

SHARES = (0.03, 0.03, 0.14, 0.10, 0.11, 0.22, 0.24, 0.08, 0.05)
NAMES = ("stem", "blocks.0", "blocks.1", "blocks.2", "blocks.3", "blocks.4", "blocks.5", "blocks.6", "conv_head")


def context(
    strategy: str,
    seconds: float = 10.0,
    room: float = float("inf"),
    validation: int = 1000,
    tested: bool = False,
    tuning: Tuning = PICTURES,
    **asked: Any,
) -> Context:
    stages = tuple(StageInfo(name, 1000, share, 4096) for name, share in zip(NAMES, SHARES, strict=True))
    entry, argument = find(strategy)
    del entry
    return Context(
        stages,
        1000,
        validation,
        Options.check({"strategy": strategy, **asked}),
        argument,
        room,
        lambda phase: seconds * max(1, phase.epochs),
        tested,
        tuning,
    )


def outcome(index: int, right: float, noise: float = 0.0) -> Outcome:
    """200 validation samples, a share of them right; losses fall with it."""
    scores = np.zeros(200)
    scores[: round(200 * right)] = 1
    return Outcome(index, "p", right, 1.0, 1, scores, 1 - scores + noise)


def drive(
    strategy: str, values: list[float], clock: float = float("inf"), setting: Context | None = None, **asked: Any
) -> tuple[list[Phase], Outcome]:
    """(the phases asked for, the outcome chosen) where phase i reaches values[i]."""
    setting = setting or context(strategy, **asked)
    plan, answer, phases = find(strategy)[0].plan(setting), None, []
    try:
        while True:
            asked_for = plan.send(answer)
            if isinstance(asked_for, Clock):
                answer = clock
            elif isinstance(asked_for, Remark):
                answer = None
            else:
                answer = outcome(len(phases), values[len(phases)])
                phases.append(asked_for)
    except StopIteration as end:
        return phases, end.value


def test_auto_goes_deeper_only_with_a_budget() -> None:
    phases, chosen = drive("auto", [0.80, 0.90])
    assert [phase.name for phase in phases] == ["probe", "from blocks.5 on"]
    assert chosen.index == 1
    assert (phases[0].solve, phases[0].stages) == (True, (HEAD,))
    assert phases[1].first == 6
    assert phases[1].views > 0
    assert phases[1].start == 0


def test_auto_keeps_the_probe_when_nothing_gains() -> None:
    _, chosen = drive("auto", [0.90, 0.63])
    assert chosen.index == 0


def test_auto_does_not_adopt_what_validation_cannot_tell_apart() -> None:
    _, chosen = drive("auto", [0.90, 0.90])
    assert chosen.index == 0


def test_auto_within_a_budget_shortens_then_leaves_out() -> None:
    assert len(drive("auto", [0.8, 0.9, 0.95], clock=1000.0, minutes=1)[0]) == 3
    shortened, _ = drive("auto", [0.8, 0.9, 0.95], clock=40.0, minutes=1)
    assert shortened[1].epochs == 4
    assert len(drive("auto", [0.8, 0.9, 0.95], clock=5.0, minutes=1)[0]) == 1


def test_of_three_epochs_a_budget_may_leave_one() -> None:
    shortened, _ = drive("auto", [0.8, 0.9, 0.9], clock=15.0, minutes=1, tuning=replace(TEXTS, few=0))
    assert (shortened[1].epochs, TEXTS.tail_epochs) == (1, 3)


def test_a_budget_too_small_for_the_tail_gets_a_shorter_one() -> None:
    setting = replace(context("auto"), seconds=lambda phase: len(phase.stages) * max(1, phase.epochs) * 10.0)
    assert [phase.first for phase in tails(setting, 6, 0)] == [6, 7]  # the last stage alone is less than LEAST of it
    (_, tail), _ = drive("auto", [0.8, 0.9], clock=65.0, setting=setting)
    assert (tail.first, tail.epochs) == (7, 2)


def test_texts_train_all_layers_or_most_of_them_before_the_tail() -> None:
    """As long as they are patient for at least half of the epochs; else the tail."""
    tuning = replace(TEXTS, few=0)
    for seconds, expected in ((60.0, (0, 3)), (90.0, (0, 2)), (140.0, (5, 2)), (190.0, (7, 3))):
        own = context("auto", tuning=tuning)
        cost = {0: seconds, 5: seconds * 0.7, 7: seconds * 0.5}
        setting = replace(own, seconds=lambda phase, cost=cost: cost.get(phase.first, 1.0) * max(1, phase.epochs))
        phases, _ = drive("auto", [0.8, 0.9], setting=setting)
        assert (phases[1].first, phases[1].epochs) == expected
        assert phases[0].keep == (expected[0] or 7)  # what flows into it is kept by the pass


def test_all_layers_come_before_the_tail_where_the_head_alone_finds_little() -> None:
    """Else the network knows such samples: the tail, and all layers if it gained or not."""
    tuning, views = BOXES["points"], {"flip": 2}
    setting = replace(context("auto", seconds=1.0, tuning=tuning), views=views)
    everything = len(NAMES) + 1
    assert [len(phase.stages) for phase in drive("auto", [0.3, 0.5], setting=setting)[0]] == [1, everything]
    assert [len(phase.stages) for phase in drive("auto", [0.3, 0.2, 0.5], setting=setting)[0]] == [1, everything, 4]
    assert [len(phase.stages) for phase in drive("auto", [0.6, 0.7, 0.8], setting=setting)[0]] == [1, 4, everything]


def test_a_head_that_is_all_there_is_learns_as_long_as_a_tail() -> None:
    tuning = BOXES["points"]
    (alone,), _ = drive("probe", [0.3], setting=replace(context("probe", tuning=tuning), views={"flip": 2}))
    first = drive("auto", [0.3, 0.5], setting=replace(context("auto", tuning=tuning), views={"flip": 2}))[0][0]
    assert (alone.epochs, first.epochs) == (tuning.tail_epochs, tuning.head_epochs)
    assert alone.epochs > first.epochs


def test_a_first_phase_that_is_trained_is_cut_to_the_budget() -> None:
    """Neck and head that are new: 14 epochs of 10 seconds; an epoch of one view is the least there is."""
    setting = replace(context("auto", tuning=BOXES["fresh"], minutes=1), views={"flip": 2})
    for clock, expected in ((1000.0, (14, 2)), (55.0, (5, 1)), (3.0, (1, 1))):
        first = drive("auto", [0.3, 0.4], clock=clock, setting=setting)[0][0]
        assert (first.epochs, first.views) == expected
    (asked, *_), _ = drive(
        "auto", [0.3, 0.4], clock=3.0, setting=replace(setting, options=Options.check({"epochs": 6}))
    )
    assert asked.epochs == 6


def test_a_budget_is_used_beyond_what_would_be_waited_for_without_one() -> None:
    slow = replace(context("auto", tuning=replace(TEXTS, few=0), minutes=10), seconds=lambda phase: 90.0 * phase.epochs)
    (_, deep), _ = drive("auto", [0.8, 0.9], clock=600.0, setting=slow)
    assert (deep.first, deep.epochs) == (0, TEXTS.deep_epochs)


@pytest.mark.parametrize(
    ("samples", "batches", "epochs"),
    [(1000, {}, 1), (400, {}, 1), (48, {}, 12), (14, {}, 12), (48, {"batch_size": 16}, 4)],
)
def test_contrastive_training_makes_few_steps(samples: int, batches: dict[str, Any], epochs: int) -> None:
    """Of texts the last stages that make two thirds learn, on what flows into them; of pictures all."""
    for tuning, first in ((TEXTS, 5), (PICTURES, 0)):
        setting = replace(context("contrastive", tuning=tuning, **batches), samples=samples)
        (probe, drawn, fitted), _ = drive("contrastive", [0.5, 0.5, 0.6], setting=setting)
        assert drawn.epochs == epochs and drawn.stages == NAMES[first:]
        assert (drawn.first, drawn.views) == (first, min(first, 1))
        assert (probe.keep, fitted.keep, fitted.reread) == (first, first, False)
        full = drive("contrastive", [0.5, 0.5, 0.6], setting=replace(setting, room=0.0))[0]
        assert (full[1].first, full[1].views, full[1].stages) == (0, 0, NAMES[first:])  # the cache has no room


@pytest.mark.parametrize(
    ("samples", "clock", "names"),
    [
        (100, float("inf"), ["probe", "contrastive", "probe on what was learned"]),
        (100, 30.0, ["probe"]),  # there is no time
    ],
)
def test_where_folds_tell_nothing_contrastive_training_needs_no_trial(
    samples: int, clock: float, names: list[str]
) -> None:
    setting = replace(context("auto", tuning=TEXTS, validation=20, tested=True), samples=samples)
    phases, _ = drive("auto", [0.8, 0.8, 0.8], clock=clock, setting=setting)  # fails where a trial is asked for
    assert [phase.name for phase in phases] == names


def test_rates_of_texts_go_with_the_inverse_of_the_width() -> None:
    small, large = TEXTS.at(384), TEXTS.at(768)
    assert small == TEXTS
    for rate in ("deep_rate", "scale"):
        assert getattr(large, rate) == pytest.approx(getattr(small, rate) / 2)
    assert large.tail_rate(0.3) == pytest.approx(small.tail_rate(0.3) / 2)
    assert large.tail_epochs == small.tail_epochs


@pytest.mark.parametrize("samples", range(2, 60))
def test_one_sample_never_tells(samples: int) -> None:
    """Its gain is exactly one standard error; a rounding error must not adopt a phase."""
    wrong = np.zeros(samples)
    right = wrong.copy()
    right[0] = 1
    one, two = (Outcome(0, "p", 0.0, 1.0, 1, scores, 1 - scores) for scores in (wrong, right))
    assert not better(two, one)


def test_better_is_paired_and_needs_more_than_noise() -> None:
    assert better(outcome(1, 0.9), outcome(0, 0.8))
    assert not better(outcome(1, 0.805), outcome(0, 0.8))
    assert not better(outcome(1, 0.9, noise=1.0), outcome(0, 0.8))


@pytest.mark.parametrize("name", [name for name in STRATEGIES if name not in ("auto", "probe")])
def test_what_is_asked_is_never_overridden(name: str) -> None:
    asked = {
        "epochs": 3,
        "lr": 0.0123,
        "batch_size": 7,
        "optimizer": "sgd",
        "schedule": "linear",
        "label_smoothing": 0.3,
        "patience": 2,
    }
    phases, _ = drive(f"{name}:2" if STRATEGIES[name].numbered else name, [0.8] * 9, **asked)
    trained = [phase for phase in phases if not phase.solve]
    assert trained
    for phase in trained:
        assert (phase.epochs, phase.batch_size, phase.optimizer, phase.schedule) == (3, 7, "sgd", "linear")
        assert (phase.label_smoothing, phase.patience) == (0.3, 2)
        assert phase.lr[-1] == pytest.approx(0.0123)


@pytest.mark.parametrize("name", [name for name, entry in STRATEGIES.items() if "freeze" in entry.reads])
def test_frozen_stages_stay_out_of_every_phase(name: str) -> None:
    phases, _ = drive(name, [0.8] * 9, clock=1e9, freeze="blocks.4")
    assert all(set(phase.stages) <= {"blocks.5", "blocks.6", "conv_head", HEAD} for phase in phases)


def test_layer_decay_slows_early_stages() -> None:
    phases, _ = drive("layer-decay", [0.8, 0.9])
    rates = phases[1].lr
    assert list(rates[:-1]) == sorted(rates[:-1])
    assert rates[-3] / rates[-2] == pytest.approx(0.75)


def test_gradual_unfreezes_from_the_top() -> None:
    phases, chosen = drive("gradual", [0.8] * 5)
    sizes = [len(phase.stages) for phase in phases]
    assert sizes == sorted(sizes)
    assert sizes[-1] == len(NAMES) + 1
    assert all(phase.start == i - 1 for i, phase in enumerate(phases) if i)
    assert chosen.index == len(phases) - 1


def test_fewer_views_are_kept_where_the_disk_is_small_and_it_is_said() -> None:
    one = 4096 * 1000
    for room, views, word in [(3.5 * one, 3, "3 of 4"), (1.2 * one, 1, "1 of 4"), (0.5 * one, 0, "no view")]:
        plan = find("last:2")[0].plan(context("last:2", room=room))
        next(plan)
        phase = plan.send(outcome(0, 0.8))
        assert isinstance(phase, Phase)
        assert phase.views == views
        assert word in phase.why
        assert (phase.first > 0) == (views > 0)


def test_last_n_trains_n_stages() -> None:
    phases, _ = drive("last:3", [0.8, 0.9])
    assert phases[1].stages == (*NAMES[-3:], HEAD)
    assert phases[1].first == len(NAMES) - 3


@pytest.mark.parametrize("name", ["last:0", "last:x", "probe:2", "proob", "last:"])
def test_wrong_names_are_refused(name: str) -> None:
    with pytest.raises(UserError):
        find(name)


def test_pace_is_that_of_the_pass_and_not_of_fitting_the_head() -> None:
    setting = context("auto", seconds=10.0 + SOLVE)
    probe = drive("auto", [0.9, 0.9])[0][0]
    took = {seconds: replace(outcome(0, 0.9), seconds=60.0, notes={PASS: seconds}) for seconds in (5.0, 10.0, 20.0)}
    assert [pace_of(setting, probe, one) for one in took.values()] == [1.0, 1.0, 2.0]
    assert pace_of(setting, probe, outcome(0, 0.9)) == 1.0  # remembered: nothing was waited for
