"""Figures without labels have the values known for the check set; weighted losses are unbiased, or nothing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from check_set import check_set
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import softmax
from scipy.stats import entropy

from acclimate.metrics import unlabelled
from acclimate.metrics.unlabelled import (
    batch_nuclear,
    class_confusion,
    deep_embedded,
    effective,
    importance_weighted,
    importance_weights,
    information,
    neighbourhood,
    nuclear,
)

pytestmark = pytest.mark.filterwarnings("error")

Figure = Callable[[np.ndarray], float]

SET = check_set()
FIGURES: dict[Figure, float] = {
    class_confusion: 0.7698823340,
    information: 0.6741184750,
    batch_nuclear: 0.1984928292,
    neighbourhood: 1.6288834231,
    nuclear: 0.6276894396,
}


# --- predictions alone


@pytest.mark.parametrize("figure", FIGURES)
def test_values_of_the_check_set(figure: Figure, monkeypatch: pytest.MonkeyPatch) -> None:
    assert figure(SET.chances) == pytest.approx(FIGURES[figure], rel=2e-9)
    assert figure(SET.chances[::-1, ::-1]) == pytest.approx(FIGURES[figure], rel=2e-9)
    assert figure(SET.chances.astype(np.float32)) == pytest.approx(FIGURES[figure], rel=1e-5)
    monkeypatch.setattr(unlabelled, "CELLS", 200)  # a few rows at a time
    assert figure(SET.chances) == pytest.approx(FIGURES[figure], rel=2e-9)


def test_confusion_of_probabilities_is_that_of_their_logits_softened() -> None:
    soft = softmax(SET.logits / 2.5, axis=1)
    weights = 1 + np.exp(-entropy(soft, axis=1))
    together = (soft * (60 * weights / weights.sum())[:, None]).T @ soft
    shares = together / together.sum(axis=1, keepdims=True)
    assert class_confusion(SET.chances) == pytest.approx((shares.sum() - np.trace(shares)) / 6)


@pytest.mark.parametrize("classes", [2, 5])
def test_sure_and_balanced_predictions_are_best_and_equal_ones_worst(classes: int) -> None:
    best, worst = np.eye(classes)[np.arange(20) % classes], np.full((20, classes), 1 / classes)
    assert information(best) == pytest.approx(np.log(classes))
    assert information(worst) == pytest.approx(0, abs=1e-12)
    assert nuclear(best) == pytest.approx(1)
    assert batch_nuclear(best) == pytest.approx(np.sqrt(classes / 20))
    assert nuclear(worst) == pytest.approx(1 / classes)
    assert class_confusion(best) == pytest.approx(0, abs=1e-12)
    assert class_confusion(worst) == pytest.approx(1 - 1 / classes)


def test_collapse_has_the_best_neighbourhood_and_no_information() -> None:
    """Why neither may be trusted alone."""
    collapsed = np.eye(4)[np.zeros(20, dtype=int)]
    groups = np.eye(4)[np.arange(20) % 4]
    assert neighbourhood(collapsed) == pytest.approx(np.log(19))
    assert neighbourhood(groups) == pytest.approx(np.log(4), abs=1e-4)
    assert information(collapsed) == pytest.approx(0, abs=1e-12)
    assert class_confusion(collapsed) == 0  # classes that are never named are not confused


def test_one_sample() -> None:
    alone = np.array([[0.7, 0.3]])
    assert neighbourhood(alone) == 0
    assert information(alone) == pytest.approx(0, abs=1e-12)
    assert all(np.isfinite(figure(alone)) for figure in FIGURES)


@pytest.mark.parametrize("figure", FIGURES)
@pytest.mark.parametrize(
    "wrong",
    [
        SET.logits,
        SET.chances[0],
        np.zeros((0, 3)),
        np.zeros((3, 0)),
        np.array([[np.nan, 1.0]]),
        np.array([[2.0, -1.0]]),
        np.array([[0.5, 0.5], [0.5, 0.4]]),
    ],
)
def test_what_is_no_table_of_probabilities_is_refused(figure: Figure, wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match="probabilities"):
        figure(wrong)


@settings(max_examples=100)
@given(
    st.tuples(st.integers(1, 8), st.integers(1, 5)).flatmap(
        lambda shape: arrays(np.float64, shape, elements=st.floats(-1000, 1000))
    )
)
def test_figures_of_wild_predictions_lie_in_their_bounds(logits: np.ndarray) -> None:
    (n, classes), chances, near = logits.shape, softmax(logits, axis=1), 1e-9
    assert -near <= information(chances) <= np.log(classes) + near
    assert 0 < nuclear(chances) <= 1 + near
    assert batch_nuclear(chances) == pytest.approx(nuclear(chances) * np.sqrt(min(n, classes) / n))
    assert -near <= neighbourhood(chances) <= np.log(max(1, n - 1)) + near
    assert -near <= class_confusion(chances) <= 1


# --- losses, weighted


def shifted(n: int, seed: int = 0, shift: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(chances of the target, weights, losses) of samples from N(0, 1), the target N(shift, 1), the loss x squared."""
    x = np.random.default_rng(seed).normal(size=n)
    ratio = np.exp(shift * x - shift**2 / 2)
    return 2 * ratio / (1 + 2 * ratio), ratio, x**2


