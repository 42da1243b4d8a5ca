"""How accurate a classifier is on samples without labels, estimated from its probabilities there and on labelled samples it has not
learned from. Estimates hold where class shares and p(y | x) stay; they are worthless for a model that was adapted to the very samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import csr_array, eye_array, kron, vstack
from scipy.special import softmax

from acclimate.core.seeds import generator
from acclimate.metrics import calibration

TINY = 1e-12
MOST = 60_000
"""Of samples times classes, so many are in a plan of transport: a second's work."""
SLACK = 0.5
"""Standard errors of a class's share that a plan may deviate by (docs/log.md)."""


class Labelled(NamedTuple):
    """`chances` float64 [n, K], `targets` int64 [n] of samples that the classifier has not learned from."""

    chances: np.ndarray
    targets: np.ndarray

    @property
    def accuracy(self) -> float:
        return float(np.mean(self.chances.argmax(axis=1) == self.targets))


def temperature(held: Labelled) -> float:
    """That of `calibration.temperature`."""
    return calibration.temperature(np.log(held.chances.clip(TINY)), held.targets)


def tempered(chances: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities with their logarithms divided by a temperature."""
    return softmax(np.log(chances.clip(TINY)) / temperature, axis=1)


def confidence_difference(held: Labelled, chances: np.ndarray) -> float:
    """Accuracy there, less what the mean confidence fell by (difference of confidences; Guillory et al., 2021)."""
    fallen = held.chances.max(axis=1).mean() - chances.max(axis=1).mean()
    return float(np.clip(held.accuracy - fallen, 0, 1))


def odds(chances: np.ndarray) -> np.ndarray:
    """float64 [n]: log-odds of the largest probability, which do not tie at 1 as probabilities do."""
    best = chances.max(axis=1)
    rest = (chances.sum(axis=1) - best).clip(TINY)
    return np.log(best / rest)


def certainty(chances: np.ndarray) -> np.ndarray:
    """float64 [n]: the negative entropy of each row, in nats."""
    return (chances * np.log(chances.clip(TINY))).sum(axis=1)


def threshold(held: Labelled, score: Callable[[np.ndarray], np.ndarray] = odds) -> float:
    """The confidence above which as large a share of the labelled samples lies as is right: midway between two order statistics."""
    ordered = np.sort(score(held.chances))
    below = round((1 - held.accuracy) * len(ordered))
    if below == 0:
        return -np.inf
    return float(ordered[-1] if below == len(ordered) else (ordered[below - 1] + ordered[below]) / 2)


def over_threshold(held: Labelled, chances: np.ndarray, score: Callable[[np.ndarray], np.ndarray] = odds) -> float:
    """Share of the samples above `threshold` (average thresholded confidence; Garg et al., 2022)."""
    return float(np.mean(score(chances) > threshold(held, score)))


def transported(held: Labelled, chances: np.ndarray, seed: int = 0) -> float:
    """1 - half the Wasserstein-1 distance, by l1, of the rows of probabilities from one-hot labels in the shares of the labelled
    samples (confidence optimal transport; Lu et al., 2023), corrected by how far the same is off on the labelled samples."""
    n = len(held.targets)
    shares = np.bincount(held.targets, minlength=chances.shape[1]) / n
    bias = transport(held.chances, shares, n, seed) - held.accuracy
    return float(np.clip(transport(chances, shares, n, seed) - bias, 0, 1))


def transport(chances: np.ndarray, shares: np.ndarray, known: float = np.inf, seed: int = 0) -> float:
    """Largest mean probability of a label, where labels are given to rows so that the classes get `shares`. Half of the l1 distance of
    a row from a one-hot label is 1 less the label's probability. Of more than `MOST` probabilities some rows are read.

    `known`: the number of samples that the shares were counted on. Classes may get `SLACK` standard errors more or less than that: the
    shares of any two samples of one distribution differ, and a plan that had to undo that would count it as lost accuracy.
    """
    most = max(1, MOST // chances.shape[1])
    chances = chances[np.sort(generator("transport", seed).permutation(len(chances))[:most])]
    n, classes = chances.shape
    slack = SLACK * np.sqrt(shares * (1 - shares) * (1 / n + 1 / known)) if np.isfinite(known) else np.zeros(classes)
    rows = csr_array(kron(eye_array(n), np.ones((1, classes))))
    columns = csr_array(kron(np.ones((1, n)), eye_array(classes)))
    bounds = np.concatenate([shares + slack, slack - shares]) + TINY  # rounding must not make it impossible
    found = linprog(-chances.ravel(), vstack([columns, -columns]), bounds, rows, np.full(n, 1 / n), method="highs")
    return float(-found.fun)


ESTIMATES = {
    "confidence difference": confidence_difference,
    "thresholded confidence": over_threshold,
    "optimal transport": transported,
}
"""Those that are published, as their range. The last alone is fit to raise an alarm (docs/log.md)."""
ALARM = "optimal transport"


def estimates(held: Labelled, chances: np.ndarray) -> dict[str, float]:
    """Every estimate, on probabilities tempered alike on both sides."""
    heat = temperature(held)
    held = Labelled(tempered(held.chances, heat), held.targets)
    chances = tempered(chances, heat)
    return {name: estimate(held, chances) for name, estimate in ESTIMATES.items()}
