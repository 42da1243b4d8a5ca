"""Temperature, calibration error and reliability: values that are known, and intervals that are honest about few samples."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
from check_set import check_set
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_softmax, softmax
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression

from acclimate.metrics.calibration import (
    Answers,
    Scale,
    chances,
    ece,
    error_of,
    kept,
    kept_scale,
    logits,
    loss_of,
    reliability,
    scale,
    temperature,
)
from acclimate.metrics.classification import losses, several_losses

pytestmark = pytest.mark.filterwarnings("error")


def known() -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of the check set, and labels that they get right two times out of three."""
    found = check_set().chances
    best = found.argmax(axis=1)
    return found, np.where(np.arange(60) % 3 == 0, (best + 1) % 6, best)


def drawn(n: int, classes: int, heat: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(probabilities, classes drawn from them once they are divided by the temperature `heat`, the probability that the first is right)."""
    random = np.random.default_rng(seed)
    scores = 3 * random.normal(size=(n, classes))
    true, said = softmax(scores, axis=1), softmax(scores * heat, axis=1)
    targets = (true.cumsum(axis=1) > random.random((n, 1))).argmax(axis=1)
    return said, targets, true[np.arange(n), said.argmax(axis=1)]


def several(n: int, labels: int, heat: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    scores = 2 * random.normal(size=(n, labels)) - 1
    return expit(scores * heat), (random.random((n, labels)) < expit(scores)).astype(np.float32)


def plain_ece(confidence: np.ndarray, right: np.ndarray) -> float:
    """As it is usually written (Guo et al. 2017)."""
    edges, found = np.linspace(0, 1, 16), 0.0
    for low, high in pairwise(edges):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            found += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return found


# --- temperature


def test_the_temperature_of_the_check_set() -> None:
    probabilities, targets = known()
    scores = logits(probabilities, several=False)
    heat = temperature(scores, targets)
    assert heat == pytest.approx(1.4518267, abs=1e-7)
    assert losses(probabilities, targets).mean() == pytest.approx(1.4164026, abs=5e-8)
    assert losses(chances(scores, False, heat), targets).mean() == pytest.approx(1.3653644, abs=5e-8)


@pytest.mark.parametrize("heat", [0.5, 1.0, 2.0])
def test_a_temperature_is_found_again_for_classes_and_for_labels(heat: float) -> None:
    said, targets, _ = drawn(20_000, 6, heat)
    assert temperature(logits(said, False), targets) == pytest.approx(heat, rel=0.05)
    said, hot = several(10_000, 4, heat)
    scores = logits(said, True)
    found = temperature(scores, hot, several=True)
    assert found == pytest.approx(heat, rel=0.05)
    least = minimize_scalar(
        lambda u: several_losses(expit(scores * u), hot).mean(), bounds=(0.05, 20), method="bounded"
    )
    assert found == pytest.approx(1 / least.x, rel=1e-4)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 40), st.integers(2, 9), st.floats(0.01, 200))
def test_no_temperature_has_a_lower_loss(seed: int, n: int, classes: int, scale: float) -> None:
    random = np.random.default_rng(seed)
    scores = log_softmax(scale * random.normal(size=(n, classes)), axis=1)
    targets = random.integers(classes, size=n)
    found = temperature(scores, targets)
    assert 0.05 - 1e-9 <= found <= 20 + 1e-9

    def loss(heat: float) -> float:
        return -log_softmax(scores / heat, axis=1)[np.arange(n), targets].mean()

    assert all(
        loss(found) <= loss(heat) + 1e-9
        for heat in (0.05, 0.3, 0.9 * found, 1.0, 1.1 * found, 20.0)
        if 0.05 <= heat <= 20
    )


def test_ends_of_the_range_and_no_need_of_a_temperature() -> None:
    sure = np.log(np.array([[0.9, 0.1], [0.2, 0.8]]))
    assert temperature(sure, np.array([0, 1])) == pytest.approx(1 / 20)  # all right
    assert temperature(sure, np.array([1, 0])) == pytest.approx(1 / 0.05)  # all wrong
    assert temperature(sure, np.array([0, 1]), bounds=(0.2, 5)) == pytest.approx(1 / 5)
    assert temperature(np.log(np.full((4, 2), 0.5)), np.array([0, 1, 1, 1])) == 1
    assert 0.05 < temperature(sure, np.array([0, 1]), prior=1) < 1  # two right ones are no proof of certainty


def test_a_temperature_is_kept_where_it_holds_out_of_fold() -> None:
    said, targets, _ = drawn(400, 6, heat=1.7)
    assert kept(logits(said, False), targets) == pytest.approx(1.7, rel=0.2)
    hot_said, hot = several(200, 4, heat=1.7)
    assert kept(logits(hot_said, True), hot, several=True) == pytest.approx(1.7, rel=0.2)
    alike = [
        kept(logits(said, False), targets) for said, targets, _ in (drawn(100, 6, seed=seed) for seed in range(40))
    ]
    assert np.mean(np.array(alike) == 1) > 0.6  # the rest by chance
    assert kept(np.zeros((3, 2)), np.array([0, 1, 1])) == 1


def test_a_few_samples_that_are_all_right_do_not_make_certain() -> None:
    scores = np.log(np.full((20, 2), [0.8, 0.2]))
    assert temperature(scores, np.zeros(20, dtype=int)) == 0.05
    sure = chances(scores, False, kept(scores, np.zeros(20, dtype=int)))[0, 0]
    assert 0.8 < sure < 0.995


# --- scores of things found


def found_things(n: int, heat: float = 1.0, offset: float = 0.0, seed: int = 0) -> Answers:
    """About 8 things found in each of `n` samples, right with the chance that is left when their scores are brought to this scale."""
    random = np.random.default_rng(seed)
    owner = np.repeat(np.arange(n), random.integers(1, 16, n))
    scores = expit(2 * random.normal(size=len(owner)) - 1)
    return Answers(scores, random.random(len(owner)) < Scale(heat, offset).of(scores), owner)


def test_a_scale_is_found_again_and_is_logistic_regression() -> None:
    made = found_things(4000, 0.6, 1.2)
    found = scale(made)
    assert found.temperature == pytest.approx(0.6, rel=0.05)
    assert found.offset == pytest.approx(1.2, abs=0.1)
    odds = np.log(made.confidence / (1 - made.confidence))[:, None]
    known = LogisticRegression(C=np.inf, tol=1e-10).fit(odds, made.right)
    assert 1 / found.temperature == pytest.approx(known.coef_.item(), rel=1e-3)
    assert found.offset == pytest.approx(known.intercept_.item(), rel=1e-3)


@given(st.floats(0.05, 20), st.floats(-5, 5), st.lists(st.floats(0, 1, width=32), min_size=1, max_size=20))
def test_a_scale_keeps_the_order_and_can_be_taken_back(heat: float, offset: float, scores: list[float]) -> None:
    before = np.sort(np.array(scores, dtype=np.float32))
    after = Scale(heat, offset).of(before)
    assert (np.diff(after) >= 0).all()
    assert (after >= 0).all() and (after <= 1).all()
    inner = (after > 1e-6) & (after < 1 - 1e-6) & (before > 1e-6) & (before < 1 - 1e-6)
    assert Scale(heat, offset).back(after)[inner] == pytest.approx(before[inner], rel=1e-6)


def test_a_scale_is_kept_where_it_holds_out_of_fold() -> None:
    made = found_things(60, 0.5, 1.0)
    kept = kept_scale(made)
    assert kept == scale(made)
    new = found_things(500, 0.5, 1.0, seed=1)
    before, after = (loss_of(new._replace(confidence=one.of(new.confidence)), 500) for one in (Scale(), kept))
    assert after["high"] < before["low"]
    assert (
        np.mean([kept_scale(found_things(20, seed=seed)) == Scale() for seed in range(40)]) > 0.6
    )  # the rest by chance
    assert kept_scale(found_things(4, 0.5)) == Scale()
    all_right = made._replace(right=np.ones(len(made.right), dtype=bool))
    assert kept_scale(all_right).of(np.array(0.999)) < 1


# --- calibration error


def test_calibration_error_of_the_check_set() -> None:
    assert ece(*known())["value"] == pytest.approx(0.1647277697, abs=1e-10)


@pytest.mark.parametrize("decimals", [1, 7])
def test_calibration_error_is_the_usual_one(decimals: int) -> None:
    said, targets, _ = drawn(300, 4, heat=2)
    said = said.round(decimals).astype(np.float32)
    assert ece(said, targets)["value"] == pytest.approx(
        plain_ece(said.max(axis=1), said.argmax(axis=1) == targets), abs=1e-6
    )
    said, hot = several(150, 5, heat=2)
    assert ece(said, hot)["value"] == pytest.approx(plain_ece(said.ravel(), hot.ravel()))


def test_reliability_is_scikit_learns_curve_with_intervals() -> None:
    said, targets, _ = drawn(500, 4, heat=2)
    bins = reliability(said, targets)
    right, confidence = calibration_curve(said.argmax(axis=1) == targets, said.max(axis=1), n_bins=15)
    assert [one["confidence"] for one in bins] == pytest.approx(confidence)
    assert [one["accuracy"]["value"] for one in bins] == pytest.approx(right)
    assert sum(one["accuracy"]["n"] for one in bins) == 500
    assert all(one["low"] < one["confidence"] <= one["high"] for one in bins)
    assert all(one["accuracy"]["low"] <= one["accuracy"]["value"] <= one["accuracy"]["high"] for one in bins)
    assert json.loads(json.dumps(bins)) == bins
    error = sum(one["accuracy"]["n"] * abs(one["accuracy"]["value"] - one["confidence"]) for one in bins) / 500
    assert error == pytest.approx(ece(said, targets)["value"])


def test_calibrated_answers_reach_zero_and_others_do_not() -> None:
    for n, least in ((50, 0.05), (1500, 0.01)):
        calibrated = [ece(*drawn(n, 6, seed=seed)[:2]) for seed in range(40)]
        assert np.mean([one["value"] for one in calibrated]) > least  # too high, as it is known to be
        assert np.mean([one["low"] == 0 for one in calibrated]) > 0.87
    off = ece(*drawn(1500, 6, heat=3)[:2])
    assert 0.05 < off["low"] < off["value"] < off["high"]


def test_all_right_is_not_certainly_calibrated() -> None:
    found = ece(np.full((50, 2), [0.99, 0.01]), np.zeros(50, dtype=int))
    assert found["value"] == pytest.approx(0.01)
    assert found["low"] == 0
    assert found["high"] > 0.04  # accuracy may well be 95 %


@pytest.mark.parametrize(("n", "heat"), [(50, 1.5), (200, 0.6)])
def test_intervals_cover_the_error_of_the_population(n: int, heat: float) -> None:
    said, _, right = drawn(200_000, 6, heat)
    truth = plain_ece(said.max(axis=1), right)
    found = [ece(*drawn(n, 6, heat, seed=1 + seed)[:2]) for seed in range(120)]
    assert 0.88 <= np.mean([one["low"] <= truth <= one["high"] for one in found]) <= 0.995


def test_answers_of_one_sample_count_as_fewer() -> None:
    said, hot = several(60, 1, heat=2)
    alone = ece(said, hot)
    together = ece(np.repeat(said, 10, axis=1), np.repeat(hot, 10, axis=1))  # ten labels that are always equal
    assert together["value"] == pytest.approx(alone["value"])
    assert (together["low"], together["high"]) == pytest.approx((alone["low"], alone["high"]), abs=0.01)
    assert together["n"] == 60


def test_one_answer_and_none() -> None:
    found = ece(np.array([[0.7, 0.3]]), np.array([1]))
    assert found["value"] == pytest.approx(0.7)
    assert found["low"] <= 0.7 <= found["high"]
    none = Answers(np.zeros(0), np.zeros(0, bool), np.zeros(0, int))
    assert np.isnan(error_of(none, 0)["value"])
    assert np.isnan(loss_of(none, 0)["value"])
    assert kept_scale(none) == Scale()
