"""How far a figure may be off: intervals of a share and of what is like one, of a function of sums, of losses, of a paired difference.

Every interval is two-sided, at 95 % unless said. What is resampled is always the sample.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.special import bdtr, gammaincinv, ndtr, ndtri, stdtr, stdtrit

from acclimate.core import seeds

LEVEL = 0.95
REPLICATES = 2000
LARGE = 10_000
"""From so many samples on, a normal interval is as good as resampling, and much cheaper."""
MOST_BIAS = 0.5
"""Where resampling moves the median of a figure by more standard errors, its replicates are no guide to it."""

Interval = tuple[float, float, float]
"""(value, low, high)"""

Statistic = Callable[[np.ndarray], np.ndarray]
"""Sums over the samples, float64 [replicates, columns] -> the figure of each replicate, float64 [replicates]."""


def wilson(share: float, n: float, level: float = LEVEL) -> tuple[float, float]:
    """The score interval of a share seen in `n` trials (Wilson 1927). `n` may be an effective number; at 0: (0, 1)."""
    if n <= 0:
        return 0.0, 1.0
    low, high = map(float, wilson_ends(np.asarray(share), np.asarray(n), ndtri((1 + level) / 2)))
    # At shares of 0 and 1 the share is an end of the interval; rounding must not put it outside.
    return min(share, max(0.0, low)), max(share, min(1.0, high))


def mid_p(right: int, n: int, level: float = LEVEL) -> tuple[float, float]:
    """The exact interval of a share with what was seen itself counted half (Lancaster 1961), for shares near 0 and 1.

    Wilson's score interval holds as little as .84 of them there, where a single miss in `n` >= 1 is hardly ever seen.
    """
    tail = (1 - level) / 2

    def below(share: float, right: int) -> float:
        return float(bdtr(right - 1, n, share) if right else 0.0)

    def end(other: Callable[[float], float]) -> float:
        return float(brentq(lambda share: other(share) - tail, 0.0, 1.0, xtol=1e-12))

    low = end(lambda share: 1 - (below(share, right) + below(share, right + 1)) / 2) if right else 0.0
    high = end(lambda share: (below(share, right) + below(share, right + 1)) / 2) if right < n else 1.0
    return low, high


def wilson_ends(share: np.ndarray, n: np.ndarray, errors: float) -> tuple[np.ndarray, np.ndarray]:
    """The shares of which those seen in `n` trials are so many standard errors away, below and above."""
    square = errors**2
    middle = (share + square / (2 * n)) / (1 + square / n)
    half = errors / (1 + square / n) * np.sqrt(share * (1 - share) / n + square / (4 * n**2))
    return middle - half, middle + half


def normal(value: float, error: float, level: float = LEVEL) -> tuple[float, float]:
    """The interval of a normally distributed figure with the standard error `error`."""
    half = ndtri((1 + level) / 2) * error
    return float(value - half), float(value + half)


def bca(value: float, replicates: np.ndarray, left_out: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """Bias-corrected, accelerated bootstrap interval (Efron 1987).

    `replicates`: the figure on resampled data, float [replicates]. `left_out`: the figure without each of the samples,
    float [n]. Figures that suffer from resampling itself (macro F1 of many classes with few samples each: a replicate
    lacks some) have replicates far to one side; they get a normal interval, with the jackknife's standard error.
    """
    pulls, n = left_out.mean() - left_out, len(left_out)
    # the figure of all samples comes up again among the replicates, up to the rounding of this processor
    same = np.isclose(replicates, value, rtol=1e-12, atol=1e-12)
    below = np.mean((replicates < value) & ~same) + np.mean(same) / 2
    bias = ndtri(below)
    if abs(bias) > MOST_BIAS:
        return normal(value, np.sqrt((n - 1) / n * (pulls**2).sum()), level)
    spread = 6 * (pulls**2).sum() ** 1.5
    acceleration = (pulls**3).sum() / spread if spread > 0 else 0.0
    shifted = bias + ndtri(np.array([(1 - level) / 2, (1 + level) / 2]))
    low, high = np.quantile(replicates, ndtr(bias + shifted / (1 - acceleration * shifted)))
    return float(min(low, value)), float(max(high, value))


def of_sums(
    statistic: Statistic, values: Any, counts: np.ndarray | None = None, replicates: int = REPLICATES, seed: int = 0
) -> Interval:
    """A figure that is a function of sums over the samples, and its bootstrap interval: (value, low, high).

    `values`: float [rows, columns], an array or a SciPy sparse one; a row is what one sample adds to the sums. Samples
    that add the same may share a row: `counts`, int [rows], says how many there are (default: one each). Replicates
    for which the figure is not defined (NaN) are left out; (NaN, NaN, NaN) where it is not defined for all samples
    together. From `LARGE` samples on the interval is normal, with the jackknife's standard error.
    """
    counts = np.ones(values.shape[0], dtype=np.int64) if counts is None else counts
    n, total = int(counts.sum()), counts @ values
    value = float(statistic(total[None])[0])
    if not np.isfinite(value):
        return value, value, value
    left_out = np.repeat(_left_out(statistic, values, total), counts)
    left_out[~np.isfinite(left_out)] = value
    if n >= LARGE:
        return value, *normal(value, np.sqrt((n - 1) * left_out.var()))
    drawn = np.concatenate([statistic(draws @ values) for draws in _resampled(counts, replicates, seed)])
    return value, *bca(value, drawn[np.isfinite(drawn)], left_out)


def of_mean(values: np.ndarray) -> Interval:
    """The mean of one figure a sample, float [n], and its bootstrap interval: (value, low, high)."""
    columns = np.column_stack([values, np.ones(len(values))]).astype(np.float64)
    return of_sums(lambda sums: sums[:, 0] / sums[:, 1].clip(1), columns)


def like_share(value: float, centre: float, error: float, n: float) -> Interval:
    """A figure from 0 to 1 and the score interval of a share with this mean and standard error: (value, low, high).

    `centre`: the figure without its bias. The interval is Wilson's for as many trials as give a share such an error; for `n`, where
    there is no error to be seen: all right in a small sample is not certainty. It always holds the value.
    """
    centre = min(max(centre, 0.0), 1.0)
    trials = centre * (1 - centre) / error**2 if error > 0 and 0 < centre < 1 else n
    low, high = wilson(centre, trials)
    return value, min(low, value), max(high, value)


def jackknifed(value: float, left_out: np.ndarray) -> tuple[float, float]:
    """(the figure without its bias, its standard error) by the jackknife (Quenouille 1956; Tukey 1958); `left_out` as in `bca`."""
    n = len(left_out)
    return float(n * value - (n - 1) * left_out.mean()), float(np.sqrt((n - 1) * left_out.var()))


def jackknifed_sums(statistic: Statistic, values: np.ndarray) -> tuple[float, float, float]:
    """(a figure that is a function of sums over the samples, the same without its bias, its standard error) by the jackknife.

    `values`: float [n, columns]. NaN where the figure is not defined for all samples together.
    """
    total = values.sum(axis=0, dtype=np.float64)
    value = float(statistic(total[None])[0])
    if not np.isfinite(value):
        return value, value, value
    left_out = _left_out(statistic, values, total)
    left_out[~np.isfinite(left_out)] = value
    return value, *jackknifed(value, left_out)


def of_losses(values: np.ndarray, mistake: float) -> Interval:
    """The mean of losses, float [n], not below 0 and mostly small, and the interval of a gamma distribution: (value, low, high).

    Few samples hold most of such a sum, and those that hold the rest may not have come up: resampling knows only what it has seen.
    The sum counts as one of rare events of unlike size, and its high end as if one more had come, of the size of a `mistake` (Fay and
    Feuer 1997).
    """
    n, value = len(values), float(values.mean())
    square = float(values.var(ddof=1)) / n if n > 1 else value**2
    more = mistake / n
    low = _gamma(value, square, (1 - LEVEL) / 2)
    return value, min(low, value), max(value, _gamma(value + more, square + more**2, (1 + LEVEL) / 2))


def _gamma(mean: float, variance: float, level: float) -> float:
    """A quantile of the gamma distribution with these moments."""
    return float(variance / mean * gammaincinv(mean**2 / variance, level)) if variance > 0 else mean


class Paired(NamedTuple):
    """`difference`: the mean of a minus that of b; `error`: its standard error; `p`: two-sided."""

    difference: float
    error: float
    low: float
    high: float
    p: float


def paired(scores_a: np.ndarray, scores_b: np.ndarray) -> Paired:
    """Is a better than b on the same samples? Scores are float [n], 1 = right.

    Scores of only right and wrong: the interval of Bonett and Price (2012), which has a width even where no sample
    differs, and McNemar's exact test. Graded scores: Student's t over the differences. Raises ValueError for fewer
    than 2 samples, or scores that do not pair.
    """
    if len(scores_a) != len(scores_b) or len(scores_a) < 2:
        raise ValueError(f"{len(scores_a)} and {len(scores_b)} scores: pairs are needed, at least two")
    change = np.asarray(scores_a, dtype=np.float64) - np.asarray(scores_b, dtype=np.float64)
    n, difference = len(change), float(change.mean())
    error = float(change.std(ddof=1) / np.sqrt(n))
    if np.isin(scores_a, (0, 1)).all() and np.isin(scores_b, (0, 1)).all():
        better, worse = int((change > 0).sum()), int((change < 0).sum())
        up, down = (better + 1) / (n + 2), (worse + 1) / (n + 2)
        low, high = normal(up - down, np.sqrt((up + down - (up - down) ** 2) / (n + 2)))
        p = min(1.0, 2 * float(bdtr(min(better, worse), better + worse, 0.5)))
        return Paired(difference, error, max(-1.0, low), min(1.0, high), p)
    half = float(stdtrit(n - 1, (1 + LEVEL) / 2)) * error
    p = float(2 * stdtr(n - 1, -abs(difference) / error)) if error else float(difference == 0)
    return Paired(difference, error, difference - half, difference + half, p)


def _left_out(statistic: Statistic, values: Any, total: np.ndarray, block: int = 4096) -> np.ndarray:
    """The figure without one sample of each row, float64 [rows]; in blocks, for rows can be many and wide."""
    blocks = (values[start : start + block] for start in range(0, values.shape[0], block))
    dense = (rows.toarray() if hasattr(rows, "toarray") else rows for rows in blocks)
    return np.concatenate([statistic(total - rows) for rows in dense])


def _resampled(counts: np.ndarray, replicates: int, seed: int, most: int = 4_000_000) -> Iterator[np.ndarray]:
    """How often each row is drawn in each replicate, float64 [some, rows] at a time."""
    random, n, rows = seeds.generator("bootstrap", seed), int(counts.sum()), len(counts)
    owner = np.repeat(np.arange(rows), counts)
    step = max(1, min(replicates, most // n))
    for start in range(0, replicates, step):
        some = min(step, replicates - start)
        drawn = owner[random.integers(n, size=(some, n), dtype=np.int32)]
        drawn += np.arange(some)[:, None] * rows
        yield np.bincount(drawn.ravel(), minlength=some * rows).reshape(some, rows).astype(np.float64)
