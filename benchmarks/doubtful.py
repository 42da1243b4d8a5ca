"""How many labels that were made wrong the second look finds: precision of the first 50, recall, average precision.

    python benchmarks/doubtful.py FLOWERS TRASHNET BANKING77 [--seeds 3] [--show]
    python benchmarks/doubtful.py --boxes BCCD --weights FILE [--minutes 2]

FLOWERS: photographs in class folders (the TensorFlow flowers, or any other). TRASHNET: github.com/garythung/trashnet, likewise.
BANKING77: tables of questions and intents (Casanueva et al. 2020), its model bge-small (acclimate models get bge-small). Labels of 5 and
of 10 % of all samples are made wrong: at random, or each the class that its own is most taken for in the clean data, out of fold.
BCCD: blood cells (github.com/Shenggan/BCCD_Dataset), FILE: weights of yolox:nano. Of all boxes 5 or 10 % each are taken away, given
another class, and added where nothing is; a fit of `--minutes` learns from that. Labels that were wrong before count as right, so what
is found of these counts against the precision.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from common import command, folders, machine, positive, show

from acclimate.core.recipe import Options
from acclimate.core.run import Run
from acclimate.core.seeds import generator
from acclimate.engine.second_look import FOLDS, frozen, out_of_fold, second_look
from acclimate.engine.solve import Fold, fit_head
from acclimate.engine.trainer import Trainer
from acclimate.engine.trial import folds
from acclimate.engine.watcher import Watcher
from acclimate.verbs.job import prepare

SHARES = (0.05, 0.10)
FIRST = 50
HEADER = ("wrong labels", "share", f"precision at {FIRST}", "recall at as many", "average precision", "listed", "s")


# --- one class a sample


def looked_at(data: Path, place: Path) -> Trainer:
    """What the end of a fit stands on: features are cached, and the head has chosen what it reads of them."""
    job = prepare(str(data), Options.check({"strategy": "probe"}), Watcher())
    trainer = job.trainer(Run(place), job.looking(), Watcher())
    features, rows = frozen(trainer), (trainer.train_rows, trainer.val_rows)
    train, val = (Fold(features(own), trainer.dataset.targets[own]) for own in rows)
    fit_head(job.task, job.task, job.net.head, train, val, 0)
    return trainer


def confusable(trainer: Trainer) -> np.ndarray:
    """int64 [classes]: what each class is most taken for."""
    dataset, rows = trainer.dataset, np.arange(len(trainer.dataset))
    fold = folds(trainer, rows, FOLDS)
    chances = out_of_fold(trainer.task, trainer.net.head, frozen(trainer), dataset.targets, rows, fold)
    count = chances.shape[1]
    taken = np.zeros((count, count))
    np.add.at(taken, (dataset.targets, chances.argmax(axis=1)), 1.0)
    np.add.at(
        taken, dataset.targets, chances / len(rows)
    )  # tells those apart that are taken for each other equally often
    np.fill_diagonal(taken, -1.0)
    return taken.argmax(axis=1)


def planted(
    targets: np.ndarray, other: np.ndarray | None, classes: int, share: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """(targets, which rows of them are wrong now)."""
    draw = generator("planted", seed)
    rows = np.sort(draw.permutation(len(targets))[: round(share * len(targets))])
    wrong = targets.copy()
    wrong[rows] = (
        (targets[rows] + draw.integers(1, classes, len(rows))) % classes if other is None else other[targets[rows]]
    )
    return wrong, rows


def found(trainer: Trainer, targets: np.ndarray, rows: np.ndarray) -> tuple[list[float], list[dict[str, Any]]]:
    """([precision, recall, average precision, how many are listed, seconds], what is listed)."""
    dataset, classes = trainer.dataset, trainer.task.spec["classes"]
    names = pa.chunked_array([pa.array([classes[code] for code in targets])])
    wrong = replace(dataset, targets=targets, table=dataset.table.with_column("target", names))
    began = time.perf_counter()
    listed = second_look(replace(trainer, dataset=wrong), trainer.task, np.zeros(0, dtype=np.int64))
    seconds = time.perf_counter() - began
    return [*judged(np.isin([one["row"] for one in listed], rows), len(rows)), len(listed), seconds], listed


def judged(right: np.ndarray, there: int) -> list[float]:
    """[precision of the first, recall of as many as there are, average precision] of a list, its best first."""
    precision = np.cumsum(right) / np.arange(1, len(right) + 1)
    return [float(right[:FIRST].mean()), float(right[:there].sum() / there), float((precision * right).sum() / there)]


def line(kind: str, share: float, figures: Sequence[Sequence[float]]) -> list[str]:
    """Means over the seeds; of the precision each."""
    mean = np.mean(figures, axis=0)
    each = " ".join(f"{one[0]:.2f}" for one in figures)
    return [
        kind,
        f"{share:.0%}",
        f"{mean[0]:.3f} ({each})",
        f"{mean[1]:.3f}",
        f"{mean[2]:.3f}",
        f"{mean[3]:.0f}",
        f"{mean[4]:.1f}",
    ]


def of_classes(data: Path, seeds: int, first_seed: int) -> None:
    with tempfile.TemporaryDirectory() as place:
        trainer = looked_at(data, Path(place))
        targets, classes = trainer.dataset.targets, len(trainer.task.spec["classes"])
        clean = found(trainer, targets, np.zeros(1, dtype=np.int64))[0][3]
        show(f"{data.name}, {len(targets):,} samples, {classes} classes; as it is {clean:.0f} are listed", HEADER, [])
        for kind, other in (("any other class", None), ("the class it is taken for", confusable(trainer))):
            for share in SHARES:
                figures = [
                    found(trainer, *planted(targets, other, classes, share, seed))[0]
                    for seed in range(first_seed, first_seed + seeds)
                ]
                show("", HEADER, [line(kind, share, figures)], begin=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", metavar="FOLDER")
    parser.add_argument("--seeds", type=positive, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    asked = parser.parse_args()
    print(machine())
    for data in folders(asked.folders):
        of_classes(data, asked.seeds, asked.first_seed)


if __name__ == "__main__":
    command(main)