def test_weights_are_the_ratio_of_densities() -> None:
    # the classifier of domains saw twice as many samples of the target
    chances, ratio, _ = shifted(50)
    assert importance_weights(chances, sources=300, targets=600) == pytest.approx(ratio)
    extreme = importance_weights(np.array([0.0, 1.0, 0.5]), 100, 100)
    assert extreme == pytest.approx([0.001 / 0.999, 0.999 / 0.001, 1])


def test_weighted_losses_estimate_the_loss_in_the_target() -> None:
    """2 for x squared under N(1, 1), while it is 1 at the source; the control variate makes it more precise."""
    plain, controlled = [], []
    for seed in range(200):
        _, weights, losses = shifted(300, seed)
        assert losses.mean() < 1.5
        plain.append(importance_weighted(weights, losses))
        controlled.append(deep_embedded(weights, losses))
    assert np.mean(plain) == pytest.approx(2, abs=0.15)
    assert np.mean(controlled) == pytest.approx(2, abs=0.25)
    assert np.std(controlled) < 0.7 * np.std(plain)


def test_both_are_their_definitions() -> None:
    _, weights, losses = shifted(40)
    weights = 1.3 * weights
    assert importance_weighted(weights, losses) == pytest.approx(sum(weights * losses) / 40)
    covariance = np.cov(weights * losses, weights)
    eta = -covariance[0, 1] / covariance[1, 1]
    expected = (weights * losses).mean() + eta * weights.mean() - eta
    assert deep_embedded(weights, losses) == pytest.approx(expected)
    # which is not what comes of a column times a row, where nothing is weighted
    assert (weights[:, None] * losses).mean() == pytest.approx(weights.mean() * losses.mean())
    assert importance_weighted(weights, losses) > 1.2 * weights.mean() * losses.mean()


@pytest.mark.parametrize("weight", [1.0, 0.1, 3.7, 1e-12])
def test_equal_weights_control_nothing(weight: float) -> None:
    _, _, losses = shifted(40)
    weights = np.full(40, weight)
    expected = pytest.approx(weight * losses.mean())
    assert importance_weighted(weights, losses) == expected
    assert deep_embedded(weights, losses) == expected
    assert deep_embedded(weights * (1 + 1e-9 * losses), losses) == pytest.approx(weight * losses.mean(), rel=1e-6)


def test_equal_losses_are_the_loss_whatever_the_weights() -> None:
    _, weights, _ = shifted(40)
    assert deep_embedded(2 * weights, np.full(40, 0.7)) == pytest.approx(0.7)


@pytest.mark.parametrize("estimate", [importance_weighted, deep_embedded])
def test_nothing_is_said_where_few_samples_carry_the_weight(estimate: Callable) -> None:
    losses = np.linspace(0, 1, 100)
    assert estimate(np.where(np.arange(100) < 10, 1.0, 0.0), losses) is not None  # worth 10 of 100
    assert estimate(np.where(np.arange(100) < 9, 1.0, 0.0), losses) is None
    assert estimate(np.append(1000.0, np.ones(99)), losses) is None
    assert estimate(np.zeros(100), losses) is None
    assert estimate(shifted(100, shift=4)[1], losses) is None


@pytest.mark.parametrize("estimate", [importance_weighted, deep_embedded])
@pytest.mark.parametrize(
    ("weights", "losses"),
    [
        (np.ones((5, 1)), np.ones(5)),
        (np.ones(5), np.ones((5, 1))),
        (np.ones((5, 1)), np.ones((5, 1))),
        (np.ones(5), np.ones(4)),
        (np.ones(0), np.ones(0)),
        (np.array([1.0, -1.0]), np.ones(2)),
        (np.array([1.0, np.nan]), np.ones(2)),
        (np.array([1.0, np.inf]), np.ones(2)),
    ],
)
def test_what_does_not_pair_is_refused(estimate: Callable, weights: np.ndarray, losses: np.ndarray) -> None:
    with pytest.raises(ValueError, match="weight"):
        estimate(weights, losses)


def test_effective_number() -> None:
    assert effective(np.full(7, 0.3)) == pytest.approx(7)
    assert effective(np.array([0.0, 5.0, 0.0])) == 1
    assert effective(np.array([3.0, 1.0])) == pytest.approx(16 / 10)
    assert effective(np.zeros(4)) == effective(np.zeros(0)) == 0


@given(arrays(np.float64, st.integers(1, 20), elements=st.floats(0, 1e308)), st.floats(1e-3, 1))
def test_effective_number_of_wild_weights(weights: np.ndarray, scale: float) -> None:
    found = effective(weights)
    assert found == 0 if not weights.any() else 1 - 1e-9 <= found <= len(weights) + 1e-9
    if weights.max() > 1e-300:
        assert effective(weights * scale) == pytest.approx(found, rel=1e-6)
    assert effective(np.concatenate([weights, weights])) == pytest.approx(2 * found)


@given(
    arrays(np.float64, 12, elements=st.floats(0, 1e6)),
    arrays(np.float64, 12, elements=st.floats(0, 1e6)),
)
def test_wild_weights_give_a_number_or_nothing(weights: np.ndarray, losses: np.ndarray) -> None:
    for found in (importance_weighted(weights, losses), deep_embedded(weights, losses)):
        assert (found is None) == (effective(weights) < 1.2)
        assert found is None or np.isfinite(found)
