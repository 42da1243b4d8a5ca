"""A head fitted in closed form for the target: one of `alignments.ALIGNMENTS` on the features of both sides."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from acclimate.alignments import ALIGNMENTS
from acclimate.alignments.alignment import Linear, Sides
from acclimate.core.tree import Tree
from acclimate.engine.solve import PENALTIES, Fold, Solved, path
from acclimate.tasks.task import Task


def aligned(
    task: Task,
    training: Task,
    head: Any,
    name: str,
    train: Fold,
    held: Fold,
    target: Tree,
    penalty: float,
    shares: tuple[float, ...] = (),
    known: Fold | None = None,
) -> dict[str, Any]:
    """Give the head the linear map that alignment `name` finds; it reads on what it reads. Notes for the outcome.

    `target`: features of its samples. `penalty`: of every fit on the way, as the source's own was chosen on validation. `shares`: of the
    classes in the target, where they are known. `known`: target samples that have a label, for what learns from these.
    """
    reading = head.reading
    ours, kept, theirs = (_array(head.read(features, reading)) for features in (train.features, held.features, target))
    outputs = head.linear.out_features

    penalties = [*(one for one in PENALTIES if one > penalty * 1.01), penalty]

    def fit(features: np.ndarray, targets: np.ndarray, weights: np.ndarray | None, scaled: bool = False) -> Linear:
        wanted = targets if weights is None else np.eye(outputs)[targets] * (weights / weights.mean())[:, None]
        made = torch.from_numpy(features).float()
        *_, point = path(
            training, made, wanted.astype(targets.dtype if weights is None else np.float32), outputs, penalties, scaled
        )
        return _linear(point)

    plain = fit(ours, train.targets, None, scaled=True)
    declared = np.array(shares) if shares else None
    taught = (None, None) if known is None else (_array(head.read(known.features, reading)), known.targets)
    sides = Sides(ours, train.targets, kept, held.targets, theirs, fit, plain, declared, *taught)
    found = ALIGNMENTS[name].solve(sides)
    width = ours.shape[1]
    weight, bias = torch.from_numpy(found.weight).float(), torch.from_numpy(found.bias).float()
    head.take(reading, weight, bias, torch.zeros(width), torch.ones(width))
    return {"reading": reading, "penalty": penalty}


def spread(targets: np.ndarray, folds: int) -> list[np.ndarray]:
    """Places in `targets` in so many parts, each class spread over them as evenly as it can be; none is empty."""
    order = np.argsort(targets, kind="stable")
    return [np.sort(order[start::folds]) for start in range(min(folds, len(order)))]


def _array(features: torch.Tensor) -> np.ndarray:
    return features.double().cpu().numpy()


def _linear(point: Solved) -> Linear:
    raw = (point.weight / point.spread).double()
    return Linear(raw.numpy(), (point.bias.double() - raw @ point.mean.double()).numpy())
