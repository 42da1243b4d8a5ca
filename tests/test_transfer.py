"""Scores of transfer have the values known for the check set, equal plain definitions, and bear any input."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
from check_set import check_set
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import optimize, stats
from sklearn.covariance import ledoit_wolf
from sklearn.metrics import mutual_info_score
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier

from acclimate.metrics import transfer
from acclimate.metrics.transfer import (
    PENALTIES,
    gbc,
    h_score,
    leep,
    log_evidence,
    log_evidences,
    nce,
    nearest,
    ridge_loo,
    transrate,
)

pytestmark = pytest.mark.filterwarnings("error")

Score = Callable[[np.ndarray, np.ndarray], float]

SET = check_set()
OF_FEATURES: list[Score] = [log_evidence, nearest, lambda f, y: ridge_loo(f, y).accuracy, h_score, gbc, transrate]
OF_CHANCES: list[Score] = [leep, nce]


def drawn(n: int, width: int, classes: int, seed: int = 0, signal: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Features of unequal spread with class means, and unbalanced classes; every class occurs twice."""
    random = np.random.default_rng(seed)
    targets = np.concatenate([np.arange(classes), np.arange(classes), random.integers(classes, size=n)])[:n]
    targets = np.minimum(targets, random.permutation(targets)) if n > 4 * classes else targets
    means = signal * random.normal(size=(classes, width))
    return (random.normal(size=(n, width)) + means[targets]) * np.geomspace(3, 0.1, width), targets


def turned(width: int) -> np.ndarray:
    """A rotation, [width, width]."""
    return stats.ortho_group.rvs(width, random_state=0)


# --- known values


def test_the_check_set_is_the_one_that_the_values_belong_to() -> None:
    assert SET.features[0, :3] == pytest.approx([0.7779671015, 0.5570053533, 0.5002432145], rel=1e-9)
    assert SET.chances[0, :2] == pytest.approx([0.1380648731, 0.0662046107], rel=1e-9)


@pytest.mark.parametrize(
    ("score", "value"),
    [
        (lambda: log_evidence(SET.features, SET.targets), -0.3145042974),
        (lambda: log_evidence(*check_set(200, 16, 4)[:2]), -0.4563287005),
        (lambda: leep(SET.chances, SET.targets), -0.7456569707),
        (lambda: nce(SET.chances, SET.targets), -0.3940162574),
        # the covariance is over n, that of the means over n - 1; the plain score has n - 1 in both
        (lambda: h_score(SET.features, SET.targets, shrinkage=0) * 59 / 60, 1.9113704021),
        (lambda: h_score(SET.features, SET.targets), 1.5511937889),
        (lambda: h_score(SET.features, SET.targets, shrinkage=0.1714402353), 1.5511937889),
        (lambda: transrate(SET.features, SET.targets), 10.6122433943),
        (lambda: gbc(SET.features, SET.targets, spherical=False), -3.35794643e-5),
        (lambda: gbc(SET.features, SET.targets), -2.0097742627),
    ],
)
def test_values_of_the_check_set(score: Callable[[], float], value: float) -> None:
    # as many digits as the values are known to
    assert score() == pytest.approx(value, rel=2e-9)


def test_evidence_of_each_class_of_the_check_set() -> None:
    expected = [0.05202028, -0.31847577, -0.67705740]
    assert log_evidences(SET.features, SET.targets) == pytest.approx(expected, abs=6e-9)


# --- evidence


def iterated(
    features: np.ndarray,
    targets: np.ndarray,
    eps: float = 0.0,
    empty: bool = True,
    tries: int = 11,
    within: float = 1e-3,
) -> float:
    """LogME by the fixed point of You et al. (JMLR 2022); their code has eps 1e-5 and leaves `empty` directions out."""
    (n, width), found = features.shape, []
    left, values, _ = np.linalg.svd(features, full_matrices=False)
    for each in np.unique(targets):
        y = (targets == each).astype(float)
        squares, along = values**2, (left.T @ y) ** 2
        rest, ratio = y @ y - along.sum(), 1.0
        for _ in range(tries):
            gamma = (squares / (squares + ratio)).sum()
            size = (squares * along / (ratio + squares) ** 2).sum()
            misfit = (along * ratio**2 / (ratio + squares) ** 2).sum() + rest
            weight, noise = gamma / (size + eps), (n - gamma) / (misfit + eps)
            last, ratio = ratio, weight / noise
            if abs(ratio - last) / last <= within:
                break
        log_determinant = np.log(weight + noise * squares).sum() + empty * (width - len(values)) * np.log(weight)
        total = width * np.log(weight) + n * np.log(noise / 2 / np.pi)
        found.append((total - log_determinant - noise * misfit - weight * size) / 2 / n)
    return float(np.mean(found))


