"""standardise: the target's columns get the mean and spread of the source's; the classifier stays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from acclimate.alignments.alignment import Alignment, Sides
from acclimate.alignments.linear import Linear

PRIOR = 16
"""As many samples the source's own statistics count for among the target's (Schneider et al., 2020): without them a
column that is still in a few target samples would be blown up, and one sample would have no spread at all."""


def scaling(source: np.ndarray, target: np.ndarray, prior: float = PRIOR) -> tuple[np.ndarray, np.ndarray]:
    """(scale, shift), float64 [D] each: x * scale + shift has on the target, float [m, D], the source's means and
    spreads."""
    source, target = source.astype(np.float64), target.astype(np.float64)
    own = prior / (prior + len(target))
    middle, spread = source.mean(axis=0), source.std(axis=0)
    mean = own * middle + (1 - own) * target.mean(axis=0)
    wide = np.sqrt(own * spread**2 + (1 - own) * target.std(axis=0) ** 2)
    scale = np.divide(spread, wide, out=np.ones_like(spread), where=wide > 0)
    return scale, middle - mean * scale


def levelled(sides: Sides) -> tuple[Sides, np.ndarray, np.ndarray]:
    """The sides with the target so moved, and its scale and shift."""
    scale, shift = scaling(sides.source, sides.target)
    return replace(sides, target=sides.target * scale + shift), scale, shift


def standardise(sides: Sides) -> Linear:
    """AdaBN's idea (Li et al., 2016) for features that are already pooled."""
    return sides.plain.after(*scaling(sides.source, sides.target))


STANDARDISE = Alignment(
    "standardise", "the target's columns get the source's mean and spread", standardise, balanced=True
)
