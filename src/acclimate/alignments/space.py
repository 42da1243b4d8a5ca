"""The space in which two sides are compared: the principal components of pooled z-scores. All of it is linear."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh

from acclimate.alignments.linear import Linear

COMPONENTS = 256
FLOOR = 1e-3
"""Least spread of a column, as a share of the median one: one that is nearly constant must not drown the others."""
WEAKEST = 1e-9
"""Variance of a component, as a share of the largest, below which it is rounding."""
ROUNDING = 1e-12
"""Spread of a constant column, as a share of its value."""


@dataclass(frozen=True)
class Space:
    """x -> (x - centre) @ matrix, from raw features [n, D] to coordinates [n, d]."""

    centre: np.ndarray
    """float64 [D]: the pooled mean."""
    matrix: np.ndarray
    """float64 [D, d]: orthonormal directions, each row divided by the pooled spread of its column."""

    def forward(self, features: np.ndarray) -> np.ndarray:
        return (np.asarray(features, dtype=np.float64) - self.centre) @ self.matrix

    def fold(self, linear: Linear) -> Linear:
        """The classifier of raw features that says what `linear` says of their coordinates."""
        return linear.after(self.matrix, -self.centre @ self.matrix)


def space(source: np.ndarray, target: np.ndarray, components: int = COMPONENTS) -> Space:
    """From all samples of both sides, raw features [n, D] and [m, D].

    At most `components`, at least one, by falling variance. Nothing is cut off, other than in `metrics.two_samples`,
    for the map must fold into a classifier. The components keep their spread: strong directions stay strong, so that a
    penalty on weights holds weak ones, which are noise for the most part.
    """
    both = np.concatenate([source, target]).astype(np.float64)
    centre, spread = both.mean(axis=0), both.std(axis=0)
    moving = spread[spread > ROUNDING * np.abs(centre)]
    spread = spread.clip(FLOOR * float(np.median(moving)) if len(moving) else 1.0)
    turn = principal((both - centre) / spread, components)
    return Space(centre, turn / spread[:, None])


def principal(centred: np.ndarray, components: int) -> np.ndarray:
    """float64 [D, d]: orthonormal directions of the largest variance, by the smaller matrix of products."""
    n, width = centred.shape
    wide = width > n
    products = centred @ centred.T if wide else centred.T @ centred
    size = len(products)
    values, found = eigh(products, subset_by_index=[max(0, size - components), size - 1])
    values, found = values[::-1], found[:, ::-1]
    kept = max(1, int((values > WEAKEST * values[0]).sum()))
    if not wide:
        return found[:, :kept]
    return centred.T @ found[:, :kept] / np.sqrt(values[:kept].clip(np.finfo(float).tiny))
