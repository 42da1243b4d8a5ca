"""What a trainer does with samples from elsewhere: how they differ, which of their labels it knows, a head fitted for them, a bridge."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from acclimate.alignments.space import Space, space
from acclimate.core.tree import Tree
from acclimate.engine.activations import PLAIN, Activations, View
from acclimate.engine.aligning import aligned, spread
from acclimate.engine.batches import Batches
from acclimate.engine.dataset import Target
from acclimate.engine.phase import Audit, Phase
from acclimate.engine.sides import Side, compared
from acclimate.engine.solve import FITTED, Fold
from acclimate.models.frozen import freeze
from acclimate.models.norms import restate
from acclimate.objectives import objective_named

if TYPE_CHECKING:
    from acclimate.engine.trainer import Trainer

FOLDS = 5
"""Of the target's labels, where each is to be judged by a classifier that has not learned it."""


def comparison(trainer: Trainer, start: int) -> dict[str, Any]:
    """The answer to `Compare`, as JSON."""
    target = _target(trainer)
    _stand(trainer, start)
    ours, theirs = (
        Side.of(trainer.feature_pass(dataset), rows)
        for dataset, rows in ((trainer.dataset, trainer.val_rows), (target.dataset, target.rows))
    )
    return compared(trainer.net, trainer.task, ours, theirs, trainer.precision, trainer.device).json()


def audit(trainer: Trainer, asked: Audit) -> list[float]:
    """The answer to `Audit`, as JSON."""
    target, how = _target(trainer), (trainer.net, trainer.task, trainer.precision, trainer.device)
    known, targets = target.known, target.known_targets
    _stand(trainer, asked.start)
    theirs = Side.of(trainer.feature_pass(target.dataset), target.rows)
    held = Side(theirs.dataset, known, theirs.cached)
    if not asked.align:
        return trainer.task.scores(held.predictions(*how), targets).tolist()
    ours = Side.of(trainer.feature_pass(trainer.dataset), trainer.pass_rows)
    found, weight = np.zeros(len(known)), penalty(trainer, asked.start)
    for fold in spread(targets, FOLDS):
        rest = np.setdiff1d(np.arange(len(known)), fold)
        align(trainer, asked.align, weight, (), ours.cached, theirs.cached, rest)
        found[fold] = trainer.task.scores(held.take(fold).predictions(*how), targets[fold])
    return found.tolist()


def solved(trainer: Trainer, phase: Phase, ours: Activations) -> dict[str, Any]:
    """Fit the head for the target as the phase says, to all there is; notes for the outcome."""
    theirs, every = cached(trainer, len(trainer.net.backbone.stages)), np.arange(len(_target(trainer).known))
    return align(trainer, phase.align, penalty(trainer, phase.start), phase.shares, ours, theirs, every)


def align(
    trainer: Trainer,
    name: str,
    penalty: float,
    shares: tuple[float, ...],
    ours: Activations,
    theirs: Activations,
    known: np.ndarray,
) -> dict[str, Any]:
    """Give the head what an alignment finds; `known`: places of the target's labels that it may learn from."""
    target, targets = _target(trainer), trainer.dataset.targets
    train, held = (Fold(ours.rows(rows), targets[rows]) for rows in (trainer.train_rows, trainer.val_rows))
    taught = Fold(theirs.rows(target.known[known]), target.known_targets[known]) if len(known) else None
    training, features = trainer.task.for_training(train.targets), theirs.rows(target.rows)
    head: Any = trainer.net.head
    return aligned(trainer.task, training, head, name, train, held, features, penalty, shares, taught)


def penalty(trainer: Trainer, start: int | None) -> float:
    """That of the nearest solved outcome from this one back."""
    while start is not None:
        notes = trainer.outcomes.read(start).notes
        if "penalty" in notes:
            return float(notes["penalty"])
        start = trainer.outcomes.phase(start).start
    return FITTED


def restated(trainer: Trainer, whose: str) -> None:
    """Batch norm of the whole net to the statistics of the source's training samples or of the target's."""
    sides = {"source": (trainer.dataset, trainer.train_rows)}
    if trainer.target is not None:
        sides["target"] = (trainer.target.dataset, trainer.target.rows)
    dataset, rows = sides[whose]
    parts = list(dataset.chunks(rows))

    def batches() -> Iterator[Tree]:
        for number, part in enumerate(parts):
            trainer.progress(float("inf"), number, len(parts))
            yield trainer.precision.move(dataset.batch(rows[part]), trainer.device)

    restate(trainer.net, trainer.net.backbone.modules(), batches(), 0)


def moved_in(trainer: Trainer) -> Space:
    """What a bridge moves features in: the directions in which those of both sides differ most."""
    features = len(trainer.net.backbone.stages)
    both = trainer.cached(features).rows(trainer.train_rows), cached(trainer, features).rows(_target(trainer).rows)
    with torch.inference_mode():
        head: Any = trainer.net.head
        ours, theirs = (head.pooled(side).double().cpu().numpy() for side in both)
    return space(ours, theirs)


def stream(trainer: Trainer, phase: Phase, led: Batches) -> Batches:
    """The target's, step by step beside that of the source."""
    target = _target(trainer)
    views = [cached(trainer, phase.first, (view, phase.augment) if view else PLAIN) for view in range(phase.views)]
    return Batches(trainer.task, target.dataset, target.rows, phase, views, led=led)


def cached(trainer: Trainer, boundary: int, view: View = PLAIN) -> Activations:
    """As `Trainer.cached`, of the target's samples."""
    assert trainer.beside is not None
    key = (f"target {trainer.beside.keys[boundary]}", boundary, view)
    if key not in trainer.held:
        trainer.held[key] = trainer.beside.bring(_target(trainer).rows, boundary, view)
    return trainer.held[key]


def told(target: Target | None, phase: Phase) -> list[Any]:
    """Names the samples of the target, where the phase reads them."""
    if target is None or not (phase.align or phase.restate or objective_named(phase.objective).streams > 1):
        return []
    return [
        target.dataset.fingerprint(),
        *(one.tolist() for one in (target.rows, target.known, target.known_targets)),
    ]


def _target(trainer: Trainer) -> Target:
    assert trainer.target is not None
    return trainer.target


def _stand(trainer: Trainer, outcome: int) -> None:
    """The net as the outcome left it, all of it frozen."""
    trainer.restore(outcome)
    freeze(trainer.net.backbone, {stage.name for stage in trainer.net.backbone.stages}, norms=True)
