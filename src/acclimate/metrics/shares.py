"""Class shares of samples without labels, and what they make of predictions, where nothing but the shares differs: p(x | y) stays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp, softmax

from acclimate.core.errors import Problems, fail, near
from acclimate.metrics.expected import TINY, Labelled

FEWEST = 5
"""Held-out samples of a class below which its row of the confusion matrix says nothing."""
ROUNDS, CLOSE = 2000, 1e-8
"""Of expectation maximisation: rounds at most, and the mean change of a share at which it ends."""


@dataclass(frozen=True)
class Calibration:
    """softmax(log p / temperature + bias): one map for both sides."""

    temperature: float
    bias: np.ndarray
    """float64 [K]."""

    def __call__(self, chances: np.ndarray) -> np.ndarray:
        return softmax(np.log(chances.clip(TINY)) / self.temperature + self.bias, axis=1)


def calibrated(held: Labelled) -> Calibration:
    """Bias-corrected temperature scaling (Alexandari et al., 2020): the temperature and a bias a class with the least log-loss.

    A slight pull of the biases towards 0 holds those of classes with few samples.
    """
    logits, rows = np.log(held.chances.clip(TINY)), np.arange(len(held.targets))
    classes = logits.shape[1]
    hot = np.eye(classes)[held.targets]

    def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
        inverse, bias = np.exp(values[0]), values[1:]
        made = logits * inverse + bias
        wrong = softmax(made, axis=1) - hot
        value = (logsumexp(made, axis=1) - made[rows, held.targets]).mean() + bias @ bias / (2 * len(rows))
        slopes = [(wrong * logits).sum() / len(rows) * inverse, *(wrong.mean(axis=0) + bias / len(rows))]
        return float(value), np.array(slopes)

    bounds = [(np.log(0.05), np.log(20.0)), *[(None, None)] * classes]
    found = minimize(loss, np.zeros(1 + classes), jac=True, method="L-BFGS-B", bounds=bounds)
    return Calibration(float(np.exp(-found.x[0])), found.x[1:])


def reweighed(chances: np.ndarray, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Probabilities [n, K] made under class shares `before` as they are under `after`, float64 [K]."""
    made = chances * (after / before.clip(TINY))
    return made / made.sum(axis=1, keepdims=True).clip(TINY)


def by_expectation(chances: np.ndarray, before: np.ndarray, close: float = CLOSE) -> np.ndarray:
    """float64 [K]: the class shares that make the probabilities likeliest, by expectation maximisation (Saerens et al., 2002).

    `chances`: calibrated, float64 [n, K]. `before`: the shares they were made under, for calibrated ones their mean on the held-out
    samples. The likelihood is concave in the shares.
    """
    shares = before / before.sum()
    for _ in range(ROUNDS):
        new = reweighed(chances, before, shares).mean(axis=0)
        if np.abs(new - shares).mean() < close:
            return new
        shares = new
    return shares


@dataclass(frozen=True)
class Confused:
    """What the confusion matrix of held-out samples says of the shares of others (black box shift estimation; Lipton et al., 2018)."""

    weights: np.ndarray
    """float64 [K]: share there over share here."""
    shares: np.ndarray
    """float64 [K]."""
    smallest: float
    """Singular value of the joint confusion matrix: the error of the weights grows with its inverse."""
    noise: float
    """Of the smallest singular value: 1 / sqrt(held-out samples)."""
    fewest: int
    """Held-out samples of the rarest class."""

    @property
    def reliable(self) -> bool:
        return bool(self.smallest >= self.noise and self.fewest >= FEWEST)


def by_confusion(held: Labelled, chances: np.ndarray) -> Confused:
    """From held-out samples and the probabilities [n, K] of others."""
    classes = chances.shape[1]
    joint = np.zeros((classes, classes))
    np.add.at(joint, (held.chances.argmax(axis=1), held.targets), 1 / len(held.targets))
    seen = np.bincount(chances.argmax(axis=1), minlength=classes) / len(chances)
    counts = np.bincount(held.targets, minlength=classes)
    return solved(joint, seen, len(held.targets), int(counts.min()))


def solved(joint: np.ndarray, seen: np.ndarray, n: int, fewest: int) -> Confused:
    """From joint frequencies [K predicted, K true] of n samples and frequencies of predictions [K]: weights below 0 become 0."""
    before = joint.sum(axis=0)
    weights = np.linalg.lstsq(joint, seen, rcond=None)[0].clip(0)
    weights = weights / max(TINY, float(weights @ before))
    smallest = float(np.linalg.svd(joint, compute_uv=False)[-1])
    return Confused(weights, weights * before, smallest, float(1 / np.sqrt(n)), fewest)


def declared(said: dict[str, float], classes: list[str], where: str) -> np.ndarray:
    """float64 [K] of what a user says `where`. Raises `UserError` for unknown classes, shares below 0, and a sum that is not 1."""
    problems = Problems()
    for name, share in said.items():
        if name not in classes:
            rule = f"is not among the {len(classes)} classes of the data"
            problems.add(f"{where}: class {name!r}", rule, near(name, classes))
        if not 0 <= share <= 1:
            problems.add(f"{where}: {name}: {share}", "is no share", "shares are numbers from 0 to 1")
    problems.stop()
    total = sum(said.values())
    if abs(total - 1) > 0.01:
        raise fail(
            f"{where}: shares that sum to {total:g}", "must sum to 1", "a class that is left out has the share 0"
        )
    return np.array([said.get(name, 0.0) for name in classes]) / total
