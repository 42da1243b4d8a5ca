"""Figures equal scikit-learn's; their intervals cover the truth as often as they say."""

from __future__ import annotations

import runpy
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.metrics as sk
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from acclimate.metrics.classification import (
    SINGLE,
    _average_precision,
    best_thresholds,
    counted,
    f1_scores,
    figures,
    losses,
    macro_f1,
    mean_f1,
    several,
    several_losses,
)
from acclimate.metrics.comparison import difference, holm, needed
from acclimate.metrics.intervals import (
    bca,
    jackknifed,
    jackknifed_sums,
    like_share,
    mid_p,
    normal,
    of_losses,
    of_mean,
    of_sums,
    paired,
    wilson,
)
from acclimate.metrics.selection import corrected

pytestmark = pytest.mark.filterwarnings("error")


def one_class(n: int, classes: int, seed: int = 0, signal: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and targets, the later classes rarer."""
    random = np.random.default_rng(seed)
    shares = 1 / np.arange(1, classes + 1)
    targets = random.choice(classes, n, p=shares / shares.sum())
    logits = random.normal(size=(n, classes)) + signal * np.eye(classes)[targets]
    return (np.exp(logits) / np.exp(logits).sum(1, keepdims=True)).astype(np.float32), targets


def labels(n: int, count: int, seed: int = 0, decimals: int = 6) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    targets = (random.random((n, count)) < np.linspace(0.1, 0.5, count)).astype(np.float32)
    scores = 1 / (1 + np.exp(-(random.normal(size=(n, count)) + 3 * targets - 2)))
    return scores.round(decimals).astype(np.float32), targets


@pytest.mark.parametrize(("n", "classes"), [(200, 3), (300, 8), (40, 30)])
def test_one_class_figures_equal_scikit_learns(n: int, classes: int) -> None:
    predictions, targets = one_class(n, classes)
    found = {name: figure["value"] for name, figure in figures(SINGLE, predictions, targets).items()}
    guess, all_classes = predictions.argmax(1), range(classes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some classes are guessed and do not occur
        expected = {
            "accuracy": sk.accuracy_score(targets, guess),
            "balanced_accuracy": sk.balanced_accuracy_score(targets, guess),
            "macro_f1": sk.f1_score(targets, guess, average="macro"),
            "top5": sk.top_k_accuracy_score(targets, predictions, k=5, labels=all_classes) if classes > 5 else 1.0,
            "log_loss": sk.log_loss(targets, predictions / predictions.sum(1, keepdims=True), labels=all_classes),
            "ece": found["ece"],  # compared in test_calibration.py
        }
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("decimals", [6, 1])
@pytest.mark.parametrize("count", [1, 4, 12])
def test_figures_of_several_labels_equal_scikit_learns(count: int, decimals: int) -> None:
    """With one decimal many scores are equal."""
    predictions, targets = labels(150, count, decimals=decimals)
    found = {name: figure["value"] for name, figure in figures(several(), predictions, targets).items()}
    guess = (predictions > 0.5).astype(int)
    each = range(count)
    assert found == pytest.approx(
        {
            "accuracy": (guess == targets).all(axis=1).mean(),
            "balanced_accuracy": np.mean([sk.balanced_accuracy_score(targets[:, k], guess[:, k]) for k in each]),
            "macro_f1": np.mean([sk.f1_score(targets[:, k], guess[:, k]) for k in each]),
            "micro_f1": sk.f1_score(targets.ravel(), guess.ravel()),
            "sample_f1": np.mean([sk.f1_score(t, g, zero_division=1.0) for t, g in zip(targets, guess, strict=True)]),
            "mean_average_precision": np.mean(
                [sk.average_precision_score(targets[:, k], predictions[:, k]) for k in each]
            ),
            "log_loss": np.mean([sk.log_loss(targets[:, k], predictions[:, k].astype(float)) for k in each])
            if decimals == 6
            else found["log_loss"],
            "ece": found["ece"],  # compared in test_calibration.py
        },
        rel=1e-5,
    )


@pytest.mark.parametrize(("table", "data"), [(SINGLE, one_class(120, 7)), (several(), labels(120, 5))])
def test_every_figure_lies_in_its_interval_and_counts_the_samples(table: dict, data: tuple) -> None:
    found = figures(table, *data)
    assert list(found) == list(table)
    for figure in found.values():
        assert figure["low"] < figure["value"] < figure["high"]
        assert figure["n"] == 120
    assert found == figures(table, *data)
    assert figures(table, *data, only=["macro_f1"]) == {"macro_f1": found["macro_f1"]}


@pytest.mark.parametrize(("table", "targets"), [(SINGLE, np.arange(30) % 6), (several(), np.eye(6)[np.arange(30) % 6])])
def test_all_right_is_not_certainty(table: dict, targets: np.ndarray) -> None:
    predictions = np.eye(6)[np.arange(30) % 6] * 0.95 + 0.01
    for name, figure in figures(table, predictions, targets).items():
        if name not in ("log_loss", "ece"):
            assert figure["value"] == figure["high"] == pytest.approx(1)
            ends = mid_p(30, 30) if name == "top5" else wilson(1, 30)
            assert figure["low"] == pytest.approx(ends[0]), name


def test_all_right_in_a_rare_class_is_less_certain_than_in_many_samples() -> None:
    targets = np.array([0] * 100 + [1] * 2)
    assert figures(SINGLE, np.eye(2)[targets], targets)["balanced_accuracy"]["low"] < 0.7


def test_undefined_figures_are_left_out() -> None:
    found = figures(several(), np.full((4, 3), 0.1), np.zeros((4, 3)))
    assert set(found) == {"accuracy", "sample_f1", "log_loss", "ece"}
    assert found["sample_f1"]["value"] == 1


def test_one_sample_and_a_hopeless_one() -> None:
    found = figures(SINGLE, np.array([[1.0, 0.0]], dtype=np.float32), np.array([1]))
    assert np.isfinite([value for figure in found.values() for value in figure.values()]).all()
    assert found["log_loss"]["value"] == pytest.approx(-np.log(np.finfo(np.float32).eps))


def test_losses_and_scores_are_a_figure_a_sample() -> None:
    predictions, targets = np.array([[0.2, 0.8], [0.5, 0.5]]), np.array([[0, 1], [1, 0]])
    assert losses(predictions, np.array([1, 0])) == pytest.approx(-np.log([0.8, 0.5]))
    assert several_losses(predictions, targets) == pytest.approx(-np.log([0.8, 0.5]))
    assert f1_scores(predictions, targets).tolist() == [1, 0]


def test_speed_for_five_thousand_samples() -> None:
    predictions, targets = one_class(5000, 50)
    began = time.process_time()
    figures(SINGLE, predictions, targets)
    assert time.process_time() - began < 5  # 0.5 on an idle core


# --- intervals


@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_ends_by_mid_p_leave_half_of_what_was_seen_and_all_beyond(counts: tuple[int, int]) -> None:
    right, n = counts
    low, high = mid_p(right, n)
    assert 0 <= low <= right / n <= high <= 1
    assert (
        low == 0
        if right == 0
        else stats.binom.sf(right, n, low) + stats.binom.pmf(right, n, low) / 2 == pytest.approx(0.025)
    )
    assert (
        high == 1
        if right == n
        else stats.binom.cdf(right - 1, n, high) + stats.binom.pmf(right, n, high) / 2 == pytest.approx(0.025)
    )


def test_top5_holds_where_a_miss_is_hardly_ever_seen() -> None:
    """Where Wilson's interval holds .84 of the shares."""
    seen = [mid_p(300 - missed, 300) for missed in range(4)]
    chances = stats.binom.pmf(np.arange(4), 300, 0.17 / 300)
    assert sum(p for p, (low, high) in zip(chances, seen, strict=True) if low <= 1 - 0.17 / 300 <= high) > 0.93


@settings(deadline=None)
@given(st.integers(1, 10**6).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_equals_scipys_and_holds_the_share(counts: tuple[int, int]) -> None:
    found, n = counts
    low, high = wilson(found / n, n)
    assert 0 <= low <= found / n <= high <= 1
    expected = stats.binomtest(found, n).proportion_ci(method="wilson")
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_bca_equals_scipys() -> None:
    data = np.random.default_rng(0).exponential(size=40)
    expected = stats.bootstrap((data,), np.mean, n_resamples=5000, random_state=0)
    left_out = (data.sum() - data) / 39
    found = bca(data.mean(), expected.bootstrap_distribution, left_out)
    assert found == pytest.approx((expected.confidence_interval.low, expected.confidence_interval.high), abs=1e-3)
    value, low, high = of_mean(data)
    assert value == pytest.approx(data.mean())
    assert (low, high) == pytest.approx(found, abs=0.05)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=60))
