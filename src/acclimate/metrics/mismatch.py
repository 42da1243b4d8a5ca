"""How two data sets differ for a classifier: whether (tests), whether it matters (expected accuracy), which way (shares or looks)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from acclimate.metrics import shares as of_shares
from acclimate.metrics import two_samples as tests
from acclimate.metrics.expected import ALARM, Labelled, estimates
from acclimate.metrics.intervals import wilson
from acclimate.metrics.metric import Metric

Kind = Literal["none", "shares", "looks", "unknown"]
TOLD: tuple[Kind, ...] = ("none", "shares")
"""Kinds with which class shares of the target can be told."""
Verdict = Literal["no_shift", "shift_no_drop", "drop_expected"]
LEVEL = 0.05
"""Chance of a false alarm of the gate."""
DROP = 0.05
"""Points of expected accuracy that must be lost before it is called a drop."""
LARGE = 0.10
"""A predicted drop from which only its least is told: there, estimates are tens of points apart (docs/log.md)."""
ONE_SIDED = 1.64
"""Standard errors below a figure that the truth is above 19 times of 20."""
FEWEST = 20
"""Samples of a side without which classes cannot be told from looks."""
CLEAR = 0.75
"""Area under the curve from which two sides are told apart so well that class shares alone cannot be why."""
CLOSE = 0.15
"""Half the sum of differences within which two estimates of class shares agree."""


@dataclass(frozen=True)
class Gate:
    """One test in front of all others: the smaller of two p values, corrected for there being two."""

    told: tests.Told
    mean: tests.Tested
    """Squared maximum mean discrepancy."""
    places: tuple[np.ndarray, np.ndarray]
    """Which samples of each side were compared, as many of each."""

    @property
    def p(self) -> float:
        return min(1.0, 2 * min(self.told.auc.p, self.mean.p))

    @property
    def shifted(self) -> bool:
        return self.p <= LEVEL

    def json(self) -> dict[str, Any]:
        return {
            "p": self.p,
            "classifier": {"auc": self.told.auc.value, "p": self.told.auc.p, "accuracy": self.told.accuracy},
            "mmd": {"value": self.mean.value, "p": self.mean.p},
            "a_distance": self.told.distance,
            "samples": [len(place) for place in self.places],
        }


def gate(source: np.ndarray, target: np.ndarray, seed: int = 0, permutations: int = tests.PERMUTATIONS) -> Gate:
    """Of features float [n, D] and [m, D]."""
    one, other = tests.even(source, target, seed=seed)
    products = tests.gram(tests.standardised(np.concatenate([source[one], target[other]])))
    second = tests.sides(len(one), len(other), permutations, seed)
    return Gate(tests.classifier_test(products, second), tests.mmd_test(products, second), (one, other))


@dataclass(frozen=True)
class Shares:
    """Class shares, float64 [K] each: of the source, and of the target by expectation maximisation and by the confusion matrix."""

    before: np.ndarray
    likeliest: np.ndarray
    confused: of_shares.Confused
    predicted: np.ndarray
    """Shares of the predictions as they are."""

    @property
    def apart(self) -> float:
        """By how much the likeliest shares differ from those of the source, 0 to 1."""
        return float(np.abs(self.likeliest - self.before).sum() / 2)

    @property
    def agree(self) -> bool:
        return float(np.abs(self.likeliest - self.confused.shares).sum() / 2) <= CLOSE

    @property
    def reliable(self) -> bool:
        return self.confused.reliable and self.agree

    def json(self, classes: list[str], kind: Kind) -> dict[str, Any]:
        """Shares are None where they cannot be told: both estimates take looks to be the same, and one takes a matrix that is no noise."""
        told = kind in TOLD

        def named(values: np.ndarray) -> dict[str, float]:
            return {name: round(float(value), 6) for name, value in zip(classes, values, strict=True)}

        found = self.confused
        return {
            "source": named(self.before),
            "target": named(self.likeliest) if told else None,
            "by confusion": named(found.shares) if told and found.reliable else None,
            "predicted": named(self.predicted),
            "smallest singular value": found.smallest,
            "its noise": found.noise,
            "reliable": told and self.reliable,
        }


@dataclass(frozen=True)
class Expected:
    """Accuracy: on held-out samples of the source, and what is expected of the target, by method."""

    source: Metric
    by: dict[str, float]
    samples: int
    """Of the target."""

    @property
    def low(self) -> float:
        return min(self.by.values())

    @property
    def high(self) -> float:
        return max(self.by.values())

    @property
    def drop(self) -> float:
        """By the one estimate that is fit to raise an alarm."""
        return self.source["value"] - self.by[ALARM]

    @property
    def least(self) -> float:
        """That drop, less what the numbers of samples on both sides leave open: the estimate's own faults it cannot know."""
        each = ((self.source["value"], self.source["n"]), (self.by[ALARM], self.samples))
        return max(0.0, self.drop - ONE_SIDED * math.sqrt(sum(share * (1 - share) / n for share, n in each)))

    @property
    def dropping(self) -> bool:
        """Whether it is more than nothing and more than the held-out samples leave open."""
        return self.drop >= DROP and self.by[ALARM] < self.source["low"]

    def json(self) -> dict[str, Any]:
        range_ = None if self.drop >= LARGE else [self.low, self.high]
        least = self.least if self.drop >= LARGE else None
        return {"source": self.source, "by": self.by, "drop": self.drop, "range": range_, "at least lower by": least}


