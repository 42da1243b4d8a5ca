"""Seconds that the figures of boxes take, on made-up detections; and how often their intervals hold the truth.

    python benchmarks/detection_metrics.py [--pictures 5000] [--classes 80] [--boxes 7] [--detections 36] [--trials 0]

The figures come with their intervals, of 1,000 replicates; at most a minute is the aim. With `--trials`, samples of the
pictures are drawn from 4,000 others, and their 95 % intervals are held against the figure of all 4,000: how many hold it,
how many would if they were the plain quantiles of the replicates, how far the figure of a sample lies above that of all
on average, and how far its replicates lie above itself. For that, take fewer: `--pictures 87 --classes 3 --trials 200`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from common import machine, positive, show

from acclimate.core.seeds import generator
from acclimate.metrics.average_precision import averages
from acclimate.metrics.detection import OVERALL, best_threshold, figures_of, influences, interval, match, value
from acclimate.metrics.errors import error_kinds

SIZE = 640
POPULATION = 4000


def boxes(random: np.random.Generator, count: int) -> np.ndarray:
    sizes = np.exp(random.uniform(np.log(8), np.log(250), (count, 2)))
    corner = random.uniform(0, SIZE - sizes)
    return np.hstack([corner, corner + sizes])


def made_up(pictures: int, classes: int, each: float, detections: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Most boxes are found, some twice, a tenth as another class, better in some pictures than in others; the rest is noise."""
    random = generator("detections", seed)
    predictions = np.tile(np.array([0, 0, 0, 0, 0, -1], np.float32), (pictures, detections, 1))
    targets = np.empty(pictures, dtype=object)
    for row in range(pictures):
        truth, ease = boxes(random, random.poisson(each)), random.normal(0, 0.6)
        labels = random.integers(classes, size=len(truth))
        area = np.prod(truth[:, 2:] - truth[:, :2], axis=1)
        targets[row] = np.column_stack([truth, labels, random.random(len(truth)) < 0.02, area])
        again = np.repeat(np.arange(len(truth)), random.choice(3, len(truth), p=[0.15, 0.6, 0.25]))
        sides = np.tile(truth[again, 2:] - truth[again, :2], 2)
        near = truth[again] + sides * random.normal(0, 0.07 * np.exp(-ease / 2), sides.shape)
        given = np.where(random.random(len(again)) < 0.9, labels[again], random.integers(classes, size=len(again)))
        noise = boxes(random, max(0, detections - len(again)))
        logits = np.append(random.normal(1 + ease, 1.2, len(again)), random.normal(-1.5, 1.2, len(noise)))
        labelled = np.append(given, random.integers(classes, size=len(noise)))
        found = np.column_stack([np.vstack([near, noise]), 1 / (1 + np.exp(-logits)), labelled])[:detections]
        predictions[row, : len(found)] = found
    return predictions, targets


def seconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def speed(pictures: int, classes: int, each: float, detections: int, begin: bool) -> None:
    predictions, targets = made_up(pictures, classes, each, detections)
    matches = match(predictions, targets, classes)
    taken = [
        seconds(lambda: match(predictions, targets, classes)),
        seconds(lambda: value(matches)),
        seconds(lambda: influences(matches)),
        seconds(lambda: best_threshold(matches)),
        seconds(lambda: figures_of(matches, threshold=0.5)),
        seconds(lambda: error_kinds(predictions, targets, classes)),
    ]
    header = ["pictures", "classes", "boxes", "detections"]
    header += ["match, s", "value, s", "influences, s", "best threshold, s", "figures, s", "kinds of error, s"]
    row = [pictures, classes, f"{each:g} a picture", f"{detections} a picture", *(f"{one:.3f}" for one in taken)]
    show("Seconds", header, [row], begin=begin)


def coverage(pictures: int, classes: int, each: float, detections: int, trials: int) -> None:
    predictions, targets = made_up(POPULATION, classes, each, detections, seed=1)
    ones = {n: np.ones((n, 1)) for n in (POPULATION, pictures)}
    truth = averages(match(predictions, targets, classes), OVERALL, ones[POPULATION])
    random, found = generator("trials"), {name: np.zeros((trials, 4)) for name in OVERALL}
    for trial in range(trials):
        some = random.choice(POPULATION, pictures, replace=False)
        matches = match(predictions[some], targets[some], classes)
        draws = random.multinomial(pictures, np.full(pictures, 1 / pictures), size=500).T.astype(np.float64)
        values, drawn = averages(matches, OVERALL, ones[pictures]), averages(matches, OVERALL, draws)
        for name in OVERALL:
            of_all, known, true = values[name][0], drawn[name][np.isfinite(drawn[name])], truth[name][0]
            ours, (low, high) = interval(of_all, known, pictures), np.quantile(known, [0.025, 0.975])
            holds = ours["low"] <= true <= ours["high"], low <= true <= high
            found[name][trial] = [*holds, of_all - true, known.mean() - of_all]
    show(
        f"{trials} samples of {pictures} pictures, {classes} classes",
        [
            "figure",
            "of all",
            "intervals that hold it",
            "plain quantiles",
            "sample above all",
            "replicates above sample",
        ],
        [
            [name, f"{truth[name][0]:.3f}", *(f"{one:.1%}" for one in mean[:2]), *(f"{one:+.4f}" for one in mean[2:])]
            for name, mean in ((name, each.mean(axis=0)) for name, each in found.items())
        ],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=positive, default=5000)
    parser.add_argument("--classes", type=positive, default=80)
    parser.add_argument("--boxes", type=positive, default=7)
    parser.add_argument("--detections", type=positive, default=36)
    parser.add_argument("--trials", type=int, default=0)
    given = parser.parse_args()
    print(machine())
    if given.trials:
        coverage(given.pictures, given.classes, given.boxes, given.detections, given.trials)
        return
    speed(87, 3, 14, 100, begin=True)
    speed(given.pictures, given.classes, given.boxes, given.detections, begin=False)


if __name__ == "__main__":
    main()
