"""The probe: the head fitted to cached features by full-batch L-BFGS, over a path of penalties from strong to weak."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

from acclimate.core.seeds import generator
from acclimate.engine.linear import product
from acclimate.tasks.task import Task

PENALTIES = tuple(10.0**power for power in np.arange(1.0, -4.6, -0.5))
"""lambda of (1/n) sum(loss) + lambda/2 |W|^2 on standardised features, from strong to weak."""
COARSE = PENALTIES[2:9:2]
"""Enough of them to tell readings apart."""
SAMPLE, FEW, FOLDS = 3000, 200, 5
"""Training samples that readings are told apart with; validation samples below which it is done out of fold; the folds."""
LIKELY = 3
"""Readings that all folds look at: the best in the first."""
WORSE = 1.05
"""Once the held-out loss is this many times the best, weaker penalties are not tried."""
FITTED = 0.1
"""The penalty where the features have learned the very samples and no others are held out: folds would pick one far too weak."""
FLOOR = 1e-3
"""Least spread of a feature, as a share of the median spread: a constant feature must not blow the weights up."""


@dataclass(frozen=True)
class Solved:
    """One point of the path: `weight` [outputs, D] and `bias` [outputs] of features less `mean`, by `spread`, both [D]."""

    penalty: float
    weight: torch.Tensor
    bias: torch.Tensor
    mean: torch.Tensor
    spread: torch.Tensor
    loss: float

    def outputs(self, features: torch.Tensor) -> torch.Tensor:
        """Of raw features."""
        raw = self.weight / self.spread
        return features @ raw.T + (self.bias - raw @ self.mean)


@dataclass(frozen=True)
class Fold:
    """Features of some samples, as the backbone gives them, and their encoded targets."""

    features: torch.Tensor
    targets: np.ndarray

    def take(self, rows: np.ndarray) -> Fold:
        return Fold(self.features[torch.from_numpy(rows)], self.targets[rows])


def path(
    task: Task,
    features: torch.Tensor,
    targets: np.ndarray,
    outputs: int,
    penalties: Sequence[float] = PENALTIES,
    scaled: bool = True,
) -> Iterator[Solved]:
    """Multinomial (or whatever the task's loss is) regression on `features` [n, D], warm-started from strong to weak penalties.

    Features are standardised per column, or, not `scaled`, only centred: principal components keep their spread. The objective is convex
    for a convex loss, so the result does not depend on the start.
    Float64 would cost twice the time for nothing that validation sees: float32 here, float64 in the optimizer's own state.
    """
    mean, spread = features.mean(0), features.std(0)
    spread = spread.clamp_min(FLOOR * float(spread.median().clamp_min(1e-12))) if scaled else torch.ones_like(spread)
    standard = (features - mean) / spread
    turned = standard.T.contiguous()
    wanted = task.targets(targets)
    width = features.shape[1]
    flat = np.zeros(outputs * (width + 1))
    for penalty in penalties:

        def objective(values: np.ndarray, penalty: float = penalty) -> tuple[float, np.ndarray]:
            parameters = torch.from_numpy(values).float()
            weight, bias = parameters[: outputs * width].view(outputs, width), parameters[outputs * width :]
            made = product(standard, weight, bias).requires_grad_()
            total, count = task.loss(made, wanted)
            (slope,) = torch.autograd.grad(total / count, made)
            loss = float(total.detach() / count + penalty / 2 * weight.square().sum())
            by_weight = product(slope.T.contiguous(), turned).add_(weight, alpha=penalty)
            return loss, torch.cat([by_weight.flatten(), slope.sum(0)]).double().numpy()

        found = minimize(
            objective, flat, jac=True, method="L-BFGS-B", options={"maxiter": 200, "gtol": 1e-3, "ftol": 1e-6}
        )
        flat = found.x
        parameters = torch.from_numpy(flat).float()
        weight, bias = parameters[: outputs * width].view(outputs, width), parameters[outputs * width :]
        yield Solved(penalty, weight, bias, mean, spread, float(found.fun))


@threadpool_limits.wrap(
    limits=1, user_api="blas"
)  # scipy's and torch's threads would wait for each other, five times as long
def fit_head(
    task: Task, training: Task, head: Any, train: Fold, val: Fold | None, seed: int, reread: bool = True
) -> dict[str, Any]:
    """Fit the head to features; the penalty and, with `reread`, what it reads are picked by the loss on samples it was not fitted to.

    `task` judges, `training` is the same task with the loss to fit. Without `val` folds of `train` pick, and the head is fitted to all
    of it; without `reread` the features have learned from these samples, and the penalty is `FITTED`. Notes for the outcome:
    {"reading", "penalty"}.
    """
    outputs = head.linear.out_features
    readings = list(head.readings) if reread else [head.reading]
    penalties: Sequence[float] = PENALTIES
    reading, penalty = readings[0], FITTED
    if reread and (len(readings) > 1 or val is None):
        reading, penalty = _pick(task, training, head, readings, _splits(train, val, seed))
        penalties = [one for one in PENALTIES if penalty / 11 < one < penalty * 4]  # of more samples a weaker one
    held = None if val is None else head.read(val.features, reading)
    best: tuple[float, Solved] | None = None
    for point in path(training, head.read(train.features, reading), train.targets, outputs, penalties):
        if val is None or held is None:
            best = 0.0, point
            if point.penalty <= penalty:
                break
            continue
        loss = float(_losses(task, point, held, val.targets).mean())
        if best is None or loss < best[0]:
            best = loss, point
        elif loss > WORSE * best[0]:
            break
    assert best is not None
    point = best[1]
    head.take(reading, point.weight, point.bias, point.mean, point.spread)
    return {"reading": reading, "penalty": point.penalty}


def _pick(
    task: Task, training: Task, head: Any, readings: list[str], splits: list[tuple[Fold, Fold]]
) -> tuple[str, float]:
    """(the simplest reading that held-out losses do not tell to be worse than the best, its best penalty)."""
    found = {reading: _held_out(task, training, head, reading, splits[:1]) for reading in readings}
    if len(splits) > 1:
        likely = sorted(readings, key=lambda reading: found[reading][0].mean())[:LIKELY]
        found = {one: _held_out(task, training, head, one, splits) for one in readings if one in likely}
    best = min((losses for losses, _ in found.values()), key=np.mean)
    for reading, (losses, penalty) in found.items():
        difference = losses - best
        if difference.mean() <= difference.std() / np.sqrt(len(difference)):
            return reading, penalty
    raise AssertionError("the best is not worse than itself")


def _splits(train: Fold, val: Fold | None, seed: int) -> list[tuple[Fold, Fold]]:
    """What readings are told apart on: validation where it is large enough, else folds of all samples."""
    draw = generator("reading", seed)
    if val is not None and len(val.targets) >= FEW:
        return [(train.take(draw.permutation(len(train.targets))[:SAMPLE]), val)]
    both = train
    if val is not None:
        both = Fold(torch.cat([train.features, val.features]), np.concatenate([train.targets, val.targets]))
    both = both.take(draw.permutation(len(both.targets))[:SAMPLE])
    fold = np.arange(len(both.targets)) % FOLDS
    return [(both.take(np.flatnonzero(fold != i)), both.take(np.flatnonzero(fold == i))) for i in range(FOLDS)]


def _held_out(
    task: Task, training: Task, head: Any, reading: str, splits: list[tuple[Fold, Fold]]
) -> tuple[np.ndarray, float]:
    """(float64 [n]: losses on samples that were not fitted, at the best of a few penalties; that penalty)."""
    outputs = head.linear.out_features
    paths = [
        path(training, head.read(fitted.features, reading), fitted.targets, outputs, COARSE) for fitted, _ in splits
    ]
    features = [head.read(held.features, reading) for _, held in splits]
    best, penalty = np.array([np.inf]), COARSE[0]
    for points in zip(*paths, strict=True):
        losses = np.concatenate(
            [
                _losses(task, point, read, held.targets)
                for point, read, (_, held) in zip(points, features, splits, strict=True)
            ]
        )
        if losses.mean() > WORSE * best.mean():
            break
        if losses.mean() < best.mean():
            best, penalty = losses, points[0].penalty
    return best, penalty


def _losses(task: Task, point: Solved, features: torch.Tensor, targets: np.ndarray) -> np.ndarray:
    return task.losses(task.predictions(point.outputs(features)), targets)
