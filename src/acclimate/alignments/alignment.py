"""What an alignment is: labelled source features and unlabelled target features in, one linear classifier out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from threadpoolctl import threadpool_limits

from acclimate.alignments.linear import Linear
from acclimate.alignments.space import Space, space

alone = threadpool_limits.wrap(limits=1, user_api="blas")
"""For a `solve` that multiplies matrices: on shared cores its threads would wait for each other, many times as long."""


class Fit(Protocol):
    """Fits a classifier anew, its penalty fixed beforehand.

    `features` float64 [n, d], `targets` int64 [n] of the K classes, of which some may not occur, `weights` float64 [n]
    or None for equal ones; only their ratios count. The penalty must be on the weights of the features as they are
    given: methods hand over principal components, whose spreads differ for a reason, and to scale these to one would
    raise the noise. Returns K rows.
    """

    def __call__(self, features: np.ndarray, targets: np.ndarray, weights: np.ndarray | None, /) -> Linear: ...


@dataclass(frozen=True)
class Sides:
    """All that is known: raw features as the backbone gives them, at least one sample of each side."""

    source: np.ndarray
    """float [n, D]."""
    targets: np.ndarray
    """int64 [n]: classes of the source samples."""
    held: np.ndarray
    """float [v, D]: source samples that `plain` has not learned from; there may be none."""
    held_targets: np.ndarray
    """int64 [v]."""
    target: np.ndarray
    """float [m, D]."""
    fit: Fit
    plain: Linear
    """Fitted to the source alone."""
    declared: np.ndarray | None = None
    """float64 [K]: class shares of the target, where they are known."""
    known: np.ndarray | None = None
    """float [k, D]: target samples that have a label, where there are any."""
    known_targets: np.ndarray | None = None
    """int64 [k]."""

    @property
    def classes(self) -> int:
        return len(self.plain.bias)

    @property
    def shares(self) -> np.ndarray:
        """float64 [K]: of the classes, as they are expected of the target: what was declared, else those of the source."""
        if self.declared is not None:
            return self.declared
        return np.bincount(self.targets, minlength=self.classes) / len(self.targets)

    @cached_property
    def space(self) -> Space:
        return space(self.source, self.target)


@dataclass(frozen=True)
class Alignment:
    """An entry of the table."""

    name: str
    summary: str
    solve: Callable[[Sides], Linear]
    """Deterministic. The classifier is one of raw target features: what a method does to them is folded into it."""
    balanced: bool
    """Leans on the target's class shares being about those of the source: where they are not, it does harm."""
    shared: bool = False
    """Reads the class shares of the target, where they are declared."""
    labelled: bool = False
    """Learns from target samples that have a label, and needs some."""
