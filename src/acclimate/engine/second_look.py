"""The second look at labels: what a probe that has not learned them, or the model itself, says against them."""

from __future__ import annotations

import csv
import functools
import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from threadpoolctl import threadpool_limits

from acclimate.core.seeds import generator, torch_seeded
from acclimate.core.tree import Tree
from acclimate.engine import evaluate
from acclimate.engine.activations import Activations
from acclimate.engine.solve import FLOOR, PENALTIES, WORSE, path
from acclimate.engine.trial import folds
from acclimate.tasks.task import Task

if TYPE_CHECKING:
    from acclimate.engine.trainer import Trainer

FOLDS = 5
MOST = 10_000
"""Samples that the probe of a fold learns from at most, so that time grows with the number of samples and memory does not."""
SAMPLE, COMPONENTS = 4000, 256
"""Samples that the principal components of the features are found from, and how many are kept at most."""
AT_ONCE = 1024
"""Samples whose features are read together."""
NEIGHBOURS, SOFTNESS = 20, 0.1
"""How many neighbours vote, each with exp(cosine / softness)."""
COLUMNS = ("sample", "split", "kind", "label", "suggested", "sure", "learned")
CORNERS = ("x1", "y1", "x2", "y2")

Row = dict[str, Any]
Features = Callable[[np.ndarray], Tree]
"""Rows of a data set -> what flows into the head."""


def second_look(trainer: Trainer, task: Task, learned: np.ndarray) -> list[Row]:
    """Labels of all samples that are worth a second look, what is most likely wrong first.

    {"row": of the data set, "sample": its name, "split", "kind", "label", "suggested", "sure": 0 to 1, "learned": whether who doubts it
    has learned that very label[, "box": (x1, y1, x2, y2)]}; the kinds are those of `metrics.doubt`.

    `task`: as it was settled on validation, for this model. Where its heads can be solved, a probe on features of the pretrained network
    judges each sample, fitted to folds without it: these features are in the cache of a fit that began with a probe. Where they cannot,
    the model answers as it is now; `learned`, int64 [m], are the rows that it learned from. Weights are left as they were.
    """
    dataset = trainer.dataset
    rows = np.concatenate([dataset.own(split) for split in ("train", "val", "test")])
    if task.tuning(trainer.net.head, dataset.inputs.preprocessing).solved:
        fold = folds(trainer, rows, FOLDS)
        if not fold.any():  # all samples count as one
            return []
        progress = functools.partial(trainer.watcher.work, "taking a second look at labels")
        task = task.unsettled()
        predictions = out_of_fold(task, trainer.net.head, frozen(trainer), dataset.targets, rows, fold, progress)
        doubts, seen = task.doubts(predictions, dataset.targets[rows], fold), np.zeros(len(rows), dtype=bool)
    else:
        inputs = evaluate.over_samples(dataset, rows)
        progress = functools.partial(trainer.watcher.work, "taking a second look at labels", of=len(rows))
        predictions = evaluate.predict(trainer.net, task, inputs, trainer.precision, trainer.device, progress=progress)
        doubts, seen = task.doubts(predictions, dataset.targets[rows]), np.isin(rows, learned)
    splits = dataset.table.column("split")
    return [
        {
            "row": int(rows[one.place]),
            "sample": dataset.table.name(int(rows[one.place])),
            "split": splits[int(rows[one.place])].as_py(),
            "kind": one.kind,
            "label": one.label,
            "suggested": one.suggested,
            "sure": round(one.sure, 4),
            "learned": bool(seen[one.place]),
            **({} if one.box is None else {"box": one.box}),
        }
        for one in doubts
    ]


def table(rows: Sequence[Row]) -> bytes:
    """The rows as CSV in UTF-8, a column for each corner where there are boxes."""
    boxes = any("box" in row for row in rows)
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([*COLUMNS, *(CORNERS if boxes else ())])
    for row in rows:
        told = {**row, "learned": "yes" if row["learned"] else "no"}
        corners = [f"{edge:.1f}" for edge in row.get("box", ())]
        writer.writerow([*(told[name] for name in COLUMNS), *corners])
    return buffer.getvalue().encode("utf-8", "surrogateescape")