def first_published(features: np.ndarray, targets: np.ndarray, eps: float = 1e-5) -> float:
    """LogME by the iteration of You et al. (ICML 2021) as in their code; others have it with eps 0."""
    (n, width), found = features.shape, []
    squares, right = np.linalg.eigh(features.T @ features)
    for each in np.unique(targets):
        y, weight, noise, ratio = (targets == each).astype(float), 1.0, 1.0, 1.0
        for _ in range(11):
            gamma = (squares / (squares + ratio)).sum()
            mean = right @ (right.T @ (features.T @ y) * noise / (weight + noise * squares))
            size, misfit = mean @ mean + eps, ((y - features @ mean) ** 2).sum() + eps
            weight, noise = gamma / size, (n - gamma) / misfit
            last, ratio = ratio, weight / noise
            if abs(ratio - last) / last < 0.01:
                break
        total = width * np.log(weight) + n * np.log(noise / 2 / np.pi) - np.log(weight + noise * squares).sum()
        found.append((total - noise * misfit - weight * size) / 2 / n)
    return float(np.mean(found))


def test_evidence_is_what_an_exact_iteration_ends_at() -> None:
    for data in (SET, check_set(200, 16, 4)):
        exact = iterated(data.features, data.targets, tries=10_000, within=1e-14)
        assert log_evidence(data.features, data.targets) == pytest.approx(exact, rel=1e-12)


def test_evidence_is_not_what_published_code_gives() -> None:
    """Its values of the check set, from iterations that stop early and have a constant that depends on the scale."""
    few, evidence = check_set(20, 40, 3), log_evidence(SET.features, SET.targets)
    published = [
        (iterated(SET.features, SET.targets, eps=1e-5, empty=False), -0.3145042994),
        (first_published(SET.features, SET.targets), -0.3145072340),
        (first_published(SET.features, SET.targets, eps=0), -0.3145047367),
    ]
    for found, known in published:
        assert found == pytest.approx(known, rel=2e-9)
        assert found != pytest.approx(evidence, rel=2e-9)
    # 20 samples, 40 features: without the term of the empty directions the value is wrong by far
    forgetful = iterated(few.features, few.targets, eps=1e-5, empty=False)
    assert forgetful == pytest.approx(2.7111592, rel=2e-8)
    assert first_published(few.features, few.targets) == pytest.approx(0.5523262, rel=1e-7)
    # and both hang on their constant, for 20 directions explain 20 samples; without it there is no value at all
    with np.errstate(all="ignore"):
        assert np.isnan(first_published(few.features, few.targets, eps=0))
    assert iterated(1e4 * SET.features, SET.targets, eps=1e-5) < evidence - 0.4


def test_evidence_is_the_density_of_a_normal_distribution_at_its_best() -> None:
    features, targets = drawn(30, 5, 3)
    normal = stats.multivariate_normal

    def surprise(logs: np.ndarray, y: np.ndarray) -> float:
        covariance = features @ features.T * np.exp(-logs[0]) + np.eye(30) * np.exp(-logs[1])
        return -normal(np.zeros(30), covariance).logpdf(y) / 30

    options = {"xatol": 1e-6, "fatol": 1e-13, "maxiter": 2000}
    for each, found in enumerate(log_evidences(features, targets)):
        y = (targets == each).astype(float)
        best = optimize.minimize(surprise, np.zeros(2), (y,), method="Nelder-Mead", options=options)
        assert found == pytest.approx(-best.fun, rel=1e-10)


@pytest.mark.parametrize(("n", "width"), [(60, 8), (40, 30), (20, 40)])
def test_evidence_does_not_change_with_scale_rotation_or_empty_features(n: int, width: int) -> None:
    features, targets = drawn(n, width, 3)
    evidence = log_evidences(features, targets)
    for scale in (1e-200, 1e-3, 1e4, 1e200):
        assert log_evidences(scale * features, targets) == pytest.approx(evidence, rel=1e-10)
    assert log_evidences(features @ turned(width), targets) == pytest.approx(evidence, rel=1e-10)
    assert log_evidences(np.hstack([features, np.zeros((n, 50))]), targets) == pytest.approx(evidence, rel=1e-9)
    assert log_evidences(features, 7 * targets - 3) == pytest.approx(evidence, rel=1e-12)