@dataclass(frozen=True)
class Mismatch:
    """All that can be said of two data sets without labels of the second."""

    gate: Gate
    expected: Expected | None
    shares: Shares | None
    """None where a sample has several labels."""
    kind: Kind

    @property
    def verdict(self) -> Verdict:
        if not self.gate.shifted:
            return "no_shift"
        return "drop_expected" if self.expected is not None and self.expected.dropping else "shift_no_drop"


def mismatch(
    source: np.ndarray,
    targets: np.ndarray,
    target: np.ndarray,
    held: list[Labelled],
    chances: list[np.ndarray],
    seed: int = 0,
) -> Mismatch:
    """`source` [n, D], `target` [m, D]: features; `targets` [n]: classes of the source's. `held`: predictions for samples of the source
    that nothing was learned from, as problems of one class a sample each; `chances`: predictions for the target, as the same problems."""
    found = gate(source, target, seed)
    shares = share(held[0], chances[0], targets) if len(held) == 1 else None
    kind: Kind = "none"
    if found.shifted:
        kind = "unknown" if shares is None else which(found, shares, source, targets, target, seed)
    alike = [redrawn(held[0], shares.likeliest, seed)] if kind == "shares" and shares is not None else held
    return Mismatch(found, expect(held, alike, chances), shares, kind)


def redrawn(held: Labelled, shares: np.ndarray, seed: int) -> Labelled:
    """As many held-out samples, drawn so that classes come in other shares: what is expected where nothing but these differs."""
    weights = (shares / np.bincount(held.targets, minlength=len(shares)).clip(1))[held.targets]
    places = tests.generator("redrawn", seed).choice(len(weights), len(weights), p=weights / weights.sum())
    return Labelled(held.chances[places], held.targets[places])


def expect(held: list[Labelled], alike: list[Labelled], chances: list[np.ndarray]) -> Expected | None:
    """Mean over the problems; None where there are none. `alike`: the held-out samples in the class shares that are to be expected."""
    if not held:
        return None
    each = [estimates(known, other) for known, other in zip(alike, chances, strict=True)]
    accuracy, n = float(np.mean([known.accuracy for known in held])), len(held[0].targets)
    low, high = wilson(accuracy, n)
    by = {name: float(np.mean([one[name] for one in each])) for name in each[0]}
    return Expected(Metric(value=accuracy, low=low, high=high, n=n), by, len(chances[0]))


def share(held: Labelled, chances: np.ndarray, targets: np.ndarray) -> Shares:
    """`targets`: int64 [n], all labels of the source."""
    classes = chances.shape[1]
    calibration = of_shares.calibrated(held)
    known, other = calibration(held.chances), calibration(chances)
    before = known.mean(axis=0)
    likeliest = of_shares.by_expectation(other, before)
    predicted = np.bincount(chances.argmax(axis=1), minlength=classes) / len(chances)
    own = np.bincount(targets, minlength=classes) / len(targets)
    return Shares(own, likeliest, of_shares.by_confusion(held, chances), predicted)


def which(
    found: Gate, shares: Shares, source: np.ndarray, targets: np.ndarray, target: np.ndarray, seed: int = 0
) -> Kind:
    """Whether samples of the source, drawn in the class shares that the target seems to have, are no longer told from its own."""
    rows = drawn(targets, shares.likeliest, min(len(target), tests.MOST), seed)
    if len(rows) < FEWEST:
        return "looks" if found.told.auc.value >= CLEAR and shares.apart <= CLOSE else "unknown"
    after = gate(source[rows], target, seed)
    if not after.shifted:
        return "shares" if shares.apart > 0 else "unknown"
    return "looks" if after.told.auc.value >= CLEAR or shares.reliable else "unknown"


def drawn(targets: np.ndarray, shares: np.ndarray, most: int, seed: int) -> np.ndarray:
    """int64 [m]: as many samples as there are, at most `most`, so that classes [n] come in the given shares."""
    counts = np.bincount(targets, minlength=len(shares))
    there = shares > 0.5 / most
    m = int(min(most, *(counts[there] / shares[there])))
    wanted = np.floor(shares * m + 0.5).astype(int)
    order = tests.generator("drawn", seed).permutation(len(targets))
    own = targets[order]
    return np.sort(np.concatenate([order[own == name][:count] for name, count in enumerate(wanted)]))
