"""coral: the source gets the target's mean and covariance, by whitening and colouring; then a new fit."""

from __future__ import annotations

import numpy as np

from acclimate.alignments.alignment import Alignment, Sides, alone
from acclimate.alignments.linear import Linear
from acclimate.alignments.moments import Moments, carried


def recolouring(source: Moments, target: Moments) -> np.ndarray:
    """float64 [d, d]: C_s^-1/2 C_t^1/2 (Sun et al., 2016)."""
    return source.power(-0.5) @ target.power(0.5)


@alone
def coral(sides: Sides) -> Linear:
    """With covariances shrunk as Ledoit and Wolf (2004) derive, where the paper adds 1 to each variance of standardised
    features."""
    return carried(sides, recolouring)


CORAL = Alignment("coral", "the source gets the target's mean and covariance, by whitening and colouring", coral, True)
