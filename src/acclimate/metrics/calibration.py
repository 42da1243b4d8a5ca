"""Whether probabilities are as often right as they say: temperature, expected calibration error, reliability by bins."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypedDict

import numpy as np
from scipy.optimize import brentq, minimize
from scipy.special import expit, logsumexp, softmax

from acclimate.core import seeds
from acclimate.metrics.intervals import LEVEL, of_sums, wilson, wilson_ends
from acclimate.metrics.metric import Metric

COLD = (0.05, 20.0)
"""Bounds of the inverse temperature."""
FOLDS = 5
TINY = 1e-12
BINS = 15
REPLICATES = 1000
STEPS = 8
"""Halvings in the search for an end of an interval."""
FURTHEST = 6.0
"""Standard errors of every bin beyond which no end is looked for."""


class Answers(NamedTuple):
    """Things said with a probability: `confidence` float [m], `right` bool [m], `owner` int [m], the sample of each."""

    confidence: np.ndarray
    right: np.ndarray
    owner: np.ndarray


# --- temperature


def logits(predictions: np.ndarray, several: bool) -> np.ndarray:
    """float64 [n, classes]: log-probabilities, or the log-odds of each of `several` labels."""
    if not several:
        return np.log(predictions.astype(np.float64).clip(TINY))
    return log_odds(predictions, float(np.finfo(predictions.dtype).eps))


def log_odds(scores: np.ndarray, least: float = float(np.finfo(np.float32).eps)) -> np.ndarray:
    """float64; what is nearer than `least` to 0 or 1 counts as so far away."""
    p = np.asarray(scores, dtype=np.float64).clip(least, 1 - least)
    return np.log(p) - np.log1p(-p)


def chances(logits: np.ndarray, several: bool, temperature: float = 1.0) -> np.ndarray:
    """Probabilities, float64 [n, classes], of logits over a temperature."""
    return expit(logits / temperature) if several else softmax(logits / temperature, axis=1)


def temperature(
    logits: np.ndarray,
    targets: np.ndarray,
    several: bool = False,
    bounds: tuple[float, float] = COLD,
    prior: float = 0.0,
) -> float:
    """The T with the least log-loss of softmax(z / T), or of sigmoid(z / T) where a sample has `several` labels (Guo et al. 2017).

    `logits`: float64 [n, classes]; `targets`: int [n], or 0 and 1 [n, labels]. The loss is convex in u = 1 / T, so its derivative
    has one root, which is bracketed by `bounds` of u and found by Brent's method; where the sign does not change it is an end.
    1 where no temperature matters. `prior`: so many samples more, labelled as the model itself expects at T = 1: a few samples that are
    all right would else ask for certainty.
    """
    n, make = len(logits), expit if several else _softmax
    true = (logits * targets).sum(axis=1) if several else logits[np.arange(n), targets]

    def expected(inverse: float) -> float:
        return float((make(logits * inverse) * logits).sum(axis=1).mean())

    own = (n * true.mean() + prior * expected(1.0)) / (n + prior)

    def slope(inverse: float) -> float:
        return expected(inverse) - own

    ends = [slope(end) for end in bounds]
    if ends[0] >= 0 or ends[1] <= 0:
        return 1.0 if ends[0] >= 0 >= ends[1] else 1 / bounds[0 if ends[0] >= 0 else 1]
    return 1 / float(brentq(slope, *bounds, xtol=1e-10))


def kept(logits: np.ndarray, targets: np.ndarray, several: bool = False) -> float:
    """The temperature to save with a model: 1 unless temperatures fitted to four fifths of the samples lower the loss of the rest.

    Classes are shared out evenly among the folds. What is fitted has one sample more that says the model is right as it is.
    """
    if len(logits) < FOLDS:
        return 1.0
    order = np.argsort(targets.sum(axis=1) if several else targets, kind="stable")
    fold = np.empty(len(order), dtype=int)
    fold[order] = np.arange(len(order)) % FOLDS
    change = 0.0
    for one in range(FOLDS):
        held, rest = fold == one, fold != one
        heat = temperature(logits[rest], targets[rest], several, prior=1)
        change += (_losses(logits[held] / heat, targets[held]) - _losses(logits[held], targets[held])).sum()
    return temperature(logits, targets, several, prior=1) if change < 0 else 1.0


def _softmax(logits: np.ndarray) -> np.ndarray:
    return softmax(logits, axis=1)


def _losses(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    if targets.ndim == 2:
        return _each(logits, targets).sum(axis=1)
    return logsumexp(logits, axis=1) - logits[np.arange(len(targets)), targets]


def _each(logits: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Log-loss in nats of every single one."""
    return np.logaddexp(0, logits) - logits * right


# --- scores of things found, whose number is not fixed


class Scale(NamedTuple):
    """A score p becomes sigmoid(log(p / (1 - p)) / temperature + offset); by `Scale()` it stays, to the bit."""

    temperature: float = 1.0
    offset: float = 0.0

    def of(self, scores: np.ndarray) -> np.ndarray:
        """float64; what it is given may be of any shape."""
        if self == Scale():
            return np.asarray(scores, dtype=np.float64)
        return expit(log_odds(scores) / self.temperature + self.offset)

    def back(self, scores: np.ndarray) -> np.ndarray:
        """The scores that become these, float64."""
        if self == Scale():
            return np.asarray(scores, dtype=np.float64)
        return expit((log_odds(scores) - self.offset) * self.temperature)