def frozen(trainer: Trainer) -> Features:
    """Features of every sample as the pretrained network gives them, from the cache where they are there."""
    dataset, net = trainer.dataset, trainer.net
    was = {name: value.detach().clone() for name, value in net.state_dict().items()}
    trainer.restore(None)
    try:
        work, end = trainer.feature_pass(dataset), len(net.backbone.stages)
        # chunks are of the rows that are asked for together, and a fit asks for these
        first, second = work.bring(trainer.pass_rows, end), work.bring(dataset.own("test"), end)
    finally:
        net.restore(was)
    there = second.place[:, :1] >= 0
    place = np.where(there, second.place + np.array([len(first.chunks), 0], dtype=np.int32), first.place)
    return Activations(first.chunks + second.chunks, place, first.join).rows


@threadpool_limits.wrap(limits=1, user_api="blas")  # as `fit_head`
def out_of_fold(
    task: Task,
    head: Any,
    features: Features,
    targets: np.ndarray,
    rows: np.ndarray,
    fold: np.ndarray,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> np.ndarray:
    """Predictions for `rows`, each of a probe and of the nearest neighbours, both from other folds: the mean of the two.

    `targets`: encoded, of all rows of the data set; `fold`: int64 [n], of each of `rows`. The head says what of the features is read,
    and stays as it is. The penalty, one number for all folds, is the one with which the first is predicted best.
    """
    draw, targets, outputs = generator("second look").permutation(len(rows)), targets[rows], head.linear.out_features
    space = components(lambda some: head.read(features(rows[some]), head.reading), draw, progress)
    penalty = 0.0
    found: list[tuple[np.ndarray, np.ndarray]] = []
    for number in np.unique(fold):
        known, held = np.sort(draw[fold[draw] != number][:MOST]), np.flatnonzero(fold == number)
        train = space[known]
        penalty = penalty or _penalty(task, train, targets[known], outputs, space[held], targets[held])
        (point,) = path(task, train, targets[known], outputs, [penalty], scaled=False)
        for part in np.split(held, range(AT_ONCE, len(held), AT_ONCE)):
            probe = task.predictions(point.outputs(space[part]))
            found.append((part, (probe + _votes(task, train, targets[known], space[part])) / 2))
    places, predictions = (np.concatenate(each) for each in zip(*found, strict=True))
    return predictions[np.argsort(places)]


def components(
    read: Callable[[np.ndarray], torch.Tensor], order: np.ndarray, progress: Callable[[int, int], None]
) -> torch.Tensor:
    """float32 [n, `COMPONENTS` at most]: the principal components of standardised features, found from the first `SAMPLE` in `order`.

    They keep their spread, so that distances and penalties are about those of all features, at a fraction of the time and memory.
    `read`: places -> float32 [m, D].
    """
    some = read(order[:SAMPLE])
    mean, spread = some.mean(0), some.std(0, correction=0)
    spread = spread.clamp_min(FLOOR * float(spread.median().clamp_min(1e-12)))
    with torch_seeded("components"):
        _, _, turn = torch.pca_lowrank((some - mean) / spread, min(COMPONENTS, *some.shape), center=False)
    found = torch.empty(len(order), turn.shape[1])
    for start in range(0, len(order), AT_ONCE):
        part = np.arange(start, min(start + AT_ONCE, len(order)))
        found[start : start + len(part)] = ((read(part) - mean) / spread) @ turn
        progress(int(part[-1]) + 1, len(order))
    return found


def _penalty(
    task: Task, train: torch.Tensor, targets: np.ndarray, outputs: int, held: torch.Tensor, truth: np.ndarray
) -> float:
    """The one whose loss on samples that were not fitted is least."""
    losses: list[float] = []
    for point in path(task, train, targets, outputs, PENALTIES, scaled=False):
        losses.append(float(task.losses(task.predictions(point.outputs(held)), truth).mean()))
        if losses[-1] > WORSE * min(losses):
            break
    return PENALTIES[int(np.argmin(losses))]


def _votes(task: Task, train: torch.Tensor, targets: np.ndarray, features: torch.Tensor) -> np.ndarray:
    """What the nearest of `train` are, as predictions: targets mixed by exp(cosine / softness)."""
    cosines, near = (F.normalize(features) @ F.normalize(train).T).topk(min(NEIGHBOURS, len(train)))
    parts = [task.targets(targets[some.numpy()]) for some in near.T]
    return task.mix(parts, (cosines / SOFTNESS).softmax(1)).numpy()
