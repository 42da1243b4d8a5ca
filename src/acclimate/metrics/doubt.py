"""Labels worth a second look: where those who did not learn a label speak for another one (confident learning)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


@dataclass(frozen=True)
class Doubt:
    """What is to be looked at again, in the user's words."""

    place: int
    """Of the sample among those that were asked about."""
    kind: str
    """One of `OTHER`, `LACKING`, `VAIN`."""
    label: str
    """What the data say; empty where they say nothing."""
    suggested: str
    """What is thought instead; empty for nothing."""
    sure: float
    """0 to 1; what is most likely wrong has most."""
    box: tuple[float, ...] | None = None
    """x1, y1, x2, y2 in pixels, where it is about a part of a sample."""


OTHER, LACKING, VAIN = "another class", "found, not labelled", "labelled, not found"
"""The kinds of doubt."""


class Doubtful(NamedTuple):
    """Samples whose class is doubtful, what is most in doubt first: `place` int64 [m], `suggested` int64 [m], `sure` float64 [m]."""

    place: np.ndarray
    suggested: np.ndarray
    sure: np.ndarray


def doubtful(chances: np.ndarray, given: np.ndarray, fold: np.ndarray | None = None) -> Doubtful:
    """As many samples as confident learning estimates to be labelled wrongly, those with the largest margin (Northcutt, Jiang and
    Chuang 2021).

    `chances`: float [n, K], of models that have not learned the sample's own label. `given`: int64 [n]. `fold`: int64 [n], samples
    whose chances come from what learned all others; by default each is alone.

    The margin is of the most probable other class over the given one, in roots of chances, which measured better than chances, their
    logarithms, or the given one's alone; `sure` is 0 to 1, and 0.5 where both are equal: what is below is never doubted. Samples of a
    class that no other fold has are not judged: nobody has learned it.
    """
    judged = np.flatnonzero(_learned(given, fold, chances.shape[1]))
    chances, given = chances[judged].astype(np.float64), given[judged]
    rows = np.arange(len(given))
    others = chances.copy()
    others[rows, given] = -1.0
    suggested = others.argmax(axis=1)
    sure = (1 + np.sqrt(chances[rows, suggested]) - np.sqrt(chances[rows, given])) / 2
    order = np.argsort(-sure, kind="stable")[: round(wrong(chances, given))]
    order = order[sure[order] > 0.5]
    return Doubtful(judged[order], suggested[order], sure[order])


def wrong(chances: np.ndarray, given: np.ndarray) -> float:
    """How many samples have another class than the given one, estimated by confident learning; `chances` and `given` as in `doubtful`.

    A class is likely for a sample where its chance is at least its mean chance among samples given as such, so that a class that is
    told apart less well is likely sooner. Of the samples of each given class for which any is likely, those whose likeliest is another
    are wrong, and so is the same share of the rest.
    """
    rows, count = np.arange(len(given)), np.bincount(given, minlength=chances.shape[1])
    least = _ratio(np.bincount(given, chances[rows, given], minlength=len(count)), count, np.inf)
    likely = np.where(chances >= least, chances, -1.0)
    best = likely.argmax(axis=1)
    told = likely[rows, best] >= 0
    of = np.bincount(given[told], minlength=len(count))
    other = np.bincount(given[told & (best != given)], minlength=len(count))
    return float(count @ _ratio(other, of, 0.0))


def _learned(given: np.ndarray, fold: np.ndarray | None, classes: int) -> np.ndarray:
    """bool [n]: whether another fold has a sample of the given class."""
    fold = np.arange(len(given)) if fold is None else np.unique(fold, return_inverse=True)[1]
    place = fold * classes + given
    return np.bincount(given, minlength=classes)[given] > np.bincount(place)[place]


def _ratio(above: np.ndarray, below: np.ndarray, otherwise: float) -> np.ndarray:
    return np.divide(above, below, out=np.full(len(below), otherwise), where=below > 0)
