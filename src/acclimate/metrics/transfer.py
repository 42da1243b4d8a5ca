"""How well a pretrained model suits labelled samples, judged without training it; higher is better in every score.

Most read features, float64 [n, D], with `targets`, int64 [n], one class a sample; `leep` and `nce` read the
probabilities that the model gives to the classes it was trained on. Classes that do not occur do not count. The same
samples must be given for every model that is compared. No score is known to order models well everywhere, so show one
beside what orders them without a look at the data: their accuracy at the source and their size. `nearest` and
`ridge_loo` are the ones to begin with.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.linalg import svdvals
from scipy.optimize import minimize_scalar
from scipy.sparse import csr_array

from acclimate.metrics.shrinkage import EPS, ledoit_wolf
from acclimate.metrics.unlabelled import checked

RATIOS = np.arange(-28.0, 28.5, 0.5)
"""ln of (precision of the weights / precision of the noise), less that of the largest squared singular value: where the
evidence is looked at first. A model whose weights are worth nothing has its best at the upper end."""
PENALTIES = 10.0 ** np.arange(-6, 7)
"""Of the ridge, relative to the mean squared singular value."""
NEIGHBOURS, SOFTNESS = 20, 0.07
"""How many neighbours vote, each with exp(cosine / softness) as in Wu et al. 2018, who let 200 vote."""
COMPONENTS = 64
"""Principal components that the overlap of classes is measured in."""
LEAST_VARIANCE = 1e-6
"""Of a feature within a class, relative to the mean variance of all: one constant in a class must not settle all."""
NOISE = 1e-4
"""The variance up to which TransRate codes features."""
CELLS = 4_000_000
"""Similarities that are computed together."""


# --- models fitted in closed form


def log_evidence(features: np.ndarray, targets: np.ndarray) -> float:
    """LogME (You et al. 2021): the mean of `log_evidences`, in nats a sample. A log density, which may be above 0."""
    return float(log_evidences(features, targets).mean())


def log_evidences(features: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """ln p(y | F) / n of each class that occurs, float64 [classes], where y is 1 for its samples and else 0.

    y = Fw + noise, with normal w and noise, the precisions of both set to what makes y most likely. Published code
    iterates towards them. Here the precision of the noise is eliminated, which leaves a function of the ratio t of the
    two, -n/2 (1 + ln(2 pi q / n)) - 1/2 sum ln(1 + s^2 / t) with q = y'y - sum (u'y)^2 s^2 / (t + s^2), and its highest
    peak is searched for. That is the number at the fixed point, with the term of the D - k directions without features
    that some code forgets; it hangs neither on where an iteration starts or stops nor on the scale of the features.

    Features of rank n/2 or more can explain any y, and the density has no bound: of these only the n/2 strongest
    directions are read. To refuse them would leave few samples, where models are hardest to tell apart, without a
    score. Where fewer directions give a y exactly, the search ends at t = e^-28 of the largest s^2. Raises ValueError
    for what does not pair.
    """
    scaled, classes, counts = _paired(features, targets)
    n = len(scaled)
    squares, left = _directions(scaled, most=n // 2)
    along = _sums(left, classes, len(counts)) ** 2
    rest = (counts - along.sum(axis=1)).clip(0)
    if not len(squares):
        return _profile(rest, np.zeros(len(counts)), n)

    def of_ratio(log_ratio: np.ndarray | float, rest: np.ndarray, along: np.ndarray) -> np.ndarray:
        unexplained = 1 / (1 + squares / squares[0] * np.exp(-np.atleast_1d(log_ratio))[:, None])
        return _profile(rest[:, None] + along @ unexplained.T, -np.log(unexplained).sum(axis=1), n)

    best = []
    for each, place in enumerate(of_ratio(RATIOS, rest, along).argmax(axis=1)):
        found = minimize_scalar(
            lambda log_ratio, own=slice(each, each + 1): -of_ratio(log_ratio, rest[own], along[own]).item(),
            bounds=(RATIOS[max(0, place - 1)], RATIOS[min(len(RATIOS) - 1, place + 1)]),
            method="bounded",
            options={"xatol": 1e-7},
        )
        best.append(-found.fun)
    return np.array(best)


class LeftOut(NamedTuple):
    """`accuracy`: share of right samples; `scores`: float64 [n], 1 = right, else 0; `penalty`: one of `PENALTIES`."""

    accuracy: float
    scores: np.ndarray
    penalty: float


def ridge_loo(features: np.ndarray, targets: np.ndarray) -> LeftOut:
    """Accuracy of ridge regression onto the classes, every sample judged by the fit to all others.

    Left out without fitting anew (Allen 1974), from one decomposition for all penalties; the intercept is not
    penalised. The penalty with the highest accuracy is taken, of equal ones that with the least squared error: the best
    of 13, slightly too good, and for all models alike. `scores` of two models pair by sample. Raises ValueError for
    what does not pair.
    """
    scaled, classes, counts = _paired(features, targets)
    n = len(scaled)
    squares, left = _directions(scaled - scaled.mean(axis=0))
    truth = np.eye(len(counts))[classes]
    along = _sums(left, classes, len(counts)).T
    typical = squares.mean() if len(squares) else 0.0
    best, rank = LeftOut(0.0, np.zeros(n), 0.0), (-1.0, 0.0)
    for penalty in PENALTIES:
        share = squares / (squares + penalty * typical)
        residual = truth - counts / n - left @ (share[:, None] * along)
        leverage = 1 / n + left**2 @ share
        residual /= (1 - leverage).clip(EPS)[:, None]
        scores = ((truth - residual).argmax(axis=1) == classes).astype(np.float64)
        accuracy, error = float(scores.mean()), float((residual**2).sum())
        if (accuracy, -error) > rank:
            best, rank = LeftOut(accuracy, scores, float(penalty)), (accuracy, -error)
    return best


# --- how classes lie


def nearest(features: np.ndarray, targets: np.ndarray, neighbours: int = NEIGHBOURS) -> float:
    """Share of samples whose class is what their nearest other samples vote for, each with exp(cosine / 0.07).

    `neighbours`, at least 1, are at most all others. Of equal votes the lowest class wins; a row of zeros is equally
    far from all. Raises ValueError for what does not pair.
    """
    scaled, classes, counts = _paired(features, targets)
    n, most = len(scaled), min(neighbours, len(scaled) - 1)
    lengths = np.linalg.norm(scaled, axis=1, keepdims=True)
    unit = np.divide(scaled, lengths, out=np.zeros_like(scaled), where=lengths > 0)
    right, step = 0, max(1, CELLS // n)
    for start in range(0, n, step):
        rows = np.arange(start, min(n, start + step))
        cosines = unit[rows] @ unit.T
        cosines[rows - start, rows] = -np.inf
        near = np.argpartition(cosines, -most, axis=1)[:, -most:]
        weights = np.exp(np.take_along_axis(cosines, near, axis=1) / SOFTNESS)
        places = classes[near] + (rows - start)[:, None] * len(counts)
        votes = np.bincount(places.ravel(), weights.ravel(), minlength=len(rows) * len(counts))
        right += int((votes.reshape(len(rows), -1).argmax(axis=1) == classes[rows]).sum())
    return right / n


def h_score(features: np.ndarray, targets: np.ndarray, shrinkage: float | None = None) -> float:
    """How much of the features' spread is that of the class means: the trace of (1 - a) C^-1 B (Bao et al. 2019).

    About classes - 1 at most. C is the covariance shrunk by a, B that of the class means; a is what Ledoit and Wolf
    (2004) derive, as in Ibrahim et al. 2022, or `shrinkage`, 0 to 1. At 0 the inverse is a pseudo-inverse, and the
    score is noise unless samples far outnumber features. As in the published code C is over n and B over n - 1. Raises
    ValueError for what does not pair.
    """
    scaled, classes, counts = _paired(features, targets)
    n, width = scaled.shape
    centred = scaled - scaled.mean(axis=0)
    squares, left = _directions(centred)
    mean = squares.sum() / (n * width)
    shrink = ledoit_wolf(centred, squares / n, mean) if shrinkage is None else shrinkage
    between = squares * (_sums(left, classes, len(counts)) ** 2 / counts[:, None]).sum(axis=0) / (n - 1)
    total = (1 - shrink) * squares / n + shrink * mean
    return float(((1 - shrink) * between / total).sum())


def gbc(features: np.ndarray, targets: np.ndarray, spherical: bool = True) -> float:
    """Minus the overlap of the classes as normal distributions: exp(-Bhattacharyya distance), over all ordered pairs.

    Pandy et al. 2022; at most 0. A class has one variance (`spherical`) or one for each feature. Features wider than 64
    are read in as many principal components. A class with one sample has no variance and is left out. Raises ValueError
    for what does not pair.
    """
    scaled, classes, counts = _paired(features, targets)
    if scaled.shape[1] > COMPONENTS:
        squares, left = _directions(scaled - scaled.mean(axis=0), most=COMPONENTS)
        scaled = left * np.sqrt(squares)
    parts = [scaled[classes == each] for each in np.flatnonzero(counts > 1)]
    if len(parts) < 2 or not scaled.size:  # constant features have no component
        return float(-len(parts) * (len(parts) - 1))
    means = np.stack([part.mean(axis=0) for part in parts])
    spreads = np.stack([part.var(axis=0, ddof=1) for part in parts])
    if spherical:
        spreads = np.broadcast_to(spreads.mean(axis=1, keepdims=True), spreads.shape)
    # without any variance all samples are one point, and any floor says so
    spreads = spreads.clip(LEAST_VARIANCE * scaled.var(axis=0).mean() or 1.0)
    total = 0.0
    for each in range(len(parts)):
        both = (spreads + spreads[each]) / 2
        apart = (means - means[each]) ** 2 / both / 8
        unlike = (np.log(both) - (np.log(spreads) + np.log(spreads[each])) / 2) / 2
        total += np.delete(np.exp(-(apart + unlike).sum(axis=1)), each).sum()
    return 0.0 - float(total)


def transrate(features: np.ndarray, targets: np.ndarray) -> float:
    """How many nats a sample the classes save in coding the features up to a variance of 1e-4 (Huang et al. 2022).

    Each class counts by its share of the samples. The score moves with the scale of the features, so only models whose
    features have one scale compare. Raises ValueError for what does not pair.
    """
    raw, classes, counts = _paired(features, targets, scale=False)
    centred = raw - raw.mean(axis=0)
    within = [_rate(centred[classes == each]) for each in range(len(counts))]
    return _rate(centred) - float(counts @ within) / len(classes)


# --- from the classes of the source


def leep(probabilities: np.ndarray, targets: np.ndarray) -> float:
    """Mean log chance of the class, where each source class that the model believes in votes by how its samples fell.

    Nguyen et al. 2020; at most 0. `probabilities`: float [n, source classes]. Raises ValueError for rows that do not
    sum to 1 and what does not pair.
    """
    chances, classes, counts = _paired(checked(probabilities), targets, scale=False)
    joint = _sums(chances, classes, len(counts))
    total = joint.sum(axis=0)
    given = np.divide(joint, total, out=np.zeros_like(joint), where=total > 0)
    # never 0: a sample is part of what its own beliefs are worth
    return float(np.log((given[classes] * chances).sum(axis=1)).mean())


def nce(probabilities: np.ndarray, targets: np.ndarray) -> float:
    """Minus the entropy of the class where the most probable source class is known, in nats (Tran et al. 2019).

    At most 0. `probabilities`: float [n, source classes]. Raises ValueError for rows that do not sum to 1 and what does
    not pair.
    """
    chances, classes, counts = _paired(checked(probabilities), targets, scale=False)
    joint = _sums(np.eye(chances.shape[1])[chances.argmax(axis=1)], classes, len(counts))
    given = np.divide(joint, joint.sum(axis=0), out=np.ones_like(joint), where=joint > 0)
    return float((joint * np.log(given)).sum() / len(classes))


# --- what they share


def _paired(rows: np.ndarray, targets: np.ndarray, scale: bool = True) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(rows as float64, by default over their largest value; classes without gaps, int [n]; the samples of each)."""
    rows, targets = np.asarray(rows, dtype=np.float64), np.asarray(targets)
    if rows.ndim != 2 or targets.shape != rows.shape[:1] or len(targets) < 2 or not rows.size:
        raise ValueError(f"rows {rows.shape} and targets {targets.shape} do not pair: [n, D] and [n], n at least 2")
    if not np.isfinite(rows).all():
        raise ValueError("a row has a value that is not finite")
    largest = np.abs(rows).max()
    if scale and largest > 0:
        rows = rows / largest
    _, classes, counts = np.unique(targets, return_inverse=True, return_counts=True)
    return rows, classes, counts


