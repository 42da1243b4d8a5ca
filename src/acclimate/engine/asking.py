"""Which samples to have labelled: those whose labels would tell most, spread over predicted classes and over how sure they are."""

from __future__ import annotations

import numpy as np

from acclimate.core.seeds import generator


def pick(predictions: np.ndarray, wanted: int, seed: int = 0) -> np.ndarray:
    """int64 [m]: places of at most `wanted` rows of probabilities [n, classes], the most telling first.

    Predicted classes take turns, so that a class that is seldom predicted is asked for as well; within each, samples come from equal
    parts of its range of certainty, the least certain part first: labels of uncertain samples alone would say nothing of the others.
    """
    n = len(predictions)
    best, draw = predictions.argmax(axis=1), generator("ask", seed)
    groups = [np.flatnonzero(best == name) for name in np.unique(best)]
    groups = [group[np.argsort(predictions[group].max(axis=1), kind="stable")] for group in groups]
    shares = _even([len(group) for group in groups], min(wanted, n))
    chosen = [
        [int(draw.choice(part)) for part in np.array_split(group, share)]
        for group, share in zip(groups, shares, strict=True)
        if share
    ]
    turns = max(map(len, chosen), default=0)
    return np.array([own[turn] for turn in range(turns) for own in chosen if turn < len(own)], dtype=np.int64)


def _even(sizes: list[int], wanted: int) -> list[int]:
    """As even shares of `wanted` as groups of these sizes can give."""
    shares = [0] * len(sizes)
    while wanted > 0 and (open_ := [i for i, size in enumerate(sizes) if shares[i] < size]):
        for i in sorted(open_, key=lambda i: -sizes[i])[:wanted]:
            shares[i] += 1
            wanted -= 1
    return shares