def test_a_mean_lies_in_its_interval(values: list[float]) -> None:
    value, low, high = of_mean(np.array(values))
    assert low <= value <= high
    assert value == pytest.approx(np.mean(values), abs=1e-6)


def test_samples_that_share_a_row_count_each() -> None:
    random = np.random.default_rng(1)
    rows, counts = random.random((5, 2)), np.array([1, 4, 30, 2, 9])

    def ratio(sums: np.ndarray) -> np.ndarray:
        return sums[:, 0] / sums[:, 1]

    together, apart = of_sums(ratio, rows, counts), of_sums(ratio, np.repeat(rows, counts, axis=0))
    assert together == pytest.approx(apart, rel=1e-3)


def test_large_samples_get_the_normal_interval() -> None:
    values = np.random.default_rng(2).exponential(size=12_000)
    value, low, high = of_mean(values)
    assert (low, high) == pytest.approx(normal(value, values.std(ddof=1) / np.sqrt(12_000)), rel=1e-6)


@pytest.mark.parametrize("decimals", [6, 1])
def test_average_precision_without_each_sample_is_what_scikit_learn_says(decimals: int) -> None:
    predictions, targets = labels(80, 2, decimals=decimals)
    scores, truth, every = predictions[:, 0], targets[:, 0] > 0.5, np.arange(80)
    value, left_out = _average_precision(scores, truth)
    expected = [sk.average_precision_score(truth[every != i], scores[every != i]) for i in range(80)]
    assert value == pytest.approx(sk.average_precision_score(truth, scores))
    assert left_out == pytest.approx(expected)


