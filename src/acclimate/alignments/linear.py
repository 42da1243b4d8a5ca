"""A linear classifier, and the same one read through an affine map."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import softmax


@dataclass(frozen=True)
class Linear:
    """`weight` float64 [K, D] and `bias` float64 [K]."""

    weight: np.ndarray
    bias: np.ndarray

    def outputs(self, features: np.ndarray) -> np.ndarray:
        """float64 [n, K] of features [n, D]."""
        return np.asarray(features, dtype=np.float64) @ self.weight.T + self.bias

    def chances(self, features: np.ndarray) -> np.ndarray:
        """float64 [n, K]: probabilities of the classes."""
        return softmax(self.outputs(features), axis=1)

    def after(self, matrix: np.ndarray, shift: np.ndarray) -> Linear:
        """The classifier of x with the outputs of this one on `x @ matrix + shift`; a `matrix` of one axis scales
        columns."""
        weight = self.weight * matrix if matrix.ndim == 1 else self.weight @ matrix.T
        return Linear(weight, self.bias + self.weight @ shift)

    def tilted(self, scale: float, bias: np.ndarray) -> Linear:
        """The classifier with the outputs `scale * outputs + bias`."""
        return Linear(self.weight * scale, self.bias * scale + bias)