def scale(answers: Answers) -> Scale:
    """The scale with the least log-loss (Platt 1999; of detections: Küppers et al. 2020); how often things found are right has no
    base rate in the network, so that an offset is needed beside the temperature.

    The loss is convex in (1 / T, offset). 1 / T keeps to `COLD`, so that the order of scores stays. What is fitted has one sample more,
    labelled as the scores themselves say.
    """
    z, right = log_odds(answers.confidence), answers.right.astype(np.float64)
    more = 1 / len(np.unique(answers.owner))
    wanted = (right + more * expit(z)) / (1 + more)

    def loss(place: np.ndarray) -> tuple[float, np.ndarray]:
        made = place[0] * z + place[1]
        off = expit(made) - wanted
        return float(_each(made, wanted).mean()), np.array([(off * z).mean(), off.mean()])

    found = minimize(loss, [1.0, 0.0], jac=True, method="L-BFGS-B", bounds=[COLD, (None, None)])
    return Scale(float(1 / found.x[0]), float(found.x[1]))


def kept_scale(answers: Answers) -> Scale:
    """The scale to save with a model: none unless those fitted to four fifths of the samples lower the loss of the rest."""
    owners, owner = np.unique(answers.owner, return_inverse=True)
    if len(owners) < FOLDS:
        return Scale()
    change = 0.0
    for one in range(FOLDS):
        held = owner % FOLDS == one
        made = scale(Answers(*(each[~held] for each in answers))).of(answers.confidence[held])
        for sign, scores in ((1, made), (-1, answers.confidence[held])):
            change += sign * _each(log_odds(scores), answers.right[held]).sum()
    return scale(answers) if change < 0 else Scale()


# --- reliability


class Bin(TypedDict):
    """Answers with a probability in (low, high]: their mean probability, and how often they are right."""

    low: float
    high: float
    confidence: float
    accuracy: Metric


def answers(predictions: np.ndarray, targets: np.ndarray) -> Answers:
    """The most probable class of each sample; of several labels (targets [n, labels]) that each of them is there."""
    if targets.ndim == 1:
        return Answers(predictions.max(axis=1), predictions.argmax(axis=1) == targets, np.arange(len(targets)))
    return Answers(predictions.ravel(), targets.ravel() > 0.5, np.repeat(np.arange(len(targets)), predictions.shape[1]))


def ece(predictions: np.ndarray, targets: np.ndarray) -> Metric:
    """`error_of` the most probable class of each sample, or of all labels; predictions and targets as in `classification.Figure`."""
    return error_of(answers(predictions, targets), len(targets))


def reliability(predictions: np.ndarray, targets: np.ndarray) -> list[Bin]:
    """`bins_of` the most probable class of each sample, or of all labels."""
    return bins_of(answers(predictions, targets))


def bins_of(answers: Answers) -> list[Bin]:
    """The bins that are not empty, from low to high probability; intervals are Wilson's, `n` counts answers."""
    edges, found = np.linspace(0, 1, BINS + 1).tolist(), []
    for place, count, confidence, right in zip(*_binned(answers), strict=True):
        low, high = wilson(float(right), int(count))
        accuracy = Metric(value=float(right), low=low, high=high, n=int(count))
        found.append(Bin(low=edges[place], high=edges[place + 1], confidence=float(confidence), accuracy=accuracy))
    return found


def loss_of(answers: Answers, n: int) -> Metric:
    """Log-loss in nats a thing found; samples are drawn anew. NaN without an answer."""
    if not len(answers.right):
        return Metric(value=np.nan, low=np.nan, high=np.nan, n=n)
    losses, owner = _each(log_odds(answers.confidence), answers.right), np.unique(answers.owner, return_inverse=True)[1]
    sums = np.column_stack([np.bincount(owner, losses), np.bincount(owner)])
    value, low, high = of_sums(lambda sums: sums[:, 0] / sums[:, 1].clip(1), sums)
    return Metric(value=value, low=low, high=high, n=n)


def error_of(answers: Answers, n: int) -> Metric:
    """Expected calibration error: the mean over answers, in 15 bins (lo, hi] of equal width, of the distance between how sure and how
    often right a bin is (Naeini et al. 2015; Guo et al. 2017). NaN without an answer.

    The figure is what other tools give, and too high where samples are few: noise is never negative. So the interval is none
    around it, but all errors under which a figure like this one is no surprise (a test turned round): labels are drawn anew for
    bins whose accuracy is moved from what it is towards the confidence (low end; 0 where even calibrated answers give as much), and
    away from it on either side (high end). The value itself always belongs to the interval; what it takes of the chance of an error
    at the high end is not taken again at the low one, so that the whole is 5 % (the idea of Feldman and Cousins 1998). Answers of
    one sample are not independent: they count as fewer, by how much more their sums vary (design effect; Kish 1965).
    """
    if not len(answers.right):
        return Metric(value=np.nan, low=np.nan, high=np.nan, n=n)
    _, count, confidence, right = _binned(answers)
    independent = max(1, round(count.sum() / _design(answers)))
    drawn = seeds.generator("calibration").multinomial(independent, count / count.sum(), REPLICATES)
    bins = _Bins(independent * count / count.sum(), confidence, right, drawn)
    return Metric(value=bins.error(right), low=bins.low(), high=bins.high(), n=n)