def test_the_jackknife_of_a_mean_is_its_standard_error() -> None:
    values = np.random.default_rng(0).random(50)
    centre, error = jackknifed(values.mean(), (values.sum() - values) / 49)
    assert (centre, error) == pytest.approx((values.mean(), values.std(ddof=1) / np.sqrt(50)))
    found = jackknifed_sums(lambda sums: sums[:, 0] / sums[:, 1], np.column_stack([values, np.ones(50)]))
    assert found == pytest.approx((values.mean(), centre, error))
    trials = values.mean() * (1 - values.mean()) / error**2
    assert like_share(*found, 50) == pytest.approx((values.mean(), *wilson(values.mean(), trials)))
    assert like_share(1.0, 1.0, 0.0, 30) == pytest.approx((1, wilson(1, 30)[0], 1))
    assert like_share(0.9, 0.99, 0.001, 30)[1] == 0.9


def test_macro_f1_of_many_classes_with_few_samples_is_known_to_be_too_low() -> None:
    """Half of the classes do not occur, and a sample of a class is mostly its only one."""
    predictions, targets = one_class(600, 300, signal=3)
    found = figures(SINGLE, predictions, targets, ["macro_f1"])["macro_f1"]
    assert found["high"] - found["value"] > 2 * (found["value"] - found["low"])
    whole = figures(SINGLE, *one_class(20_000, 300, signal=3), ["macro_f1"])["macro_f1"]["value"]
    assert found["value"] + 0.02 < whole < found["high"]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 30), st.integers(2, 8), st.sampled_from([1e-6, 0.1, 1, 100]))
def test_figures_of_wild_predictions_lie_in_their_intervals(seed: int, n: int, classes: int, scale: float) -> None:
    random = np.random.default_rng(seed)
    wild = np.exp(scale * random.normal(size=(n, classes)).clip(-5, 5))
    predictions = (wild / wild.sum(axis=1, keepdims=True)).astype(np.float32)
    one, hot = random.integers(classes, size=n), (random.random((n, classes)) < 0.3).astype(np.float32)
    for table, targets in ((SINGLE, one), (several(), hot)):
        for name, figure in figures(table, predictions, targets).items():
            assert np.isfinite([figure["low"], figure["high"]]).all(), name
            assert 0 <= figure["low"] <= figure["value"] <= figure["high"] <= (np.inf if name == "log_loss" else 1), (
                name
            )


