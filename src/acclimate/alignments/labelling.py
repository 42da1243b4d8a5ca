"""Labels for target samples from what a classifier says, in the class shares of the source; and a fit to them."""

from __future__ import annotations

import numpy as np
from scipy.special import log_softmax, logsumexp

from acclimate.alignments.alignment import Sides
from acclimate.alignments.linear import Linear
from acclimate.metrics.expected import TINY

ROUNDS, CLOSE = 200, 1e-4
"""Of balancing: rounds at most, and the change of a class's logarithm at which it ends."""


def balanced(outputs: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """float64 [m, K]: softmax(outputs + a bias a class), the biases such that the means of the columns are `shares`,
    float64 [K].

    Sinkhorn's scaling: of all tables with these row and column sums the nearest to the probabilities by relative
    entropy.
    """
    logs = log_softmax(outputs, axis=1)
    wanted = np.log(shares.clip(TINY))
    bias = np.zeros(len(shares))
    for _ in range(ROUNDS):
        step = wanted - (logsumexp(log_softmax(logs + bias, axis=1), axis=0) - np.log(len(logs)))
        bias += step
        if np.abs(step[shares > 0]).max() < CLOSE:
            break
    return np.exp(log_softmax(logs + bias, axis=1))


def chosen(chances: np.ndarray, shares: np.ndarray, portion: float) -> tuple[np.ndarray, np.ndarray]:
    """(rows, labels), int64 each: of each class the surest among the samples that are given to it, as many as `portion`
    of its share of all samples, or fewer where it has fewer."""
    given = chances.argmax(axis=1)
    rows: list[int] = []
    for name, share in enumerate(shares):
        own = np.flatnonzero(given == name)
        surest = own[np.argsort(-chances[own, name], kind="stable")]
        rows += surest[: int(np.ceil(portion * share * len(chances)))].tolist()
    kept = np.sort(np.array(rows, dtype=np.int64))
    return kept, given[kept]


def taught(sides: Sides, rows: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> Linear:
    """Fitted in the space of both to the source and to target samples `rows` with `labels`, the two with equal total
    weight: the bound on the target's error is least at a mixture (Ben-David et al., 2010), and false labels do less
    harm beside true ones."""
    return equal(sides, sides.target[rows], labels, weights)


def equal(sides: Sides, features: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> Linear:
    """As `taught`, of target features float64 [k, D]."""
    source, target = sides.space.forward(sides.source), sides.space.forward(features)
    if weights is None:
        weights = np.ones(len(target))
    if not weights.sum() > 0:
        return sides.space.fold(sides.fit(source, sides.targets, None))
    each = np.concatenate([np.full(len(source), 1 / len(source)), weights / weights.sum()])
    both = np.concatenate([source, target]), np.concatenate([sides.targets, labels])
    return sides.space.fold(sides.fit(*both, each * (len(each) / 2)))
