"""How many labels that were made wrong the second look finds: precision of the first 50, recall, average precision.

    python benchmarks/doubtful.py FLOWERS TRASHNET BANKING77 [--seeds 3]
    python benchmarks/doubtful.py BCCD --weights FILE [--minutes 3] [--seeds 3]

FLOWERS: photographs in class folders (the TensorFlow flowers, or any other). TRASHNET: github.com/garythung/trashnet, likewise.
BANKING77: tables of questions and intents (Casanueva et al. 2020), its model bge-small (acclimate models get bge-small). Labels of 5 and
of 10 % of all samples are made wrong: at random, or each the class that its own is most taken for in the clean data, out of fold.
BCCD: blood cells (github.com/Shenggan/BCCD_Dataset), FILE: weights of yolox:nano. Of all boxes 5 or 10 % each are taken away, given
another class, and added where nothing is; a fit of `--minutes` learns from that. Labels that were wrong before count as right, so what
is found of these counts against the precision.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from common import command, folders, machine, positive, show

from acclimate.core.recipe import Options
from acclimate.core.run import Run
from acclimate.core.seeds import generator
from acclimate.data.read import read
from acclimate.data.table import Table
from acclimate.engine import learned as memory
from acclimate.engine.saved import load_model
from acclimate.engine.second_look import CORNERS, FOLDS, frozen, out_of_fold, second_look
from acclimate.engine.solve import Fold, fit_head
from acclimate.engine.trainer import Trainer
from acclimate.engine.trial import folds
from acclimate.engine.watcher import Watcher
from acclimate.metrics.box_doubt import SAME
from acclimate.metrics.doubt import LACKING, OTHER, VAIN
from acclimate.metrics.matching import overlap
from acclimate.verbs.fit import fit
from acclimate.verbs.job import prepare

SHARES = (0.05, 0.10)
FIRST = 50
FREE = 0.1
"""IoU with any other up to which a box that is added lies where nothing is."""
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
    if not len(right):
        return [0.0, 0.0, 0.0]
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


def of_classes(data: Path, seeds: Sequence[int]) -> None:
    with tempfile.TemporaryDirectory() as place:
        trainer = looked_at(data, Path(place))
        targets, classes = trainer.dataset.targets, len(trainer.task.spec["classes"])
        clean = found(trainer, targets, np.zeros(1, dtype=np.int64))[0][3]
        show(f"{data.name}, {len(targets):,} samples, {classes} classes; as it is {clean:.0f} are listed", HEADER, [])
        for kind, other in (("any other class", None), ("the class it is taken for", confusable(trainer))):
            for share in SHARES:
                figures = [found(trainer, *planted(targets, other, classes, share, seed))[0] for seed in seeds]
                show("", HEADER, [line(kind, share, figures)], begin=False)


# --- boxes


@dataclass
class Planted:
    """Boxes of a data set of which some are made wrong. `wrong`: by kind, (picture, corners) of each."""

    lines: list[dict[str, Any]]
    wrong: dict[str, list[tuple[str, list[float]]]]


def planted_boxes(table: Table, home: Path, share: float, seed: int) -> Planted:
    """As many boxes of each kind as `share` of all are."""
    draw = generator("planted boxes", seed)
    names = [str((home / name).absolute()) for name in table.column("sample").to_pylist()]
    targets = table.column("target").to_pylist()
    every = [(i, box["label"], [box[edge] for edge in CORNERS]) for i, boxes in enumerate(targets) for box in boxes]
    classes = sorted({label for _, label, _ in every})
    number = round(share * len(every))
    order = draw.permutation(len(every))
    lacking, other = set(order[:number].tolist()), set(order[number : 2 * number].tolist())
    if len(classes) == 1:
        other = set()
    splits = table.column("split").to_pylist() if "split" in table else None
    lines = [
        {"image": name, "boxes": [], "labels": [], **({} if splits is None else {"split": splits[i]})}
        for i, name in enumerate(names)
    ]
    wrong: dict[str, list[tuple[str, list[float]]]] = {LACKING: [], OTHER: [], VAIN: []}
    for k, (i, label, corners) in enumerate(every):
        if k in lacking:
            wrong[LACKING].append((names[i], corners))
            continue
        if k in other:
            wrong[OTHER].append((names[i], corners))
            label = classes[(classes.index(label) + int(draw.integers(1, len(classes)))) % len(classes)]
        lines[i]["boxes"].append(corners)
        lines[i]["labels"].append(label)
    sizes = list(zip(table.column("width").to_pylist(), table.column("height").to_pylist(), strict=True))
    while len(wrong[VAIN]) < number:
        i = int(draw.integers(len(names)))
        _, label, like = every[int(draw.integers(len(every)))]
        sides = np.array([like[2] - like[0], like[3] - like[1]])
        room = np.array(sizes[i]) - sides
        there = np.array(
            [corners for j, _, corners in every if j == i]
            + [corners for name, corners in wrong[VAIN] if name == names[i]]
        )
        first = draw.random(2) * room
        corners = np.concatenate([first, first + sides])
        if (room > 0).all() and (overlap(corners, there.reshape(-1, 4), np.zeros(len(there), dtype=bool)) < FREE).all():
            wrong[VAIN].append((names[i], corners.tolist()))
            lines[i]["boxes"].append(corners.tolist())
            lines[i]["labels"].append(label)
    return Planted(lines, wrong)


def of_boxes(data: Path, weights: str, minutes: float, seeds: Sequence[int]) -> None:
    table = read(str(data))
    header = (
        "kind",
        "share",
        "of",
        f"precision at {FIRST}",
        "recall at as many",
        "average precision",
        "there",
        "listed",
    )
    show(f"{data.name}, yolox:nano, {minutes:g} minutes; s of the second look by seed follow", header, [])
    for share in SHARES:
        found: dict[tuple[str, str], list[list[float]]] = {}
        seconds = []
        for seed in seeds:
            planted = planted_boxes(table, data, share, seed)
            listed, took, held = fitted(planted, weights, minutes, seed)
            seconds.append(f"{took:.1f}")
            for kind, wrong in planted.wrong.items():
                for part, among in (("all", None), ("not learned from", held)):
                    there = [one for one in wrong if among is None or one[0] in among]
                    rows = [one for one in listed if one["kind"] == kind and (among is None or not one["learned"])]
                    if there:
                        right = hits(rows, there)
                        found.setdefault((kind, part), []).append([*judged(right, len(there)), len(there), len(rows)])
        for (kind, part), figures in found.items():
            mean = np.mean(figures, axis=0)
            each = " ".join(f"{one[0]:.2f}" for one in figures)
            cells = [
                f"{mean[0]:.3f} ({each})",
                *(f"{value:.3f}" for value in mean[1:3]),
                *(f"{value:.0f}" for value in mean[3:]),
            ]
            show("", header, [(kind, f"{share:.0%}", part, *cells)], begin=False)
        print(f"seconds: {' '.join(seconds)}", flush=True)


def fitted(planted: Planted, weights: str, minutes: float, seed: int) -> tuple[list[dict[str, Any]], float, set[str]]:
    """(what a fit on these boxes lists, seconds of the second look, the pictures that it did not learn from)."""
    with tempfile.TemporaryDirectory() as place:
        data, model = Path(place) / "boxes.jsonl", {"model": "yolox:nano", "weights": weights, "seed": seed}
        data.write_text("".join(json.dumps(one) + "\n" for one in planted.lines))
        run = fit(str(data), out=Path(place) / "run", minutes=minutes, **model)
        job = prepare(str(data), Options.check(model), Watcher())
        saved = load_model(run.path, job.device)
        trainer = replace(job.trainer(Run(Path(place)), saved.precision, Watcher()), net=saved.net)
        learned = np.isin(job.dataset.digests[:, 0], memory.digests(memory.read(run.path)))
        began = time.perf_counter()
        listed = second_look(trainer, saved.task, np.flatnonzero(learned))
        seconds = time.perf_counter() - began
        return listed, seconds, {job.dataset.table.name(int(row)) for row in np.flatnonzero(~learned)}


def hits(rows: list[dict[str, Any]], there: list[tuple[str, list[float]]]) -> np.ndarray:
    """bool [rows]: which are the first to mean one of the boxes that are there."""
    left, found = list(there), []
    for one in rows:
        same = [box for box in left if box[0] == one["sample"]]
        corners = np.array([box[1] for box in same]).reshape(-1, 4)
        met = np.flatnonzero(overlap(np.array(one["box"]), corners, np.zeros(len(same), dtype=bool)) >= SAME)
        found.append(len(met) > 0)
        if len(met):
            left.remove(same[int(met[0])])
    return np.array(found, dtype=bool)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", metavar="FOLDER")
    parser.add_argument("--weights", help="of yolox:nano; folders hold boxes then")
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--seeds", type=positive, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    asked = parser.parse_args()
    print(machine())
    seeds = range(asked.first_seed, asked.first_seed + asked.seeds)
    for data in folders(asked.folders):
        if asked.weights:
            of_boxes(data, asked.weights, asked.minutes, seeds)
        else:
            of_classes(data, seeds)


if __name__ == "__main__":
    command(main)