def test_a_loss_that_no_mistake_was_seen_of_may_be_larger() -> None:
    """Resampling knows nothing of what the next would cost."""
    values = np.append(np.full(49, 0.01), 3.0)
    value, low, high = of_losses(values, mistake=3.0)
    assert value == pytest.approx(values.mean())
    assert low < value
    assert high > 4 * value
    assert of_mean(np.full(50, 0.01))[2] == pytest.approx(0.01)
    assert of_losses(np.full(50, 0.01), mistake=3.0)[2] > 0.1
    assert of_losses(np.full(1, 0.5), mistake=0.1)[1] < 0.5 < of_losses(np.full(1, 0.5), mistake=0.1)[2]


@pytest.mark.parametrize(
    ("several", "n", "least"), [(False, 50, 0.89), (False, 300, 0.9), (True, 50, 0.89), (True, 300, 0.9)]
)
def test_intervals_cover_the_truth(several: bool, n: int, least: float, benchmark: dict[str, Any]) -> None:
    """`benchmarks/intervals.py` in small: 80 test sets tell 95 % to within 5 points."""
    population = (
        benchmark["of_labels"](6, 1.2, 1.3, True, 20_000)
        if several
        else benchmark["of_classes"](6, 2, 1.3, True, 60_000)
    )
    names = [name for name in benchmark["FIGURES"] if name not in ("top5", "ece")]
    found = benchmark["covered"](population, n, 80, names)
    assert len(found) == (7 if several else 4)
    assert all(least <= share for share in found.values()), found


@pytest.fixture(scope="module")
def benchmark() -> Iterator[dict[str, Any]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent.parent / "benchmarks"))
        yield runpy.run_path(str(Path(__file__).parent.parent / "benchmarks" / "intervals.py"))


# --- paired


def test_paired_right_and_wrong_is_mcnemars_exact_test() -> None:
    a = np.array([1] * 60 + [1] * 12 + [0] * 3 + [0] * 25)
    b = np.array([1] * 60 + [0] * 12 + [1] * 3 + [0] * 25)
    found = paired(a, b)
    assert found.difference == pytest.approx(0.09)
    assert found.error == pytest.approx((a - b).std(ddof=1) / 10)
    assert found.p == pytest.approx(stats.binomtest(3, 15).pvalue)
    assert found.low < 0.09 < found.high
    back = paired(b, a)
    assert (back.difference, back.low, back.high, back.p) == pytest.approx((-0.09, -found.high, -found.low, found.p))


def test_the_same_predictions_differ_by_nothing_but_not_surely() -> None:
    found = paired(np.ones(50), np.ones(50))
    assert (found.difference, found.p) == (0, 1)
    assert -0.06 < found.low < 0 < found.high < 0.06


def test_paired_graded_scores_is_students_t() -> None:
    random = np.random.default_rng(4)
    a, b = random.random(30), random.random(30)
    expected = stats.ttest_rel(a, b)
    found = paired(a, b)
    assert found.p == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval()
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert paired(a, a).p == 1


def test_paired_intervals_cover_the_truth() -> None:
    random = np.random.default_rng(5)
    right = random.random((400, 100, 1)) < 0.5
    scores = np.where(
        right, random.random((400, 100, 2)) < [0.95, 0.9], random.random((400, 100, 2)) < [0.5, 0.4]
    ).astype(float)
    covered = [(found := paired(one[:, 0], one[:, 1])).low <= 0.075 <= found.high for one in scores]
    assert 0.92 <= np.mean(covered) <= 0.99


@pytest.mark.parametrize(("a", "b"), [([1.0], [0.0]), ([1.0, 0.0], [1.0])])
def test_scores_that_do_not_pair(a: list[float], b: list[float]) -> None:
    with pytest.raises(ValueError, match="pair"):
        paired(np.array(a), np.array(b))


# --- comparison


