"""reporting: which samples a run's page shows, drawn, and the page itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from acclimate.engine import evaluate
from acclimate.engine.answers import Answers
from acclimate.engine.dataset import Dataset
from acclimate.engine.exhibits import exhibits
from acclimate.engine.saved import Saved
from acclimate.report.exhibit_html import html
from acclimate.tasks.task import Task

REPORT = "report.html"
MISTAKES, DOUBTFUL, TYPICAL, PAIRED = 12, 12, 12, 3
"""Samples that are shown: the worst mistakes, the most doubtful labels, the most typical of their class, of each pair of classes."""
PAIRS = 6


@dataclass(frozen=True)
class Shown:
    """Rows of the data that the page shows, each list in its order."""

    mistakes: list[int]
    typical: list[int]
    pairs: dict[tuple[str, str], list[int]]


def choose(task: Task, rows: np.ndarray, answers: Answers) -> Shown:
    """`rows`: those of the data set that were answered."""
    predictions, targets = answers.predictions, answers.targets
    losses, scores = task.losses(predictions, targets), task.scores(predictions, targets)
    worst = [int(rows[i]) for i in np.argsort(-losses, kind="stable") if scores[i] < 1][:MISTAKES]
    return Shown(worst, [int(rows[i]) for i in typical(task, predictions, targets)], _pairs(task, rows, answers))


def typical(task: Task, predictions: np.ndarray, targets: np.ndarray) -> list[int]:
    """Of each class the place of the sample that is most surely of it, the surest classes first; none where answers are no choices."""
    choices, chosen = task.choices(predictions), task.chosen(targets)
    if not choices:
        return []
    sure = np.column_stack([one[:, 1:] if len(choices) > 1 else one for one in choices])
    truth = np.column_stack(
        [
            right[:, None] == np.arange(1 if len(choices) > 1 else 0, one.shape[1])
            for one, right in zip(choices, chosen, strict=True)
        ]
    )
    masked = np.where(truth, sure, -1.0)
    best = masked.argmax(axis=0)
    known = [k for k in range(masked.shape[1]) if masked[best[k], k] >= 0]
    return [int(best[k]) for k in sorted(known, key=lambda k: -masked[best[k], k])[:TYPICAL]]


def _pairs(task: Task, rows: np.ndarray, answers: Answers) -> dict[tuple[str, str], list[int]]:
    """Samples of the pairs of classes that are confused most, the surest mistakes first; none where there is not one choice of a class."""
    choices, chosen = task.choices(answers.predictions), task.chosen(answers.targets)
    if len(choices) != 1:
        return {}
    names, sure, given, true = task.spec["classes"], choices[0].max(axis=1), choices[0].argmax(axis=1), chosen[0]
    wrong = np.flatnonzero(given != true)
    wrong = wrong[np.argsort(-sure[wrong], kind="stable")]
    found: dict[tuple[str, str], list[int]] = {}
    for i in wrong:
        found.setdefault((names[true[i]], names[given[i]]), []).append(int(rows[i]))
    most = sorted(found, key=lambda pair: -len(found[pair]))[:PAIRS]
    return {pair: found[pair][:PAIRED] for pair in most}


def draw(saved: Saved, dataset: Dataset, rows: Sequence[int], device: torch.device) -> dict[int, str]:
    """The HTML of some samples by their row; those that cannot be had any more are left out."""
    wanted = np.array(sorted(set(rows)), dtype=np.int64)
    if not len(wanted):
        return {}
    batches = evaluate.over_samples(dataset, wanted)
    predictions = evaluate.predict(saved.net, saved.task, batches, saved.precision, device)
    made = exhibits(saved, dataset, wanted, predictions, device)
    return {int(row): html(one) for row, one in zip(wanted, made, strict=True)}
