"""Tests of two samples, estimates without labels and class shares: known values, what they must not do, and what they tell apart."""

from __future__ import annotations

import numpy as np
import pytest
from check_set import check_set
from hypothesis import given
from hypothesis import strategies as st

from acclimate.core.errors import UserError
from acclimate.metrics import expected, mismatch, shares, two_samples
from acclimate.metrics.classification import losses
from acclimate.metrics.expected import Labelled
from acclimate.metrics.metric import Metric


@pytest.fixture
def sides() -> tuple[np.ndarray, np.ndarray]:
    """Squared distances and the columns of `two_samples.sides` for the samples of two classes of the check set, 20 each."""
    features, targets, *_ = check_set()
    both = np.concatenate([features[targets == 0], features[targets == 1]])
    products = two_samples.gram(both - both.mean(axis=0))
    return two_samples.squared_distances(products), two_samples.sides(20, 20, 19, 0)


def test_the_mean_discrepancy_of_the_check_set(sides: tuple[np.ndarray, np.ndarray]) -> None:
    distances, second = sides
    assert np.median(distances[np.triu_indices(40, 1)]) == pytest.approx(8.8139996620)
    assert distances.mean() == pytest.approx(8.3213323805)
    assert distances.sum() / (40 * 39) == pytest.approx(8.5346998774)
    kernels = two_samples.kernel(distances, widest=1, kernels=1)
    assert two_samples.mmd(kernels, second)[0] == pytest.approx(0.4399965261)


def test_the_mean_discrepancy_of_three_kernels(sides: tuple[np.ndarray, np.ndarray]) -> None:
    """As TLLib has it: a sum, by the mean distance and not by the median, to which its loss adds a constant."""
    distances, second = sides
    share = distances.mean() / np.median(distances[np.triu_indices(40, 1)])
    found = 3 * two_samples.mmd(two_samples.kernel(distances, widest=4 * share, kernels=3), second)[0]
    assert found == pytest.approx(0.9780692967, rel=2e-9)
    assert found + 2 / 19 == pytest.approx(1.0833324546, rel=2e-9)


def test_all_permutations_at_once_are_the_same_as_one_by_one(sides: tuple[np.ndarray, np.ndarray]) -> None:
    distances, second = sides
    kernels = two_samples.kernel(distances)
    for column in (1, 7):
        ours, theirs = np.flatnonzero(second[:, column] == 0), np.flatnonzero(second[:, column] == 1)
        within = [kernels[np.ix_(own, own)] for own in (ours, theirs)]
        means = [(one.sum() - np.trace(one)) / (len(one) * (len(one) - 1)) for one in within]
        value = sum(means) - 2 * kernels[np.ix_(ours, theirs)].mean()
        assert two_samples.mmd(kernels, second)[column] == pytest.approx(value)


def test_leaving_one_out_in_closed_form_is_the_same_as_fitting_anew() -> None:
    features = two_samples.standardised(np.random.default_rng(0).normal(size=(14, 30)))
    products, second = two_samples.gram(features), two_samples.sides(7, 7, 3, 0)
    found = two_samples.classifier_test(products, second).scores
    centred = features - features.mean(axis=0)
    penalty = np.trace(centred @ centred.T) / 14
    for place in range(14):
        rest = np.arange(14) != place
        # the intercept is not penalised and the features are centred on all, as in the closed form
        design = np.column_stack([np.ones(14), centred])
        ridge = design[rest].T @ design[rest] + penalty * np.diag([0.0] + [1.0] * 30)
        weights = np.linalg.solve(ridge, design[rest].T @ second[rest, 0])
        assert found[place] == pytest.approx(design[place] @ weights, abs=1e-8)


def test_areas_under_the_curve_equal_scikit_learns() -> None:
    from sklearn.metrics import roc_auc_score

    second = two_samples.sides(30, 20, 4, 1)
    scores = np.random.default_rng(0).normal(size=(50, 5)) + second
    found = two_samples.areas(scores, second)
    assert found == pytest.approx([roc_auc_score(second[:, i], scores[:, i]) for i in range(5)])


