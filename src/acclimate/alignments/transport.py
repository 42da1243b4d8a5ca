"""transport: the source goes to the target by the shortest linear way; then a new fit."""

from __future__ import annotations

import numpy as np

from acclimate.alignments.alignment import Alignment, Sides, alone
from acclimate.alignments.linear import Linear
from acclimate.alignments.moments import Moments, carried
from acclimate.metrics.shrinkage import EPS


def monge(source: Moments, target: Moments) -> np.ndarray:
    """float64 [d, d], symmetric: C_s^-1/2 (C_s^1/2 C_t C_s^1/2)^1/2 C_s^-1/2, the optimal map of one normal
    distribution to another (Gelbrich, 1990; for adaptation Flamary et al., 2019)."""
    root, inverse = source.power(0.5), source.power(-0.5)
    values, axes = np.linalg.eigh(root @ target.power(1) @ root)
    values = np.where(values > EPS * len(values) * values[-1], values, 0)
    return inverse @ (axes * np.sqrt(values) @ axes.T) @ inverse


@alone
def transport(sides: Sides) -> Linear:
    """With covariances shrunk as Ledoit and Wolf (2004) derive."""
    return carried(sides, monge)


TRANSPORT = Alignment("transport", "the source goes to the target by the shortest linear way", transport, balanced=True)
