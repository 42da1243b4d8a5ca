"""What the best of several tried models is worth on new samples, where the samples that judge it are those that chose it."""

from __future__ import annotations

import numpy as np

from acclimate.core import seeds
from acclimate.metrics.intervals import like_share, of_mean
from acclimate.metrics.metric import Metric

REPLICATES = 2000
CELLS = 4_000_000
"""Replicates times samples that are computed together."""


def corrected(scores: np.ndarray) -> Metric:
    """The mean score that the best of k tried models reaches on samples that did not choose it.

    `scores`: float [k, n], one row a model, for a figure that is a mean over samples. In each replicate n samples are drawn with
    replacement; the best on them (the first of equal ones) is judged on those that were not drawn. Value: the mean over the
    replicates (bootstrap bias correction, Tsamardinos, Greasidou and Borboudakis 2018); interval: `intervals.like_share` with their
    spread, made smaller, for the mean of the third or so of the samples that is left varies more than that of all. One model alone has its
    plain mean and `intervals.of_mean`. Raises ValueError for fewer than two samples.
    """
    k, n = scores.shape
    if n < 2:
        raise ValueError(f"{n} sample: one cannot both choose and judge")
    if k == 1:
        value, low, high = of_mean(scores[0])
        return Metric(value=value, low=low, high=high, n=n)
    random, each = seeds.generator("selection"), scores.T.astype(np.float64)
    blocks = [_judged(each, random, some) for some in _blocks(REPLICATES, max(1, CELLS // n))]
    judged, left = (np.concatenate(part) for part in zip(*blocks, strict=True))
    wider = np.sqrt(max(1.0, n * (1 / left - 1 / n).mean()))
    value = float(judged.mean())
    value, low, high = like_share(value, value, float(judged.std() / wider), n)
    return Metric(value=value, low=low, high=high, n=n)


def _blocks(total: int, most: int) -> list[int]:
    return [min(most, total - start) for start in range(0, total, most)]


def _judged(scores: np.ndarray, random: np.random.Generator, replicates: int) -> tuple[np.ndarray, np.ndarray]:
    """(the mean score, on the samples not drawn, of the best on those drawn; how many were not); scores float64 [n, k]."""
    n = len(scores)
    drawn = random.multinomial(n, np.full(n, 1 / n), replicates).astype(np.float64)
    left = (drawn == 0).astype(np.float64)
    some = left.any(axis=1)  # of two samples both may be drawn
    best = (drawn[some] @ scores).argmax(axis=1)
    count = left[some].sum(axis=1)
    return (left[some] @ scores)[np.arange(len(best)), best] / count, count