class _Bins(NamedTuple):
    """Bins that are not empty: how many independent answers, float; their mean confidence; the share of right ones; how many there are
    in each replicate, int [replicates, bins]."""

    size: np.ndarray
    confidence: np.ndarray
    right: np.ndarray
    drawn: np.ndarray

    def error(self, accuracy: np.ndarray) -> float:
        """Calibration error of these answers if they had such accuracies, float64 [bins]."""
        return float(np.abs(accuracy - self.confidence) @ self.size / self.size.sum())

    def low(self) -> float:
        """The least error that does not make the one seen too high."""
        change, lowest = self.right - self.confidence, (1 - LEVEL) / 2

        def too_high(share: float) -> bool:
            accuracy = self.confidence + share * change
            drawn = self._anew(accuracy)
            # below the error itself the value cannot lie outside of its interval
            spent = min(lowest, float((drawn < self.error(accuracy)).mean()))
            return _above(drawn, self.error(self.right)) <= 1 - LEVEL - spent

        if not too_high(0.0):
            return 0.0
        return self.error(self.confidence + _last(too_high, 1.0) * change)

    def high(self) -> float:
        """The largest error that does not make the one seen too low: all bins moved by as many standard errors, each further away from
        its confidence, or all down, or all up."""
        observed = self.error(self.right)
        ends = [
            np.sign(self.right - self.confidence),
            np.full(len(self.size), -1.0),
            np.ones(len(self.size)),
        ]

        def moved(errors: float, side: np.ndarray) -> np.ndarray:
            low, high = wilson_ends(self.right, self.size, errors)
            return np.where(side < 0, low, high)

        def furthest(side: np.ndarray) -> float:
            def believable(errors: float) -> bool:
                return 1 - _above(self._anew(moved(errors, side)), observed) > (1 - LEVEL) / 2

            return self.error(moved(_last(believable, FURTHEST), side)) if believable(0.0) else observed

        return max(observed, *map(furthest, ends))

    def _anew(self, accuracy: np.ndarray) -> np.ndarray:
        """float64 [replicates]: the error of as many answers drawn anew."""
        whole = self.size.round().astype(np.int64).clip(1)
        right = seeds.generator("right").binomial(whole, accuracy.clip(0, 1), self.drawn.shape)
        # bins are as full as they are, for drawn anew fewer would hold something; that they might be fuller counts by how far off they are
        fuller = (self.drawn - self.size) * (accuracy - self.confidence)
        return np.abs(self.size * (right / whole - self.confidence) + fuller).sum(axis=1) / self.size.sum()


def _above(drawn: np.ndarray, observed: float) -> float:
    """The share of replicates above what was seen; those that equal it count half."""
    same = np.isclose(drawn, observed, rtol=0, atol=TINY)
    return float(((drawn > observed) & ~same).mean() + same.mean() / 2)


def _last(holds: Callable[[float], bool], furthest: float) -> float:
    """The last place from 0 on up to which something holds that holds at 0."""
    low, high = 0.0, furthest
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def _places(confidence: np.ndarray) -> np.ndarray:
    """int [m]: the bin (lo, hi] of each; 0 itself falls into the first."""
    return (np.searchsorted(np.linspace(0, 1, BINS + 1), confidence) - 1).clip(0, BINS - 1)


def _binned(answers: Answers) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of the bins that are not empty: which, how many answers, their mean confidence, the share of right ones."""
    place = _places(answers.confidence)
    size = np.bincount(place, minlength=BINS)
    some = np.flatnonzero(size)
    sums = (np.bincount(place, each, BINS)[some] for each in (answers.confidence, answers.right))
    confidence, right = (each / size[some] for each in sums)
    return some, size[some], confidence, right


def _design(answers: Answers) -> float:
    """How many answers tell as much as one independent one, at least 1: the variance of sums over what it were without owners.

    Of the sums of bins, or, if that is more, of all bins with the signs of their errors, as the calibration error adds them up.
    """
    place, owner = _places(answers.confidence), answers.owner.astype(np.int64)
    size = np.bincount(place, minlength=BINS).clip(1)
    rate, said = (np.bincount(place, each, BINS) / size for each in (answers.right, answers.confidence))
    left, sign = answers.right - rate[place], np.where(rate < said, -1, 1)[place]
    alone = (left**2).sum()
    sums = ((owner * BINS + place, left), (owner, left * sign))
    together = [(np.bincount(np.unique(cells, return_inverse=True)[1], each) ** 2).sum() for cells, each in sums]
    return max(1.0, float(max(together) / alone)) if alone > 0 else 1.0
