"""Whether intervals hold what they claim, on simulated classifiers: coverage, false "better", what the best of many is worth.

    python benchmarks/intervals.py [--only 'coverage;null;selection'] [--trials 500] [--sizes '50;100;300;1500'] [--figures 'log_loss;ece']

Nothing is read; figures are those of `acclimate.metrics`. Coverage: how often the nominal 95 % interval of a test set holds the same
figure of the whole population, by kind of model, number of samples and figure. Null: how often `paired` calls one of two equally
good, correlated models better, and how often any of five, corrected by Holm. Selection: the mean error of the best of many models'
score, as it is and corrected.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from common import command, machine, meant, positive, show
from scipy.special import expit, softmax

from acclimate.core.seeds import generator
from acclimate.metrics.classification import SINGLE, figures, several
from acclimate.metrics.comparison import holm
from acclimate.metrics.intervals import paired
from acclimate.metrics.selection import corrected

MOST = 12_000_000
"""Samples times classes of a population."""


@dataclass(frozen=True)
class Population:
    """All there is: probabilities float32 [N, classes], targets int [N] or [N, labels]."""

    predictions: np.ndarray
    targets: np.ndarray

    @property
    def several(self) -> bool:
        return self.targets.ndim == 2

    def figures(self, rows: np.ndarray | slice, only: Iterable[str]) -> dict[str, dict[str, float]]:
        table = several() if self.several else SINGLE
        names = [name for name in table if name in only and not (name == "top5" and self.predictions.shape[1] < 6)]
        return figures(table, self.predictions[rows], self.targets[rows], names)  # type: ignore[return-value]


def of_classes(classes: int, signal: float, heat: float, skewed: bool, size: int = 200_000) -> Population:
    """Some classes are harder than others; `heat` 1 is calibrated, above it is too sure; skewed: shares fall as 1 / rank."""
    random, size = generator("classes", classes), min(size, MOST // classes)
    shares = 1 / np.arange(1, classes + 1) if skewed else np.ones(classes)
    shares = shares / shares.sum()
    targets = random.choice(classes, size, p=shares)
    strength = signal * random.uniform(0.7, 1.3, classes)
    seen = random.normal(size=(size, classes))
    seen[np.arange(size), targets] += strength[targets]
    logits = np.log(shares) + strength * seen - strength**2 / 2
    return Population(softmax(heat * logits, axis=1).astype(np.float32), targets)


def of_labels(labels: int, signal: float, heat: float, skewed: bool, size: int = 60_000) -> Population:
    """Labels that come together, through two hidden causes; skewed: from half of the samples to one of twenty-five have one."""
    random = generator("labels", labels)
    bias = np.linspace(-0.5, -3.2 if skewed else -1, labels)
    logits = random.normal(size=(size, 2)) @ random.normal(size=(2, labels)) * 0.8 + bias
    there = logits + random.logistic(size=logits.shape) > 0
    strength = signal * random.uniform(0.6, 1.2, labels)
    seen = strength * (2.0 * there - 1) + random.normal(size=logits.shape)
    return Population(expit(heat * (2 * strength * seen + bias)).astype(np.float32), there.astype(np.float32))


MODELS = {
    "2 classes": lambda: of_classes(2, 1.5, 1, False),
    "2 classes, skewed, too sure": lambda: of_classes(2, 2.5, 1.7, True),
    "6 classes": lambda: of_classes(6, 2.5, 1, False),
    "6 classes, skewed, too sure": lambda: of_classes(6, 3, 1.7, True),
    "77 classes, too sure": lambda: of_classes(77, 3.5, 1.5, False),
    "77 classes, skewed": lambda: of_classes(77, 4, 1, True),
    "3 labels": lambda: of_labels(3, 1, 1, False),
    "20 labels, skewed, too sure": lambda: of_labels(20, 1.2, 1.7, True),
}


def covered(population: Population, n: int, trials: int, only: Iterable[str]) -> dict[str, float]:
    """The share of test sets of n samples whose interval holds the figure of the population."""
    truth = population.figures(slice(None), only)
    held = dict.fromkeys(truth, 0)
    for trial in range(trials):
        rows = generator("test set", n, trial).integers(len(population.targets), size=n)
        for name, found in population.figures(rows, only).items():
            held[name] += found["low"] <= truth[name]["value"] <= found["high"]
    return {name: count / trials for name, count in held.items()}


def coverage(trials: int, sizes: list[int], only: list[str]) -> None:
    header = ("model", "samples", *(name.replace("_", " ") for name in only))
    show(f"coverage of nominal 95 % intervals, {trials} test sets each", header, [])
    for name, model in MODELS.items():
        population = model()
        for n in sizes:
            found = covered(population, n, trials, only)
            told = (f"{100 * found[one]:.1f}" if one in found else "" for one in only)
            show("", header, [(name, n, *told)], begin=False)


def equals(n: int, models: int, random: np.random.Generator) -> np.ndarray:
    """float64 [models, n] of right (1) and wrong (0): equally good models that mostly err on the same samples."""
    chances = random.beta(*((6, 1.2) if random.random() < 0.5 else (2, 1)), n)
    return (random.random((models, n)) < chances).astype(np.float64)


def false_better(n: int, models: int, trials: int) -> tuple[float, float]:
    """How often any two models are called different at 5 %: by right and wrong (McNemar), and by graded scores (Student)."""
    alarms = np.zeros(2)
    for trial in range(trials):
        random = generator("null", n, models, trial)
        right = equals(n, models, random)
        graded = right * random.beta(4, 1, right.shape)
        for kind, scores in enumerate((right, graded)):
            p = [paired(scores[i], scores[j]).p for i in range(models) for j in range(i)]
            alarms[kind] += min(holm(p)) <= 0.05
    return float(alarms[0] / trials), float(alarms[1] / trials)


def null(trials: int, sizes: list[int], only: list[str]) -> None:
    rows = [
        (models, n, *(f"{100 * share:.1f} %" for share in false_better(n, models, trials)))
        for models in (2, 5)
        for n in sizes
    ]
    header = ("models", "samples", "right or wrong (McNemar)", "graded (Student)")
    show(f'false "better" among equal models, {trials} simulations each, Holm over all pairs', header, rows)


def chosen(n: int, models: int, spread: float, trials: int) -> tuple[float, float, float, float]:
    """Points by which the best score and its correction are above what the chosen model is worth, how often the latter's interval
    holds that, and how wide it is. `spread`: standard deviation of the accuracy of the models, around 80 %."""
    errors, held, width = np.zeros((trials, 2)), 0, 0.0
    for trial in range(trials):
        random = generator("selection", n, models, trial)
        worth = (0.8 + spread * random.normal(size=models)).clip(0.5, 0.99)
        shared = random.random(n) < 0.7  # samples on which all models do alike
        same = random.random(n)
        draws = np.where(shared, same, random.random((models, n)))
        scores = (draws < worth[:, None]).astype(np.float64)
        best, found = scores.mean(axis=1).argmax(), corrected(scores)
        errors[trial] = scores[best].mean() - worth[best], found["value"] - worth[best]
        held += found["low"] <= worth[best] <= found["high"]
        width += (found["high"] - found["low"]) / trials
    return *(100 * errors.mean(axis=0)), held / trials, width


def selection(trials: int, sizes: list[int], only: list[str]) -> None:
    rows = []
    for spread in (0.0, 0.02):
        for models in (2, 10, 50):
            for n in sizes:
                plain, better, held, width = chosen(n, models, spread, max(1, trials // 5))
                rows.append(
                    (models, spread, n, f"{plain:+.2f}", f"{better:+.2f}", f"{100 * held:.1f}", f"{100 * width:.1f}")
                )
    header = ("models", "spread", "samples", "best as it is", "corrected", "coverage", "width")
    show("points that the score of the chosen model is above its worth", header, rows)


PARTS = {"coverage": coverage, "null": null, "selection": selection}
SEVERAL: Mapping[str, object] = several()
FIGURES = list(dict.fromkeys([*SINGLE, *SEVERAL]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help=f"of {'; '.join(PARTS)}")
    parser.add_argument("--trials", type=positive, default=500)
    parser.add_argument("--sizes", default="50;100;300;1500")
    parser.add_argument("--figures", default="", help=f"of {'; '.join(FIGURES)}")
    asked = parser.parse_args()
    parts, only = meant(asked.only, PARTS), meant(asked.figures, FIGURES)
    print(machine())
    for part in parts:
        PARTS[part](asked.trials, [positive(size) for size in asked.sizes.split(";")], only)


if __name__ == "__main__":
    command(main)
