"""Figures equal scikit-learn's; their intervals cover the truth as often as they say."""

from __future__ import annotations

import time
import warnings

import numpy as np
import pytest
import sklearn.metrics as sk
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from acclimate.metrics.classification import SINGLE, f1_scores, figures, losses, several, several_losses
from acclimate.metrics.intervals import bca, normal, of_mean, of_sums, paired, wilson

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
            assert figure["low"] == pytest.approx(wilson(1, 30)[0]), name


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


def test_average_precision_has_the_error_that_resampling_gives() -> None:
    predictions, targets = labels(300, 3, decimals=1)
    found = figures(several(), predictions, targets, ["mean_average_precision"])["mean_average_precision"]
    random = np.random.default_rng(3)
    again = []
    for _ in range(300):
        rows = random.integers(300, size=300)
        again.append(np.mean([sk.average_precision_score(targets[rows, k], predictions[rows, k]) for k in range(3)]))
    assert (found["high"] - found["low"]) / (2 * 1.96) == pytest.approx(np.std(again), rel=0.15)


def test_macro_f1_of_many_classes_with_few_samples_has_a_sane_interval() -> None:
    """Replicates lack classes, so that all of them lie on one side of the figure."""
    predictions, targets = one_class(600, 300, signal=3)
    found = figures(SINGLE, predictions, targets, ["macro_f1"])["macro_f1"]
    assert 0.01 < found["value"] - found["low"] == pytest.approx(found["high"] - found["value"])


@pytest.mark.parametrize("name", ["accuracy", "balanced_accuracy", "macro_f1", "log_loss"])
def test_intervals_cover_the_truth(name: str) -> None:
    """Of 95 % intervals on 150 samples, at least 90 and at most 99.5 % hold the figure of the whole population."""
    predictions, targets = one_class(45_000, 4)
    truth = figures(SINGLE, predictions, targets, [name])[name]["value"]
    parts = np.array_split(np.arange(45_000), 300)
    found = [figures(SINGLE, predictions[part], targets[part], [name])[name] for part in parts]
    covered = np.mean([figure["low"] <= truth <= figure["high"] for figure in found])
    assert 0.9 <= covered <= 0.995


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