@given(st.integers(0, 10**6), st.integers(2, 40), st.integers(2, 40), st.integers(1, 30))
def test_no_p_is_ever_0_and_no_figure_is_none(seed: int, n: int, m: int, width: int) -> None:
    draw = np.random.default_rng(seed)
    ours, theirs = draw.normal(size=(n, width)).round(1), draw.normal(size=(m, width)).round(1) + 5
    found = mismatch.gate(ours, theirs, seed, permutations=19)
    assert 0 < found.p <= 1
    assert 0 <= found.told.distance["low"] <= found.told.distance["value"] <= found.told.distance["high"] <= 2
    assert np.isfinite(found.told.scores).all()
    assert np.isfinite(found.mean.value)


def test_equal_samples_are_no_shift_even_where_all_are_the_same() -> None:
    assert mismatch.gate(np.ones((20, 3)), np.ones((20, 3))).p == 1


def test_sides_of_unequal_size_are_compared_evenly() -> None:
    """One cut into two, without balance, would tell 300 from 100 samples of one distribution by their number."""
    x = np.random.default_rng(0).normal(size=(400, 40))
    found = mismatch.gate(x[:300], x[300:])
    assert not found.shifted
    assert found.told.distance["value"] < 0.4


def test_false_alarms_are_as_rare_as_said_and_a_shift_is_seen() -> None:
    draw = np.random.default_rng(0)
    quiet = [mismatch.gate(*draw.normal(size=(2, 20, 60)), seed=i, permutations=99).p for i in range(200)]
    assert 0.01 <= np.mean(np.array(quiet) <= 0.05) <= 0.08
    loud = [mismatch.gate(draw.normal(size=(20, 60)), draw.normal(size=(20, 60)) + 1, i, 99).p for i in range(20)]
    assert max(loud) <= 0.05


def test_corrected_p_values() -> None:
    assert two_samples.corrected([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.04, 0.04])
    assert two_samples.corrected([]) == []


# --- accuracy without labels


def answers() -> Labelled:
    """Labels that the check set's probabilities get right two times out of three."""
    chances = check_set().chances
    best = chances.argmax(axis=1)
    return Labelled(chances, np.where(np.arange(60) % 3 == 0, (best + 1) % 6, best))


def test_estimates_of_the_check_set() -> None:
    held = answers()
    assert held.accuracy == pytest.approx(2 / 3)
    assert expected.temperature(held) == pytest.approx(1.4518267, abs=1e-6)
    first, rest = Labelled(held.chances[:30], held.targets[:30]), held.chances[30:]
    assert expected.confidence_difference(first, rest) == pytest.approx(0.6599093949)
    assert expected.over_threshold(first, rest, expected.certainty) == pytest.approx(0.6333333333)
    ordered = np.sort(expected.certainty(first.chances))
    # the published threshold; ours is midway to the one below
    assert ordered[10] == pytest.approx(-1.2847610306, rel=2e-9)
    assert expected.threshold(first, expected.certainty) == pytest.approx((ordered[9] + ordered[10]) / 2)


def test_a_temperature_lowers_the_loss_of_the_check_set() -> None:
    held = answers()
    heated = expected.tempered(held.chances, expected.temperature(held))
    assert losses(held.chances, held.targets).mean() == pytest.approx(1.4164026, rel=5e-8)
    assert losses(heated, held.targets).mean() == pytest.approx(1.3653644, rel=5e-8)


@pytest.mark.parametrize("score", [expected.odds, expected.certainty])
def test_a_classifier_without_a_fault_is_not_thought_to_have_only_faults(score: object) -> None:
    chances = np.eye(3)[[0, 1, 2, 1]] * 0.94 + 0.02
    held = Labelled(chances, np.array([0, 1, 2, 1]))
    assert expected.over_threshold(held, chances, score) == 1  # type: ignore[arg-type]


def test_half_right_and_told_apart_by_confidence_is_half() -> None:
    sure, unsure = [0.9, 0.1], [0.6, 0.4]
    held = Labelled(np.array([sure, unsure] * 10), np.array([0, 1] * 10))
    assert expected.over_threshold(held, held.chances) == 0.5


