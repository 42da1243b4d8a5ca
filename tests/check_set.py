"""A small deterministic data set without random numbers, for which the values of many formulas are known."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import softmax


class CheckSet(NamedTuple):
    """`features` float64 [n, D], `targets` int64 [n], `logits` float64 [n, 6] of a source model and their softmax."""

    features: np.ndarray
    targets: np.ndarray
    logits: np.ndarray
    chances: np.ndarray


def check_set(n: int = 60, width: int = 8, classes: int = 3) -> CheckSet:
    i, j, c = np.arange(n)[:, None], np.arange(width)[None, :], np.arange(6)[None, :]
    targets = np.arange(n) % classes
    own = targets[:, None] + 1
    features = np.sin(0.7 * (i + 1) * (j + 1)) + 0.5 * np.cos(1.3 * own * (j + 1))
    logits = 2 * np.sin(0.3 * (i + 1) * (c + 1)) + 1.5 * np.cos(0.9 * own * (c + 1))
    return CheckSet(features, targets, logits, softmax(logits, axis=1))
