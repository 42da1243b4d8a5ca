"""Whether one model is better than another on the same samples: differences of figures, several comparisons, and samples needed."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri

from acclimate.metrics.intervals import LEVEL, Interval, Statistic, of_sums


def difference(statistic: Statistic, sums_a: np.ndarray, sums_b: np.ndarray) -> Interval:
    """A figure of a minus that of b, where it is a function of sums over the samples: (value, low, high).

    `sums_a`, `sums_b`: float [n, columns], what each sample adds to the sums of either (`classification.counted`). The same samples are
    drawn for both (paired bootstrap, Efron and Tibshirani 1993); the interval is `intervals.of_sums`'s. Figures that are means of scores
    have `intervals.paired`. Raises ValueError for sums that do not pair.
    """
    if np.shape(sums_a) != np.shape(sums_b):
        raise ValueError(f"sums of shape {np.shape(sums_a)} and {np.shape(sums_b)} do not pair")
    width = sums_a.shape[1]

    def change(sums: np.ndarray) -> np.ndarray:
        return statistic(sums[:, :width]) - statistic(sums[:, width:])

    return of_sums(change, np.hstack([sums_a, sums_b]).astype(np.float64))


def holm(values: list[float]) -> list[float]:
    """p values of several comparisons, each so large that those below a level are all right with that chance (Holm 1979)."""
    p = np.asarray(values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    found = np.empty(len(p))
    found[order] = np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order]).clip(max=1.0)
    return found.tolist()


def needed(difference: float, error: float, n: int, power: float = 0.8) -> int | None:
    """How many more test samples would tell the difference seen, were it the true one: two-sided at 5 %, with this chance.

    `error`: the standard error of the difference on `n` samples; it falls with their root. 0 where they are enough; None where no number
    is: there is no difference.
    """
    if not difference:
        return None
    factor = float(ndtri((1 + LEVEL) / 2) + ndtri(power)) * error / abs(difference)
    return max(0, int(np.ceil(n * factor**2)) - n)