def test_probabilities_of_exactly_one_do_not_break_an_estimate() -> None:
    held = Labelled(np.eye(2)[[0, 1, 0, 1]], np.array([0, 1, 1, 0]))
    assert all(np.isfinite(value) for value in expected.estimates(held, held.chances).values())


def test_transport_is_the_best_assignment() -> None:
    from scipy.optimize import linear_sum_assignment

    chances = np.random.default_rng(0).dirichlet(np.ones(3), 12)
    labels = np.repeat([0, 1, 2], [6, 4, 2])
    rows, columns = linear_sum_assignment(-chances[:, labels])
    found = expected.transport(chances, np.array([6, 4, 2]) / 12)
    assert found == pytest.approx(chances[:, labels][rows, columns].mean())


def test_on_samples_like_the_held_out_ones_estimates_are_their_accuracy() -> None:
    held = answers()
    for value in expected.estimates(held, held.chances).values():
        assert value == pytest.approx(held.accuracy, abs=0.02)


@pytest.mark.parametrize(
    ("said", "there", "n", "least"),
    [(0.92, 0.30243, 300, 0.5671), (0.92, 0.30243, 30, 0.4578), (0.9, 0.88, 40, 0.0), (1.0, 0.0, 10, 1.0)],
)
def test_the_least_drop_is_what_the_numbers_of_samples_leave(said: float, there: float, n: int, least: float) -> None:
    metric = Metric(value=said, low=said - 0.05, high=said, n=n)
    found = mismatch.Expected(metric, {expected.ALARM: there}, samples=n)
    assert found.least == pytest.approx(least, abs=2e-4)
    assert found.json()["at least lower by"] == (found.least if said - there >= 0.1 else None)


# --- class shares


def test_shares_of_the_check_set() -> None:
    found = shares.by_expectation(check_set().chances, np.array([0.3, 0.2, 0.1, 0.1, 0.1, 0.2]), 1e-12)
    known = [0, 0.0588246860, 0.2655933307, 0.2385832139, 0.3255019869, 0.1114967825]
    assert found == pytest.approx(known, abs=1e-8)
    joint = np.array([[0.25, 0.03, 0.02], [0.03, 0.20, 0.04], [0.02, 0.07, 0.34]])
    solved = shares.solved(joint, np.array([0.20, 0.25, 0.55]), 100, 20)
    assert solved.weights == pytest.approx([0.5819774718, 0.8823529412, 1.4017521902])
    assert solved.shares == pytest.approx([0.1745932416, 0.2647058824, 0.5607008761])
    assert solved.smallest == pytest.approx(0.1746846190)
    assert solved.reliable
    assert not shares.solved(joint, np.array([0.20, 0.25, 0.55]), 30, 20).reliable


def drawn(n: int, of: np.ndarray, seed: int, skew: float = 1.0) -> Labelled:
    """Labels in the shares `of` and a classifier whose temperature and bias are off."""
    draw = np.random.default_rng(seed)
    targets = draw.choice(len(of), n, p=of)
    logits = 2.5 * np.eye(len(of))[targets] + draw.normal(size=(n, len(of)))
    logits = (2.5 * logits) * skew + np.array([0.5, 0, -0.5])
    made = np.exp(logits - logits.max(axis=1, keepdims=True))
    return Labelled(made / made.sum(axis=1, keepdims=True), targets)


def test_changed_shares_are_found_in_spite_of_bad_calibration() -> None:
    held, other = drawn(2000, np.ones(3) / 3, 0), drawn(3000, np.array([0.7, 0.25, 0.05]), 1)
    found = mismatch.share(held, other.chances, held.targets)
    assert found.likeliest == pytest.approx([0.7, 0.25, 0.05], abs=0.03)
    assert found.confused.shares == pytest.approx([0.7, 0.25, 0.05], abs=0.03)
    assert found.reliable
    assert found.apart == pytest.approx(0.37, abs=0.03)


