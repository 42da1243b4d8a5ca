"""subspace: each side in its own main directions, those of the source turned to those of the target; then a new fit."""

from __future__ import annotations

import numpy as np

from acclimate.alignments.alignment import Alignment, Sides, alone
from acclimate.alignments.linear import Linear
from acclimate.alignments.moments import Moments, moments
from acclimate.metrics.shrinkage import EPS

LEAST, MOST = 10, 100
"""Dimensions that are looked at. All of them would undo the turning and leave the sides centred, no more."""


def dimension(source: np.ndarray, target: np.ndarray, n: int, m: int) -> int:
    """How many directions are kept, from the variances float64 [d] of n and m samples, falling: the number whose
    subspaces are surest.

    The error of the aligned subspace is bounded by d^3/2 (1 / (sqrt(n) gap of the source at d) + 1 / (sqrt(m) gap of
    the target)), up to constants (Fernando et al., 2013, theorem 1), gaps as shares of a side's variance; the d with
    the least bound is taken.
    """
    most = min(MOST, len(source) - 1, n - 1, m - 1)
    if most <= LEAST:
        return max(1, min(LEAST, len(source), most))
    kept = np.arange(LEAST, most + 1)
    bound = np.zeros(len(kept))
    for variances, count in ((source, n), (target, m)):
        gaps = (variances[kept - 1] - variances[kept]) / (float(variances.sum()) or 1.0)
        bound += kept**1.5 / (np.sqrt(count) * gaps.clip(EPS))
    return int(kept[bound.argmin()])


def aligned(source: Moments, target: Moments, kept: int) -> tuple[np.ndarray, np.ndarray]:
    """Matrices float64 [d, kept] that centred source and target features are multiplied with: P_s P_s' P_t and P_t."""
    own, other = source.axes[:, :kept], target.axes[:, :kept]
    return own @ (own.T @ other), other


@alone
def subspace(sides: Sides) -> Linear:
    """Subspace alignment (Fernando et al., 2013). Target features are centred on their own mean."""
    source, target = sides.space.forward(sides.source), sides.space.forward(sides.target)
    ours, theirs = moments(source, 0), moments(target, 0)
    kept = dimension(ours.variances, theirs.variances, len(source), len(target))
    from_source, from_target = aligned(ours, theirs, kept)
    linear = sides.fit((source - ours.mean) @ from_source, sides.targets, None)
    return sides.space.fold(linear.after(from_target, -theirs.mean @ from_target))


SUBSPACE = Alignment("subspace", "the source's main directions are turned to the target's", subspace, balanced=True)
