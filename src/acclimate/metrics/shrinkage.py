"""How far the covariance of few samples is to be shrunk towards equal variances."""

from __future__ import annotations

import numpy as np

EPS = float(np.finfo(np.float64).eps)


def ledoit_wolf(centred: np.ndarray, variances: np.ndarray, mean: float) -> float:
    """The shrinkage, 0 to 1, towards `mean` times the identity with the least expected error (Ledoit and Wolf, 2004).

    `centred`: float64 [n, D]; `variances`: the eigenvalues of its covariance over n, those of 0 may be left out;
    `mean`: their sum over D.
    """
    n, width = centred.shape
    size = (variances**2).sum()
    distance = ((variances - mean) ** 2).sum() / width + (1 - len(variances) / width) * mean**2
    noise = ((np.square(centred).sum(axis=1) ** 2).mean() - size) / (n * width)
    # a covariance that is the target, but for rounding, must not be shrunk away
    return float(min(max(0.0, noise), distance) / distance) if distance > EPS * mean**2 else 0.0
