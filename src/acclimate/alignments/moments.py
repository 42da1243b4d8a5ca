"""Mean and shrunk covariance of one side, powers of it, and a source that is carried over by them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from acclimate.alignments.alignment import Sides
from acclimate.alignments.linear import Linear
from acclimate.metrics.shrinkage import EPS, ledoit_wolf


@dataclass(frozen=True)
class Moments:
    """`mean` float64 [d]; the covariance as falling `variances` float64 [d] along the columns of `axes` [d, d]."""

    mean: np.ndarray
    variances: np.ndarray
    axes: np.ndarray

    def power(self, exponent: float) -> np.ndarray:
        """float64 [d, d]: of the covariance; directions without variance stay without, whatever the exponent."""
        there = self.variances > EPS * len(self.variances) * self.variances[0]
        scaled = np.zeros_like(self.variances)
        scaled[there] = self.variances[there] ** exponent
        return self.axes * scaled @ self.axes.T


def moments(features: np.ndarray, shrinkage: float | None = None) -> Moments:
    """Of float64 [n, d]. The covariance is over n, shrunk towards its mean variance by `shrinkage`, 0 to 1, or as
    `ledoit_wolf` says."""
    mean = features.mean(axis=0)
    centred = features - mean
    variances, axes = np.linalg.eigh(centred.T @ centred / len(centred))
    variances, axes = variances[::-1].clip(0), axes[:, ::-1]
    middle = float(variances.mean())
    share = ledoit_wolf(centred, variances, middle) if shrinkage is None else shrinkage
    return Moments(mean, (1 - share) * variances + share * middle, axes)


def carried(sides: Sides, between: Callable[[Moments, Moments], np.ndarray]) -> Linear:
    """Fitted, in the space of both, to the source as it would be on the target."""
    source, target = sides.space.forward(sides.source), sides.space.forward(sides.target)
    return sides.space.fold(sides.fit(moved(source, moments(source), moments(target), between), sides.targets, None))


def moved(
    features: np.ndarray, source: Moments, target: Moments, between: Callable[[Moments, Moments], np.ndarray]
) -> np.ndarray:
    """(x - mean of the source) @ between(source, target) + mean of the target, of source features float64 [n, d]."""
    return (features - source.mean) @ between(source, target) + target.mean