def test_reweighed_probabilities_follow_the_shares() -> None:
    held, other = drawn(2000, np.ones(3) / 3, 0), drawn(3000, np.array([0.9, 0.05, 0.05]), 1)
    calibration = shares.calibrated(held)
    made = shares.reweighed(calibration(other.chances), np.ones(3) / 3, np.array([0.9, 0.05, 0.05]))
    assert (made.argmax(1) == other.targets).mean() > other.accuracy + 0.005


@pytest.mark.parametrize(
    ("said", "about"),
    [
        ({"a": 0.5, "b": 0.6}, "shares that sum to 1.1"),
        ({"a": 0.5, "c": 0.5}, "class 'c'"),
        ({"a": 1.5, "b": -0.5}, "a: 1.5"),
    ],
)
def test_shares_that_cannot_be_are_told(said: dict[str, float], about: str) -> None:
    with pytest.raises(UserError, match=f"^--target-shares FILE: {about}"):
        shares.declared(said, ["a", "b"], "--target-shares FILE")


# --- which kind


def samples(of: np.ndarray, n: int, seed: int, moved: float = 0.0) -> tuple[np.ndarray, Labelled]:
    """Features that tell three classes apart, and a classifier's answers for them."""
    draw = np.random.default_rng(seed)
    targets = draw.choice(3, n, p=of)
    features = draw.normal(size=(n, 20)) + 3 * np.eye(3, 20)[targets]
    features[:, 10:] += moved
    logits = 3 * features[:, :3]
    made = np.exp(logits - logits.max(axis=1, keepdims=True))
    return features, Labelled(made / made.sum(axis=1, keepdims=True), targets)


EVEN, SKEWED = np.ones(3) / 3, np.array([0.8, 0.15, 0.05])


@pytest.mark.parametrize(("of", "moved", "kind"), [(EVEN, 0.0, "none"), (SKEWED, 0.0, "shares"), (EVEN, 1.0, "looks")])
def test_class_shares_and_looks_are_told_apart(of: np.ndarray, moved: float, kind: str) -> None:
    source, held = samples(EVEN, 900, 0)
    target, other = samples(of, 600, 1, moved)
    found = mismatch.mismatch(source, held.targets, target, [held], [other.chances])
    assert found.kind == kind
    assert found.verdict == ("no_shift" if kind == "none" else "shift_no_drop")
    assert found.expected is not None
    assert found.expected.source["value"] == pytest.approx(held.accuracy)
    assert all(value == pytest.approx(other.accuracy, abs=0.03) for value in found.expected.by.values())


@pytest.mark.parametrize(
    ("kind", "fewest", "target", "confused", "reliable"),
    [
        ("shares", 100, True, True, True),
        ("shares", 3, True, False, False),
        ("none", 100, True, True, True),
        ("looks", 100, False, False, False),
        ("unknown", 100, False, False, False),
    ],
)
def test_shares_that_cannot_be_told_are_not_given(
    kind: mismatch.Kind, fewest: int, target: bool, confused: bool, reliable: bool
) -> None:
    matrix = shares.Confused(np.ones(3), EVEN, 0.2, 0.1, fewest)
    said = mismatch.Shares(EVEN, EVEN, matrix, EVEN).json(["a", "b", "c"], kind)
    assert (said["target"] is not None, said["by confusion"] is not None) == (target, confused)
    assert said["reliable"] == reliable
    assert said["smallest singular value"] == 0.2


def test_of_too_few_samples_it_cannot_be_told() -> None:
    source, held = samples(EVEN, 30, 0)
    target, other = samples(np.array([0.98, 0.01, 0.01]), 40, 1)
    found = mismatch.mismatch(source, held.targets, target, [held], [other.chances])
    assert found.kind in ("unknown", "shares")


def test_samples_are_drawn_in_the_shares_that_are_asked() -> None:
    targets = np.repeat([0, 1, 2], [100, 60, 40])
    rows = mismatch.drawn(targets, np.array([0.5, 0.5, 0.0]), 1000, 0)
    assert np.bincount(targets[rows], minlength=3).tolist() == [60, 60, 0]
