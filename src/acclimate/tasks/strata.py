"""Which samples count as alike, where each has a set of labels: for splits, and for drawing what is rare as often as the rest."""

from __future__ import annotations

import numpy as np

RARE = 5
"""A set of labels that fewer samples have cannot be shared out among splits; its samples go by their rarest label."""


def of_sets(hot: np.ndarray) -> np.ndarray:
    """int64 [n] of 0/1 [n, labels]: the set of labels, or the rarest of them if fewer than `RARE` samples have that set."""
    _, sets, counts = np.unique(np.packbits(hot > 0.5, axis=1), axis=0, return_inverse=True, return_counts=True)
    sets = sets.reshape(-1)
    return np.where(counts[sets] < RARE, len(counts) + rarest(hot), sets)


def rarest(hot: np.ndarray) -> np.ndarray:
    """int64 [n] of 0/1 [n, labels]: of the labels of each sample the one that fewest samples have; the number of labels where it
    has none."""
    counts = hot.sum(axis=0)
    found = np.where(hot > 0.5, counts, np.inf).argmin(axis=1)
    return np.where(hot.any(axis=1), found, hot.shape[1])


def balanced(alike: np.ndarray) -> np.ndarray:
    """float64 [n], mean 1: how often to draw each sample so that every kind (equal numbers) comes up equally often."""
    _, alike, counts = np.unique(alike, return_inverse=True, return_counts=True)
    return len(alike) / (len(counts) * counts[alike])
