"""Alignments: what each leaves as it is, what it must bring about, that folding is exact, that nothing breaks one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from check_set import check_set
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from scipy.optimize import minimize
from scipy.special import logsumexp, softmax

from acclimate.alignments import ALIGNMENTS
from acclimate.alignments.alignment import Alignment, Sides
from acclimate.alignments.coral import recolouring
from acclimate.alignments.labelling import balanced, chosen
from acclimate.alignments.linear import Linear
from acclimate.alignments.moments import moments, moved
from acclimate.alignments.propagation import SPREAD, graph, propagated, spread
from acclimate.alignments.space import principal, space
from acclimate.alignments.standardise import scaling
from acclimate.alignments.subspace import aligned, dimension
from acclimate.alignments.transport import monge
from acclimate.metrics import shares
from acclimate.metrics.expected import Labelled
from acclimate.metrics.shrinkage import ledoit_wolf

EVERY = pytest.mark.parametrize("name", list(ALIGNMENTS))
MOVING = [name for name in ALIGNMENTS if ALIGNMENTS[name].balanced]


class Regression:
    """Multinomial regression with a fixed penalty on the weights of the features as they are given."""

    def __init__(self, classes: int, penalty: float = 0.01, most: int = 1000) -> None:
        self.classes, self.penalty, self.most = classes, penalty, most

    def __call__(self, features: np.ndarray, targets: np.ndarray, weights: np.ndarray | None = None, /) -> Linear:
        n, width = features.shape
        each = np.full(n, 1 / n) if weights is None else weights / weights.sum()
        hot, size = np.eye(self.classes)[targets], self.classes * width

        def objective(values: np.ndarray) -> tuple[float, np.ndarray]:
            weight, bias = values[:size].reshape(self.classes, width), values[size:]
            made = features @ weight.T + bias
            total = logsumexp(made, axis=1)
            slope = (np.exp(made - total[:, None]) - hot) * each[:, None]
            loss = each @ (total - made[np.arange(n), targets]) + self.penalty / 2 * (weight**2).sum()
            return loss, np.concatenate([(slope.T @ features + self.penalty * weight).ravel(), slope.sum(axis=0)])

        options = {"gtol": 1e-9, "ftol": 1e-14, "maxiter": self.most}
        found = minimize(objective, np.zeros(size + self.classes), jac=True, method="L-BFGS-B", options=options).x
        return Linear(found[:size].reshape(self.classes, width), found[size:])


class Drawn:
    """Samples of classes around their means; every fifth of the source's is held out."""

    def __init__(self, seed: int, n: int = 300, width: int = 12, classes: int = 3, apart: float = 1.5) -> None:
        self.random = np.random.default_rng(seed)
        self.classes, self.mixed = classes, self.random.normal(size=(width, width)) / np.sqrt(width)
        self.means = apart * self.random.normal(size=(classes, width))
        self.source, self.targets = self.samples(n)

    def samples(self, n: int, of: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        targets = self.random.choice(self.classes, n, p=of)
        noise = self.random.normal(size=(n, self.means.shape[1])) @ self.mixed
        return self.means[targets] + noise, targets

    def sides(self, target: np.ndarray, penalty: float = 0.01) -> Sides:
        held = np.arange(len(self.source)) % 5 == 0
        fit = Regression(self.classes, penalty)
        known = self.source[~held], self.targets[~held]
        sides = Sides(*known, self.source[held], self.targets[held], target, fit, fit(*known))
        return replace(sides, known=target[:9], known_targets=np.arange(len(target[:9])) % self.classes)


def accuracy(linear: Linear, features: np.ndarray, targets: np.ndarray) -> float:
    return float((linear.outputs(features).argmax(axis=1) == targets).mean())


# --- what all have in common


@EVERY
def test_entries_say_what_they_are(name: str) -> None:
    entry = ALIGNMENTS[name]
    assert isinstance(entry, Alignment)
    assert entry.name == name
    assert entry.summary
    assert entry.balanced is (name not in ("expectation", "confusion", "labels"))
    assert entry.labelled is (name == "labels")


@EVERY
def test_a_method_is_deterministic_and_leaves_its_input_alone(name: str) -> None:
    drawn = Drawn(0, n=120)
    sides = drawn.sides(drawn.samples(100)[0] * 1.3 + 1)
    before = [each.copy() for each in (sides.source, sides.held, sides.target, sides.plain.weight)]
    first, again = ALIGNMENTS[name].solve(sides), ALIGNMENTS[name].solve(replace(sides))
    assert np.array_equal(first.weight, again.weight)
    assert np.array_equal(first.bias, again.bias)
    after = (sides.source, sides.held, sides.target, sides.plain.weight)
    assert all(np.array_equal(one, other) for one, other in zip(before, after, strict=True))


@EVERY
def test_features_may_be_float32_and_on_any_scale(name: str) -> None:
    drawn = Drawn(1, n=120)
    target = drawn.samples(100)[0] * 1.2 + 0.5
    sides = drawn.sides(target)
    scale, shift = 10.0 ** np.linspace(-1.5, 1.5, 12), np.linspace(-5, 5, 12)
    plain = sides.plain.after(1 / scale, -shift / scale)
    other = Sides(
        *((sides.source * scale + shift).astype(np.float32), sides.targets),
        *((sides.held * scale + shift).astype(np.float32), sides.held_targets),
        *((target * scale + shift).astype(np.float32), sides.fit, plain),
    )
    other = replace(other, known=other.target[:9], known_targets=sides.known_targets)
    ours, theirs = ALIGNMENTS[name].solve(sides).chances(target), ALIGNMENTS[name].solve(other).chances(other.target)
    assert theirs == pytest.approx(ours, abs=1e-2)


@given(st.integers(0, 10**6), st.integers(1, 30), st.integers(0, 12), st.integers(1, 30), st.integers(1, 20), st.data())
@settings(max_examples=20)
def test_nothing_wild_makes_a_method_say_nothing(
    seed: int, n: int, v: int, m: int, width: int, data: st.DataObject
) -> None:
    """Few samples, wide features, constant columns on one side or both, classes that are missing, equal samples."""
    random = np.random.default_rng(seed)
    classes = data.draw(st.integers(1, 4), "classes")
    there = data.draw(st.integers(1, classes), "classes that occur")
    source, held, target = (random.normal(size=(rows, width)).round(1) for rows in (n, v, m))
    still = [random.random(width) < 0.3 for _ in range(2)]
    source[:, still[0]], target[:, still[1]] = 0.1, 1e6 if data.draw(st.booleans(), "far") else 0.1
    if data.draw(st.booleans(), "one point"):
        target[:] = target[0]
    fit = Regression(classes, 0.1, most=20)
    targets = random.integers(0, there, n)
    sides = Sides(source, targets, held, random.integers(0, there, v), target, fit, fit(source, targets))
    sides = replace(sides, known=target[:1], known_targets=np.zeros(1, dtype=np.int64))
    with np.errstate(all="raise", under="ignore"):
        for name in ALIGNMENTS:
            linear = ALIGNMENTS[name].solve(replace(sides))
            assert linear.weight.shape == (classes, width), name
            assert np.isfinite(linear.weight).all(), name
            assert np.isfinite(linear.outputs(target)).all(), name


# --- the space


@pytest.mark.parametrize(("n", "m", "width"), [(40, 30, 12), (12, 9, 60)])
def test_folding_is_exact(n: int, m: int, width: int) -> None:
    random = np.random.default_rng(0)
    source, target = random.normal(size=(n, width)) * 3 + 5, random.normal(size=(m, width)) - 1
    found = space(source, target, components=10)
    linear = Linear(random.normal(size=(4, 10)), random.normal(size=4))
    unseen = random.normal(size=(20, width)) * 10
    assert found.fold(linear).outputs(unseen) == pytest.approx(linear.outputs(found.forward(unseen)), abs=1e-8)
    scale, shift = random.normal(size=(2, width))
    raw = Linear(random.normal(size=(4, width)), random.normal(size=4))
    assert raw.after(scale, shift).outputs(unseen) == pytest.approx(raw.outputs(unseen * scale + shift), abs=1e-8)


@pytest.mark.parametrize("width", [6, 40])
def test_the_space_is_pooled_scores_turned_to_their_main_directions(width: int) -> None:
    random = np.random.default_rng(width)
    source, target = random.normal(size=(10, width)) * 4, random.normal(size=(8, width)) + 7
    both = np.concatenate([source, target])
    standard = (both - both.mean(axis=0)) / both.std(axis=0)
    found = space(source, target).forward(both)
    assert found @ found.T == pytest.approx(standard @ standard.T)
    assert found.T @ found == pytest.approx(np.diag((found**2).sum(axis=0)), abs=1e-9)
    assert np.diff((found**2).sum(axis=0)).max() <= 0
    directions = principal(standard, 5)
    assert directions.T @ directions == pytest.approx(np.eye(5))


def test_a_constant_column_takes_no_part() -> None:
    random = np.random.default_rng(0)
    source, target = random.normal(size=(2, 30, 4))
    source[:, 2] = target[:, 2] = 0.1
    found = space(source, target)
    assert found.matrix.shape == (4, 3)
    assert found.matrix[2] == pytest.approx(0, abs=1e-9)
    assert space(np.ones((5, 3)), np.ones((4, 3))).forward(np.ones((2, 3))) == pytest.approx(np.zeros((2, 1)))


# --- moments


def test_covariances_are_shrunk_as_known() -> None:
    features = check_set().features
    centred = features - features.mean(axis=0)
    variances = np.linalg.eigvalsh(centred.T @ centred / 60)
    share = ledoit_wolf(centred, variances, variances.mean())
    assert share == pytest.approx(0.1714402353)
    expected = (1 - share) * centred.T @ centred / 60 + share * variances.mean() * np.eye(8)
    assert moments(features).power(1) == pytest.approx(expected)
    assert moments(features).power(-0.5) == pytest.approx(np.linalg.inv(sqrtm(expected)))


@pytest.mark.parametrize("between", [recolouring, monge])
def test_identical_sides_stay_where_they_are(between: object) -> None:
    features = check_set().features
    for n in (60, 5):  # fewer samples than features too
        own = moments(features[:n])
        assert moved(features, own, own, between) == pytest.approx(features)  # type: ignore[arg-type]


@pytest.mark.parametrize("between", [recolouring, monge])
def test_the_source_gets_the_moments_of_the_target(between: object) -> None:
    random = np.random.default_rng(0)
    source, target = random.normal(size=(50, 6)) @ random.normal(size=(6, 6)), random.normal(size=(40, 6)) + 3
    made = moved(source, moments(source, 0), moments(target, 0), between)  # type: ignore[arg-type]
    assert made.mean(axis=0) == pytest.approx(target.mean(axis=0))
    assert np.cov(made.T, ddof=0) == pytest.approx(np.cov(target.T, ddof=0))
    shrunk = moments(source), moments(target)
    matrix = between(*shrunk)  # type: ignore[operator]
    assert matrix.T @ shrunk[0].power(1) @ matrix == pytest.approx(shrunk[1].power(1))


def test_the_way_is_the_shortest() -> None:
    random = np.random.default_rng(1)
    source, target = random.normal(size=(50, 5)) @ random.normal(size=(5, 5)), random.normal(size=(60, 5))
    ours, theirs = moments(source), moments(target)
    matrix = monge(ours, theirs)
    assert matrix == pytest.approx(matrix.T)
    assert np.linalg.eigvalsh(matrix).min() > 0
    root = sqrtm(sqrtm(ours.power(1)) @ theirs.power(1) @ sqrtm(ours.power(1)))
    assert np.trace(ours.power(1) @ matrix) == pytest.approx(np.trace(root).real)


@pytest.mark.parametrize("name", [name for name in MOVING if name in ("standardise", "coral", "transport")])
def test_a_target_like_the_source_changes_nothing(name: str) -> None:
    drawn = Drawn(2)
    sides = drawn.sides(drawn.source)
    sides = replace(sides, target=sides.source)
    known = sides.space.fold(sides.fit(sides.space.forward(sides.source), sides.targets, None))
    known = sides.plain if name == "standardise" else known
    assert ALIGNMENTS[name].solve(sides).outputs(sides.held) == pytest.approx(known.outputs(sides.held), abs=1e-4)


def test_an_affine_image_is_read_as_the_source_was() -> None:
    drawn = Drawn(3, n=2000, width=6)
    sides = drawn.sides(drawn.source)
    stretched, moved_by = np.array([0.5, 2, 1, 3, 0.7, 1.5]), np.array([3, -2, 0, 5, 1, -9])
    sides = replace(sides, target=sides.source * stretched + moved_by)
    said = sides.plain.outputs(sides.held).argmax(axis=1)
    for name in ("standardise", "transport"):
        found = ALIGNMENTS[name].solve(replace(sides)).outputs(sides.held * stretched + moved_by).argmax(axis=1)
        assert (found == said).mean() >= 0.98, name
    unadapted = sides.plain.outputs(sides.held * stretched + moved_by).argmax(axis=1)
    assert (unadapted == said).mean() < 0.8


def test_a_few_samples_of_a_target_move_it_less() -> None:
    random = np.random.default_rng(0)
    source, target = random.normal(size=(100, 3)), random.normal(size=(1000, 3)) * 2 + 5
    scale, shift = scaling(source, target, prior=0)
    assert (target * scale + shift).mean(axis=0) == pytest.approx(source.mean(axis=0))
    assert (target * scale + shift).std(axis=0) == pytest.approx(source.std(axis=0))
    assert scaling(source, target)[0] == pytest.approx(scale, rel=0.03)
    assert scaling(source, target[:1])[1] == pytest.approx(-target[0] / 17, abs=0.3)


# --- subspaces


def test_a_subspace_of_all_components_is_centring() -> None:
    features, targets, *_ = check_set()
    source, target = features[:30], features[30:] * 2 + 1
    ours, theirs = moments(source, 0), moments(target, 0)
    from_source, from_target = aligned(ours, theirs, 8)
    fit = Regression(3)
    centred = source - source.mean(axis=0), target - target.mean(axis=0)
    found = fit(centred[0] @ from_source, targets[:30]).outputs(centred[1] @ from_target)
    assert found == pytest.approx(fit(centred[0], targets[:30]).outputs(centred[1]), abs=1e-4)


def test_the_dimension_is_where_the_gap_is() -> None:
    values = np.concatenate([np.linspace(10, 9, 17), np.linspace(1, 0.5, 200)])
    assert dimension(values, values, 500, 300) == 17
    assert dimension(np.ones(217), np.ones(217), 500, 300) == 10
    assert dimension(values[:8], values[:8], 500, 300) == 7
    assert dimension(values, values, 1, 1) == 1


# --- shares


SHARES = np.array([0.75, 0.2, 0.05])


def test_corrections_are_what_the_metrics_say() -> None:
    drawn = Drawn(4, n=600, apart=0.7)
    target, _ = drawn.samples(500, SHARES)
    sides = drawn.sides(target)
    held, chances = Labelled(sides.plain.chances(sides.held), sides.held_targets), sides.plain.chances(target)
    calibration = shares.calibrated(held)
    before = calibration(held.chances).mean(axis=0)
    after = shares.by_expectation(calibration(chances), before)
    known = shares.reweighed(calibration(chances), before, after)
    assert ALIGNMENTS["expectation"].solve(sides).chances(target) == pytest.approx(known, abs=1e-8)
    found = shares.by_confusion(held, chances)
    assert found.reliable
    known = shares.reweighed(calibration(chances), np.ones(3), found.weights)
    assert ALIGNMENTS["confusion"].solve(sides).chances(target) == pytest.approx(known, abs=1e-8)


def test_a_confusion_matrix_of_few_samples_corrects_nothing() -> None:
    drawn = Drawn(4, n=60)
    sides = drawn.sides(drawn.samples(100)[0])
    assert ALIGNMENTS["confusion"].solve(sides) is sides.plain
    none = replace(sides, held=sides.held[:0], held_targets=sides.held_targets[:0])
    assert ALIGNMENTS["confusion"].solve(none) is none.plain
    assert ALIGNMENTS["expectation"].solve(none) is none.plain


# --- labels


@given(st.integers(0, 10**6), st.integers(1, 50), st.integers(1, 5))
@settings(max_examples=30)
def test_balanced_chances_come_in_the_wanted_shares(seed: int, m: int, classes: int) -> None:
    random = np.random.default_rng(seed)
    outputs, wanted = random.normal(size=(m, classes)) * 2, random.dirichlet(np.ones(classes) * 3)
    found = balanced(outputs, wanted)
    assert found.sum(axis=1) == pytest.approx(np.ones(m))
    assert found.mean(axis=0) == pytest.approx(wanted, rel=0.01)
    tilt = np.log(found) - outputs
    tilt -= tilt[:, :1]
    assert tilt == pytest.approx(np.broadcast_to(tilt[0], tilt.shape), abs=1e-6)  # one bias a class, no more


def test_balanced_chances_leave_balanced_ones_alone() -> None:
    outputs = np.random.default_rng(0).normal(size=(40, 3))
    chances = softmax(outputs, axis=1)
    assert balanced(outputs, chances.mean(axis=0)) == pytest.approx(chances, abs=1e-4)


def test_the_surest_of_each_class_are_chosen() -> None:
    chances = np.array([[0.9, 0.1], [0.6, 0.4], [0.7, 0.3], [0.8, 0.2], [0.2, 0.8], [0.1, 0.9]])
    rows, labels = chosen(chances, np.array([0.5, 0.5]), 0.5)
    assert rows.tolist() == [0, 3, 4, 5]
    assert labels.tolist() == [0, 0, 1, 1]
    rows, labels = chosen(chances, np.array([1.0, 0.0]), 0.5)
    assert rows.tolist() == [0, 2, 3]


def test_labels_spread_as_the_linear_system_says() -> None:
    random = np.random.default_rng(0)
    features, begun = random.normal(size=(60, 5)), np.eye(2)[random.integers(0, 2, 60)]
    edges = graph(features, 7)
    dense = edges.toarray()
    assert dense == pytest.approx(dense.T)
    assert np.diag(dense) == pytest.approx(np.zeros(60))
    assert np.abs(np.linalg.eigvalsh(dense)).max() <= 1 + 1e-9
    expected = np.linalg.solve(np.eye(60) - SPREAD * dense, begun)
    assert spread(edges, begun) == pytest.approx(expected, rel=1e-3)


def test_a_few_sure_answers_label_whole_clusters() -> None:
    random = np.random.default_rng(0)
    truth = np.arange(120) % 3
    features = 5 * np.eye(3, 6)[truth] + random.normal(size=(120, 6))
    outputs = random.normal(size=(120, 3)) * 0.1
    outputs[:12] += 5 * np.eye(3)[truth[:12]]  # four of each are known, the others guessed
    labels, weights = propagated(features, outputs, np.ones(3) / 3)
    assert (outputs.argmax(axis=1) == truth).mean() < 0.6
    assert (labels == truth).mean() > 0.9
    assert (weights >= 0).all()
    assert (weights <= 1).all()


# --- each on the shift that it is made for


def shifted(name: str) -> tuple[Sides, np.ndarray, np.ndarray]:
    """Sides, and test samples of the target with their classes."""
    if ALIGNMENTS[name].labelled:
        drawn = Drawn(9, n=500, apart=0.6)
        (target, known), (test, truth) = drawn.samples(500), drawn.samples(500)
        turned = np.roll(np.eye(12), 5, axis=0)  # nothing but labels can undo that
        sides = drawn.sides(target @ turned)
        return replace(sides, known=sides.target[:60], known_targets=known[:60]), test @ turned, truth
    if not ALIGNMENTS[name].balanced:
        drawn = Drawn(7, n=1000, apart=0.25)
        (target, _), (test, truth) = drawn.samples(1000, SHARES), drawn.samples(1000, SHARES)
        return drawn.sides(target), test, truth
    drawn = Drawn(9, n=500, apart=0.6)
    (target, _), (test, truth) = drawn.samples(500), drawn.samples(500)
    matrix, shift = np.diag(np.linspace(0.3, 3, 12)), 2.0
    if name in ("coral", "transport"):
        stretch = np.random.default_rng(0).normal(size=(12, 12)) / 3
        matrix, shift = np.eye(12) + stretch @ stretch.T, 1.0  # columns are mixed
    return drawn.sides(target @ matrix + shift), test @ matrix + shift, truth


@EVERY
def test_a_method_gains_on_the_shift_it_is_made_for(name: str) -> None:
    sides, test, truth = shifted(name)
    before, after = accuracy(sides.plain, test, truth), accuracy(ALIGNMENTS[name].solve(sides), test, truth)
    assert after >= before + (0.15 if ALIGNMENTS[name].balanced else 0.03), (before, after)
