"""Are two sets of samples from one distribution? A classifier two-sample test, maximum mean discrepancy, and one figure at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from acclimate.core.seeds import generator
from acclimate.metrics.intervals import normal
from acclimate.metrics.metric import Metric

PERMUTATIONS = 999
MOST = 1000
"""Samples of a side that a test reads: more tell nothing new, and its time grows with their square."""
WIDEST, KERNELS = 2.0, 5
"""The widest kernel, as a multiple of the median squared distance, and how many there are, each half as wide as the one before."""
CLIP = 8.0
"""Standardised features are cut off here: a feature that is nearly constant must not drown the others."""


@dataclass(frozen=True)
class Tested:
    """A statistic and the chance p of one so large among permuted labels, never 0."""

    value: float
    p: float


@dataclass(frozen=True)
class Told:
    """What a linear classifier tells apart, each sample judged by one that has not seen it."""

    scores: np.ndarray
    """float64 [n]: the larger, the more like the second side."""
    auc: Tested
    accuracy: Metric
    """Balanced over the sides."""

    @property
    def distance(self) -> Metric:
        """Proxy A-distance 2 (1 - 2 error), 0 to 2, of the balanced, cross-fitted error (Ben-David et al., 2007)."""
        found = self.accuracy
        value, low, high = (max(0.0, 4 * share - 2) for share in (found["value"], found["low"], found["high"]))
        return Metric(value=value, low=low, high=high, n=found["n"])


def even(first: np.ndarray, second: np.ndarray, most: int = MOST, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Places in two sets, as many of each: int64 [m] and [m]. A test of unequal sides answers to their size as well."""
    m = min(len(first), len(second), most)
    drawn = (generator("even", seed, side).permutation(len(x))[:m] for side, x in enumerate((first, second)))
    one, other = map(np.sort, drawn)
    return one, other


def standardised(features: np.ndarray) -> np.ndarray:
    """Columns with mean 0 and spread 1, cut off at `CLIP`; float64 [n, D], without columns that are constant."""
    features = np.asarray(features, dtype=np.float64)
    spread = features.std(axis=0)
    moving = spread > 1e-3 * np.median(spread[spread > 0]) if (spread > 0).any() else spread > 0
    return ((features[:, moving] - features[:, moving].mean(axis=0)) / spread[moving]).clip(-CLIP, CLIP)


def sides(n: int, m: int, permutations: int, seed: int) -> np.ndarray:
    """float64 [n + m, 1 + permutations] of 0 and 1: which samples count as of the second side; the first column is the truth."""
    truth = np.repeat([0.0, 1.0], [n, m])
    draw = generator("permuted", seed)
    return np.column_stack([truth, draw.permuted(np.tile(truth, (permutations, 1)), axis=1).T])


def gram(features: np.ndarray) -> np.ndarray:
    """float64 [n, n]: the products of each two samples."""
    return features @ features.T


def squared_distances(products: np.ndarray) -> np.ndarray:
    """float64 [n, n] of a Gram matrix of centred features (else large norms would cancel)."""
    own = np.diag(products)
    return (own[:, None] + own[None, :] - 2 * products).clip(0)


def kernel(distances: np.ndarray, widest: float = WIDEST, kernels: int = KERNELS) -> np.ndarray:
    """Mean of exp(-d^2 / (width * median)) over the widths, with the median of the pooled pairs i < j: a bandwidth of one side alone
    would make permuted labels tell."""
    middle = np.median(distances[np.triu_indices(len(distances), 1)])
    if not middle:
        return (distances == 0).astype(np.float64)
    one = np.exp(distances / (-widest * middle))
    total = one.copy()
    for _ in range(kernels - 1):
        one *= one  # half the width is the square
        total += one
    return total / kernels


def mmd(kernels: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Squared maximum mean discrepancy, the unbiased U-statistic (Gretton et al., 2012), which may be negative; float64 [columns].

    `kernels`: float64 [n, n]. `second`: float64 [n, columns] of 0 and 1, as `sides` gives them.
    """
    kernels = kernels - np.diag(np.diag(kernels))
    m = second.sum(axis=0)
    n = len(kernels) - m
    rows = kernels @ second
    theirs = (second * rows).sum(axis=0)
    between = rows.sum(axis=0) - theirs
    ours = kernels.sum() - theirs - 2 * between
    return ours / (n * (n - 1)) + theirs / (m * (m - 1)) - 2 * between / (n * m)


def mmd_test(products: np.ndarray, second: np.ndarray) -> Tested:
    """Of the first column of `second` against the others."""
    return permuted(mmd(kernel(squared_distances(products)), second))


def classifier_test(products: np.ndarray, second: np.ndarray) -> Told:
    """Leave-one-out ridge regression of the side (Lopez-Paz and Oquab, 2017, with a classifier that has a closed form, so that all
    permutations are one product of matrices). The penalty is the mean eigenvalue, which no label decides.

    `products`: float64 [n, n], the Gram matrix of standardised features. `second`: as of `sides`.
    """
    n = len(products)
    middle = products - products.mean(axis=0) - products.mean(axis=1)[:, None] + products.mean()
    penalty = np.trace(middle) / n
    hat = np.linalg.solve(middle + penalty * np.eye(n), middle).T + 1 / n if penalty else np.full((n, n), 1 / n)
    own = np.diag(hat)[:, None]
    scores = (hat @ second - own * second) / (1 - own)
    truth = second[:, 0] > 0.5
    right = (scores[:, 0] > 0.5) == truth
    halves = [right[~truth], right[truth]]
    accuracy = float(np.mean([half.mean() for half in halves]))
    # plus one wrong and one right of each side, so that a classifier without a fault has an interval too
    shares = [((half.sum() + 1) / (len(half) + 2), len(half) + 2) for half in halves]
    error = np.sqrt(sum(share * (1 - share) / count for share, count in shares)) / 2
    low, high = normal(accuracy, error)
    interval = Metric(value=accuracy, low=max(0.0, low), high=min(1.0, high), n=n)
    return Told(scores[:, 0], permuted(areas(scores, second)), interval)


def areas(scores: np.ndarray, second: np.ndarray) -> np.ndarray:
    """float64 [columns]: the area under the ROC curve of each column of scores [n, columns] for its own labels [n, columns]."""
    order = np.argsort(np.ascontiguousarray(scores.T), axis=1)
    ranks = np.take_along_axis(np.ascontiguousarray(second.T), order, axis=1) @ np.arange(1, len(scores) + 1)
    m = second.sum(axis=0)
    return (ranks - m * (m + 1) / 2) / (m * (len(scores) - m))


def permuted(values: np.ndarray) -> Tested:
    """The first value against the others; the truth counts as one of them, so that p is never 0 (Phipson and Smyth, 2010)."""
    return Tested(float(values[0]), float(np.mean(values >= values[0] - 1e-12)))


def differs(first: np.ndarray, second: np.ndarray) -> Tested:
    """Kolmogorov's and Smirnov's test of one figure of each sample, float [n] and [m]; the value is the largest distance of the two
    distributions, 0 to 1."""
    found = stats.ks_2samp(first, second, method="asymp")
    return Tested(float(found.statistic), float(max(found.pvalue, np.finfo(float).tiny)))


def corrected(values: list[float]) -> list[float]:
    """p values, each as large as the share of false ones among all that are no larger may be (Benjamini and Hochberg, 1995)."""
    return stats.false_discovery_control(values).tolist() if values else []
