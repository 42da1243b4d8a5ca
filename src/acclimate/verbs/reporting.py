"""reporting: which samples a run's page shows, drawn, and the page itself."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image

from acclimate.core.run import Run
from acclimate.data.table import Table
from acclimate.engine import evaluate
from acclimate.engine.answers import Answers
from acclimate.engine.dataset import Dataset
from acclimate.engine.exhibits import exhibits, raw
from acclimate.engine.saved import Saved
from acclimate.engine.second_look import Row
from acclimate.engine.watcher import Mistake
from acclimate.report.exhibit_html import html
from acclimate.report.page import Drawn, Group, page
from acclimate.tasks.draw import outlined
from acclimate.tasks.exhibit import Exhibit, Passages, Picture
from acclimate.tasks.task import Task

REPORT = "report.html"
MISTAKES, DOUBTFUL, TYPICAL, PAIRED = 12, 12, 12, 3
"""Samples that are shown: the worst mistakes, the most doubtful labels, the most typical of their class, of each pair of classes."""
PAIRS = 8
"""Of classes, those with most samples: of boxes more than one may be in a sample, so that others lead there."""
SAID = {
    "mistakes": "The samples with the largest loss, the worst first.",
    "no evidence": " What an answer rests on cannot be told of this network: its first stage already joins the words.",
    "evidence": " What is lit or marked speaks for the answer, what is dotted against.",
    "doubtful": "A probe that has not learned these labels answers otherwise; the most likely wrong come first. All are in doubtful.csv.",
    "learned": "The model has learned some of these labels, and still answers otherwise. All are in doubtful.csv.",
    "typical": "The sample of each class of which the model is surest.",
}


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
    typical = [int(rows[i]) for i in task.typical(predictions, targets)[:TYPICAL]]
    confused = task.confused(predictions, targets)
    most = sorted(confused, key=lambda pair: -len(confused[pair]))[:PAIRS]
    return Shown(worst, typical, {pair: [int(rows[i]) for i in confused[pair][:PAIRED]] for pair in most})


def draw(saved: Saved, dataset: Dataset, rows: Iterable[int], device: torch.device) -> dict[int, Exhibit]:
    """Some samples by their row, drawn with what the model answers."""
    wanted = np.array(sorted(set(rows)), dtype=np.int64)
    if not len(wanted):
        return {}
    batches = evaluate.over_samples(dataset, wanted)
    predictions = evaluate.predict(saved.net, saved.task, batches, saved.precision, device)
    made = exhibits(saved, dataset, wanted, predictions, device)
    return {int(row): one for row, one in zip(wanted, made, strict=True)}


@dataclass(frozen=True)
class Gallery:
    """The samples that the page shows, drawn; `doubted`: those whose label something speaks against."""

    shown: Shown
    doubted: Sequence[Exhibit]
    learned: bool
    """Whether who doubts has learned some of these labels."""
    drawn: dict[int, Exhibit]

    def json(self) -> list[dict[str, Any]]:
        """{"sample", "truth", "answer", "sure", "notes"} of each, for metrics.json."""
        return [
            {
                "sample": one.name,
                "truth": one.truth,
                "answer": one.answer,
                "sure": one.sure,
                "notes": [f"{kind}: {what}" for kind, what in one.notes],
            }
            for one in self.drawn.values()
        ]

    def mistakes(self) -> list[Mistake]:
        """The worst first, as trackers take them."""
        return [_sample(self.drawn[row]) for row in self.shown.mistakes]


def gallery(
    saved: Saved, dataset: Dataset, rows: np.ndarray, answers: Answers, doubtful: Sequence[Row], device: torch.device
) -> Gallery:
    """`rows`: those of the data set that `answers` are of."""
    shown, doubts = choose(saved.task, rows, answers), doubtful[:DOUBTFUL]
    wanted = [*shown.mistakes, *shown.typical, *(row for pair in shown.pairs.values() for row in pair)]
    drawn = draw(saved, dataset, [*wanted, *(one["row"] for one in doubts)], device)
    doubted = [_doubted(one, drawn[one["row"]], dataset.table) for one in doubts]
    return Gallery(shown, doubted, any(one["learned"] for one in doubts), drawn)


def report(run: Run, told: dict[str, Any], made: Gallery, title: str, example: str) -> None:
    """Write report.html. `told`: what metrics.json says; `title`: what the data are called; `example`: a sample to predict, as Python."""
    drawn, shown = made.drawn, made.shown
    about = SAID["learned" if made.learned else "doubtful"]
    doubts = [html(one) for one in made.doubted]
    weighed = SAID["evidence"] if any(drawn[row].weighed for row in shown.mistakes) else ""
    if any(isinstance(drawn[row].shown, Passages) for row in shown.mistakes) and not weighed:
        weighed = SAID["no evidence"]
    groups = (
        Group(
            "mistakes", "The worst mistakes", SAID["mistakes"] + weighed, [html(drawn[row]) for row in shown.mistakes]
        ),
        Group("doubtful", "Labels worth a second look", about, doubts),
        Group(
            "typical", "The most typical of each class", SAID["typical"], [html(drawn[row]) for row in shown.typical]
        ),
    )
    pairs = {pair: [html(drawn[row]) for row in places] for pair, places in shown.pairs.items()}
    recipe = run.file("recipe.yaml").read_text(encoding="utf-8")
    run.write(REPORT, page(told, Drawn(groups, pairs), recipe, title, example))


def _doubted(doubt: Row, drawn: Exhibit, table: Table) -> Exhibit:
    """The sample with what speaks against its label; where that is a label of a box, with this box alone."""
    label, likely = doubt["label"], doubt["suggested"]
    said = f"{f'labelled {label}' if label else 'not labelled'}, likely {likely}" if likely else f"{label} is not found"
    if "box" not in doubt:
        return replace(drawn, notes=(*drawn.notes, ("doubtful", said)))
    shown = outlined(raw(table, doubt["row"]), [np.array(doubt["box"])], ["doubted"])
    return replace(drawn, shown=shown, notes=(("doubted", said),))


def _sample(drawn: Exhibit) -> Mistake:
    """As trackers take it."""
    title = f"{drawn.name}: {drawn.truth}, answered {drawn.answer}"
    if isinstance(drawn.shown, Picture):
        buffer = io.BytesIO()
        Image.open(io.BytesIO(drawn.shown.overlay or drawn.shown.content)).save(buffer, "PNG")
        return Mistake(title, "picture", buffer.getvalue())
    texts = drawn.shown.texts if isinstance(drawn.shown, Passages) else ()
    return Mistake(title, "text", "\n".join("".join(piece for piece, _ in text) for text in texts))