def test_the_difference_of_a_figure_that_is_no_mean() -> None:
    better, targets = one_class(300, 5, signal=2.5)
    random = np.random.default_rng(1)
    worse = (better + random.random(better.shape) * 0.8).astype(np.float32)
    found = difference(mean_f1, counted(better, targets), counted(worse, targets))
    both = [macro_f1(each, targets)["value"] for each in (better, worse)]
    assert found[0] == pytest.approx(both[0] - both[1])
    assert found[1] < found[0] < found[2]
    assert found[2] - found[1] < 0.2
    assert difference(mean_f1, counted(worse, targets), counted(better, targets))[0] == pytest.approx(-found[0])
    assert difference(mean_f1, counted(better, targets), counted(better, targets)) == (0, 0, 0)
    with pytest.raises(ValueError, match="pair"):
        difference(mean_f1, counted(better, targets), counted(worse[1:], targets[1:]))


def test_holms_correction() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])  # by hand
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []


def test_samples_needed_to_tell_a_difference() -> None:
    assert needed(0.02, 0.005, 400) == 0  # four errors are told already
    error = 0.4 / np.sqrt(100)
    more = needed(0.05, error, 100)
    assert more == pytest.approx(100 * (2.8016 * error / 0.05) ** 2 - 100, abs=1.5)
    assert needed(-0.05, error, 100) == more
    assert needed(0.0, error, 100) is None
    random = np.random.default_rng(0)
    told = [paired(0.05 + 0.4 * random.normal(size=100 + more), np.zeros(100 + more)).p <= 0.05 for _ in range(600)]
    assert 0.75 <= np.mean(told) <= 0.85


def test_equal_models_are_seldom_called_better(benchmark: dict[str, Any]) -> None:
    """At most 6 % of 150 simulations, but for what chance does to so few of them."""
    for models in (2, 5):
        for n in (50, 300):
            assert max(benchmark["false_better"](n, models, 150)) <= 0.09


# --- selection


def test_the_best_of_many_is_worth_less_than_it_seems(benchmark: dict[str, Any]) -> None:
    plain, better, held, _ = benchmark["chosen"](100, 20, 0.0, 60)
    assert plain > 2.5
    assert abs(better) < 1.5
    assert held > 0.85


def test_a_corrected_figure_of_few_samples_is_no_surer_than_a_share() -> None:
    right = np.ones((2, 19))
    right[0, 3] = right[1, 3] = right[1, 5] = 0
    found = corrected(right)
    low, high = wilson(found["value"], 19)
    assert found["low"] < low + 0.03 and found["high"] > high - 0.02


def test_one_model_needs_no_correction() -> None:
    scores = np.random.default_rng(0).random((1, 60))
    found = corrected(scores)
    assert (found["value"], found["low"], found["high"]) == pytest.approx(of_mean(scores[0]))
    twins = corrected(np.repeat(scores, 5, axis=0))
    assert twins["value"] == pytest.approx(scores.mean(), abs=0.01)
    assert (twins["low"], twins["high"]) == pytest.approx((found["low"], found["high"]), abs=0.02)
    assert twins["n"] == 60
    with pytest.raises(ValueError, match="both choose and judge"):
        corrected(np.ones((3, 1)))
    assert corrected(np.array([[0.0, 1.0], [1.0, 0.0]]))["value"] <= 0.5


# --- thresholds


def test_thresholds_have_the_best_f1_and_lie_between_scores() -> None:
    predictions, targets = labels(200, 4)
    found = best_thresholds(predictions, targets)
    for label, threshold in enumerate(found):
        scores, truth = predictions[:, label], targets[:, label]
        best = max(sk.f1_score(truth, scores >= score) for score in scores)
        assert sk.f1_score(truth, scores > threshold) == pytest.approx(best)
        assert threshold not in scores
    few = np.zeros((200, 1))
    few[:4] = 1
    assert best_thresholds(predictions[:, :1], few) == [0.5]
    sure = np.repeat([[0.9], [0.1]], 10, axis=0)
    assert best_thresholds(sure, (sure > 0.5).astype(float)) == pytest.approx([0.5])
    assert best_thresholds(np.full((20, 1), 0.3), np.ones((20, 1))) == pytest.approx([0.15])