def test_evidence_of_few_samples_is_that_of_their_strongest_directions() -> None:
    data = check_set(20, 40, 3)
    left, values, _ = np.linalg.svd(data.features)
    strongest = left[:, :10] * values[:10]
    assert log_evidence(data.features, data.targets) == pytest.approx(log_evidence(strongest, data.targets), rel=1e-9)
    assert log_evidence(strongest, data.targets) == pytest.approx(
        iterated(strongest, data.targets, tries=10_000, within=1e-14), rel=1e-9
    )


def test_evidence_of_useless_and_of_perfect_features() -> None:
    targets = np.arange(40) % 4
    nothing = -(1 + np.log(2 * np.pi / 4)) / 2
    assert log_evidence(np.zeros((40, 3)), targets) == pytest.approx(nothing)
    unrelated = np.where(np.arange(40) // 4 % 2, 1.0, -1.0)[:, None]  # as often 1 as -1 in each class
    assert log_evidence(unrelated, targets) == pytest.approx(nothing, rel=1e-12)
    assert 5 < log_evidence(np.eye(4)[targets], targets) < 20


# --- ridge


@pytest.mark.parametrize(("n", "width"), [(24, 3), (18, 30)])
def test_leaving_out_equals_fitting_anew(n: int, width: int) -> None:
    features, targets = drawn(n, width, 3, signal=0.5)
    scaled = features / np.abs(features).max()
    values = np.linalg.svd(scaled - scaled.mean(axis=0), compute_uv=False)
    typical = (values[values > 1e-10] ** 2).mean()
    truth, each = np.eye(3)[targets], {}
    for penalty in PENALTIES:
        guesses, error = [], 0.0
        for sample in range(n):
            x, y = np.delete(scaled, sample, axis=0), np.delete(truth, sample, axis=0)
            inner = (x - x.mean(axis=0)).T @ (x - x.mean(axis=0)) + penalty * typical * np.eye(width)
            weight = np.linalg.solve(inner, (x - x.mean(axis=0)).T @ (y - y.mean(axis=0)))
            guess = y.mean(axis=0) + (scaled[sample] - x.mean(axis=0)) @ weight
            guesses.append(guess.argmax())
            error += ((guess - truth[sample]) ** 2).sum()
        right = (np.array(guesses) == targets).astype(float)
        each[float(penalty)] = (right.mean(), -error, right)
    best = max(each, key=lambda penalty: each[penalty][:2])
    found = ridge_loo(features, targets)
    assert 0.34 < found.accuracy < 1  # a set on which something can be wrong
    assert (found.penalty, found.accuracy) == (best, each[best][0])
    assert found.scores.tolist() == each[best][2].tolist()
    assert found.scores.dtype == np.float64


def test_ridge_without_any_feature_guesses_the_class_most_frequent_among_the_others() -> None:
    assert ridge_loo(np.ones((9, 2)), np.array([0] * 6 + [1] * 3)).accuracy == pytest.approx(6 / 9)


# --- neighbours


@pytest.mark.parametrize("neighbours", [1, 5, 20])
def test_nearest_equals_scikit_learns(neighbours: int, monkeypatch: pytest.MonkeyPatch) -> None:
    features, targets = drawn(60, 6, 4, signal=0.4)
    model = KNeighborsClassifier(
        neighbours, metric="cosine", algorithm="brute", weights=lambda far: np.exp((1 - far) / 0.07)
    )
    expected = (cross_val_predict(model, features, targets, cv=LeaveOneOut()) == targets).mean()
    assert 0.3 < expected < 0.95
    assert nearest(features, targets, neighbours) == pytest.approx(expected)
    monkeypatch.setattr(transfer, "CELLS", 200)  # a few rows at a time
    assert nearest(features, targets, neighbours) == pytest.approx(expected)


def test_nearest_is_not_the_sample_itself() -> None:
    targets = np.array([0, 1, 0, 1])
    features = np.array([[1.0, 0.0], [1.0, 0.01], [0.0, 1.0], [0.01, 1.0]])
    assert nearest(features, targets, 1) == 0
    assert nearest(features[[0, 0, 2, 2]], np.array([0, 0, 1, 1]), 1) == 1


# --- how classes lie


@pytest.mark.parametrize(("n", "width"), [(90, 6), (25, 60)])
def test_h_score_shrinks_as_scikit_learn_does(n: int, width: int) -> None:
    features, targets = drawn(n, width, 3)
    covariance, shrinkage = ledoit_wolf(features)
    means = np.stack([features[targets == each].mean(axis=0) for each in range(3)])[targets]
    expected = np.trace(np.linalg.solve(covariance, (1 - shrinkage) * np.cov(means.T)))
    assert h_score(features, targets) == pytest.approx(expected, rel=1e-9)
    assert h_score(features, targets, shrinkage) == pytest.approx(expected, rel=1e-9)
    assert h_score(features @ turned(width) * 1e5 + 3, targets) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("width", [1, 3, 5, 8])
def test_features_of_equal_spread_are_not_shrunk_by_rounding(width: int) -> None:
    axes = turned(width) if width > 1 else np.ones((1, 1))
    features, targets = np.tile(np.vstack([axes, -axes]), (3, 1)), np.arange(6 * width) // width % 2
    assert h_score(features, targets) == pytest.approx(h_score(features, targets, 0)) != 0


def test_h_score_unshrunk_knows_no_shape_and_no_features_beyond_the_classes() -> None:
    features, targets = drawn(80, 5, 4)
    mixed = features @ np.random.default_rng(1).normal(size=(5, 5))
    assert h_score(mixed, targets, 0) == pytest.approx(h_score(features, targets, 0), rel=1e-9)
    assert h_score(np.hstack([mixed, mixed]), targets, 0) == pytest.approx(h_score(features, targets, 0), rel=1e-9)
    assert h_score(np.eye(4)[targets], targets, 0) == pytest.approx(3 * 80 / 79)


def test_overlap_of_classes() -> None:
    random = np.random.default_rng(0)
    same = np.tile(random.normal(size=(30, 3)), (3, 1))
    targets = np.repeat(np.arange(3), 30)
    for spherical in (True, False):
        assert gbc(same, targets, spherical) == pytest.approx(-6)
        assert gbc(same + 100 * targets[:, None], targets, spherical) == pytest.approx(0, abs=1e-12)
        # a class with one sample changes nothing
        more = np.vstack([same, [[50.0, 0, 0]]])
        assert gbc(more, np.append(targets, 9), spherical) == pytest.approx(-6)
        # nor does a feature that is constant in a class settle everything
        flat = np.where(targets[:, None] == 0, [1.0, 1, 0], [1.0, 1, 1]) * same
        assert -6 < gbc(flat, targets, spherical) < -1.9
    width = 200
    wide = np.hstack([same, np.zeros((90, width - 3))]) @ turned(width)
    assert gbc(wide + 2, targets) == pytest.approx(-6)
    apart = same + [2.0, 0, 0] * targets[:, None]
    plain, wide = (apart, np.hstack([apart, np.zeros((90, width - 3))]) @ turned(width))
    principal = (plain - plain.mean(axis=0)) @ np.linalg.svd(plain - plain.mean(axis=0))[2].T
    assert gbc(wide, targets, spherical=False) == pytest.approx(gbc(principal, targets, spherical=False), rel=1e-8)


def test_transrate_is_its_definition_on_unbalanced_classes() -> None:
    features, targets = drawn(50, 4, 3)
    counts = np.bincount(targets)
    assert len(set(counts.tolist())) > 1

    def rate(rows: np.ndarray) -> float:
        return np.linalg.slogdet(np.eye(4) + rows.T @ rows / (len(rows) * 1e-4))[1] / 2

    centred = features - features.mean(axis=0)
    expected = rate(centred) - sum(counts[each] / 50 * rate(centred[targets == each]) for each in range(3))
    assert transrate(features, targets) == pytest.approx(expected, rel=1e-10)
    assert transrate(features @ turned(4) + 5, targets) == pytest.approx(expected, rel=1e-9)


# --- from the classes of the source


def test_a_source_that_names_the_classes_is_best() -> None:
    targets = np.arange(30) % 3
    sure = np.eye(5)[targets + 1]  # two source classes never come up
    assert leep(sure, targets) == nce(sure, targets) == 0
    unsure = 0.8 * sure + 0.04
    assert leep(unsure, targets) < 0 == nce(unsure, targets)
    nothing = np.full((30, 5), 0.2)
    assert leep(nothing, targets) == nce(nothing, targets) == pytest.approx(-np.log(3))


def test_conditional_entropy_is_entropy_less_mutual_information() -> None:
    guess = SET.chances.argmax(axis=1)
    expected = mutual_info_score(SET.targets, guess) - stats.entropy(np.bincount(SET.targets))
    assert nce(SET.chances, SET.targets) == pytest.approx(expected)
    # with all belief in one source class both are the same
    assert leep(np.eye(6)[guess], SET.targets) == pytest.approx(expected)


def test_a_belief_of_nothing_has_no_log_of_zero() -> None:
    chances = np.array([[1.0, 0.0], [1 - 1e-300, 1e-300]])
    assert np.isfinite(leep(chances, np.array([0, 1])))


# --- any input


@pytest.mark.parametrize("score", OF_FEATURES)
@pytest.mark.parametrize(
    ("rows", "targets"),
    [
        (np.ones((4, 2)), np.zeros(3, dtype=int)),
        (np.ones(4), np.zeros(4, dtype=int)),
        (np.ones((4, 2)), np.zeros((4, 1), dtype=int)),
        (np.ones((1, 2)), np.zeros(1, dtype=int)),
        (np.ones((4, 0)), np.zeros(4, dtype=int)),
        (np.array([[1.0], [np.nan]]), np.zeros(2, dtype=int)),
    ],
)
def test_what_does_not_pair_is_refused(score: Score, rows: np.ndarray, targets: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"do not pair|not finite"):
        score(rows, targets)


@pytest.mark.parametrize("score", OF_CHANCES)
def test_logits_are_no_probabilities(score: Score) -> None:
    with pytest.raises(ValueError, match="sum to 1"):
        score(SET.logits, SET.targets)
    with pytest.raises(ValueError, match="do not pair"):
        score(SET.chances, SET.targets[1:])


WILD = st.one_of(st.sampled_from([0.0, 1.0, -1.0, 1e-300, 1e100, 3.0]), st.floats(-1e100, 1e100))
SHAPES = st.tuples(st.integers(2, 9), st.one_of(st.integers(1, 4), st.integers(65, 70)))


@settings(max_examples=60)
@given(SHAPES.flatmap(lambda shape: arrays(np.float64, shape, elements=WILD)), st.data())
def test_scores_of_wild_features_are_finite(features: np.ndarray, data: st.DataObject) -> None:
    n = len(features)
    targets = data.draw(arrays(np.int64, n, elements=st.integers(-1, 3)))
    classes = len(np.unique(targets))
    assert np.isfinite(log_evidences(features, targets)).all()
    assert len(log_evidences(features, targets)) == classes
    found = ridge_loo(features, targets)
    assert found.accuracy == found.scores.mean()
    assert set(found.scores) <= {0.0, 1.0}
    assert 0 <= nearest(features, targets) <= 1
    assert -1e-9 <= h_score(features, targets) <= (classes - 1) * n / (n - 1) + 1e-6
    for spherical in (True, False):
        assert -classes * (classes - 1) <= gbc(features, targets, spherical) <= 0
    assert np.isfinite(transrate(features, targets))


@given(arrays(np.float64, st.tuples(st.integers(2, 9), st.integers(1, 4)), elements=st.integers(0, 9)))
def test_scores_of_wild_beliefs_are_finite(counts: np.ndarray) -> None:
    counts[counts.sum(axis=1) == 0, 0] = 1
    chances = counts / counts.sum(axis=1, keepdims=True)
    for score in OF_CHANCES:
        assert -np.log(len(chances)) * 3 <= score(chances, np.arange(len(chances)) % 3) <= 1e-12


def test_one_class_is_no_news() -> None:
    features, targets = drawn(20, 3, 1)[0], np.full(20, 4)
    assert nearest(features, targets) == ridge_loo(features, targets).accuracy == 1
    assert gbc(features, targets) == 0
    assert h_score(features, targets) == pytest.approx(0, abs=1e-12)
    assert transrate(features, targets) == pytest.approx(0, abs=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("score", OF_FEATURES)
def test_speed_for_three_thousand_samples(score: Score) -> None:
    features, targets = drawn(3000, 1280, 100)
    began = time.process_time()
    score(features, targets)
    assert time.process_time() - began < 10  # 2 on an idle core