def _directions(features: np.ndarray, most: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The squared singular values, from large to small, and left singular vectors [n, rank], no more than `most`.

    Features wider than samples are many go by the products of samples, a fraction of the work; only what is below 1e-6
    or so of the largest singular value is lost by it.
    """
    n, width = features.shape
    least = max(n, width) * EPS
    if width > n:
        squares, left = np.linalg.eigh(features @ features.T)
        squares, left = squares[::-1], left[:, ::-1]
    else:
        left, values, _ = np.linalg.svd(features, full_matrices=False)
        squares, least = values**2, least**2
    rank = int((squares > least * squares.max()).sum())
    kept = slice(rank if most is None else min(rank, most))
    return squares[kept], left[:, kept]


def _sums(rows: np.ndarray, classes: np.ndarray, count: int) -> np.ndarray:
    """Of the rows of each class: [n, columns] -> [classes, columns]."""
    n = len(classes)
    return csr_array((np.ones(n), (classes, np.arange(n))), shape=(count, n)) @ rows


def _profile(misfit: np.ndarray, log_determinant: np.ndarray, n: int) -> np.ndarray:
    """ln p(y | F) / n at the best precision of the noise."""
    return -(1 + np.log(2 * np.pi * misfit / n)) / 2 - log_determinant / (2 * n)


def _rate(rows: np.ndarray) -> float:
    """ln det(I + rows' rows / (n noise)) / 2"""
    return float(np.log1p(svdvals(rows) ** 2 / (len(rows) * NOISE)).sum() / 2)
