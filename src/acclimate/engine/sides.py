"""`Side`: samples of one data set as a frozen network sees them: what flows into the head, cached, and what the head makes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.special import expit
from scipy.stats import entropy

from acclimate.engine import evaluate
from acclimate.engine.activations import Activations, Pass
from acclimate.engine.dataset import Dataset
from acclimate.engine.phase import Comparison
from acclimate.engine.precision import Precision
from acclimate.metrics.expected import Labelled
from acclimate.metrics.mismatch import gate, mismatch
from acclimate.metrics.unlabelled import effective, importance_weights
from acclimate.models.backbone import Net
from acclimate.tasks.task import Task

STEEP = 8.0
"""What turns the scores of a regression of 0 and 1 into the chance of being of the second side."""


@dataclass(frozen=True)
class Side:
    """`rows` of a data set; all figures are in their order."""

    dataset: Dataset
    rows: np.ndarray
    cached: Activations

    @classmethod
    def of(cls, work: Pass, rows: np.ndarray) -> Side:
        """What the pass brings to the head; what was cached before is not computed again."""
        return cls(work.dataset, rows, work.bring(rows, len(work.backbone.stages)))

    def features(self, head: Any) -> np.ndarray:
        """float64 [n, D]: what the head's linear map is of."""
        with torch.inference_mode():
            return head.pooled(self.cached.rows(self.rows)).double().numpy()

    def predictions(self, net: Net, task: Task, precision: Precision, device: torch.device) -> np.ndarray:
        """One row a sample."""
        batches = evaluate.over_activations(self.dataset, self.cached, self.rows)
        # the batches tell places among the rows
        return evaluate.predict(net, task, batches, precision, device, len(net.backbone.stages))

    def take(self, places: np.ndarray) -> Side:
        """Some of the rows, by their places."""
        return Side(self.dataset, self.rows[places], self.cached)


def compared(net: Net, task: Task, ours: Side, theirs: Side, precision: Precision, device: torch.device) -> Comparison:
    """Of held-out samples of the source and those of the target. For tasks whose answers are a choice of one class."""
    (mine,), (others,) = (task.choices(side.predictions(net, task, precision, device)) for side in (ours, theirs))
    (targets,) = task.chosen(ours.dataset.targets[ours.rows])
    features = ours.features(net.head), theirs.features(net.head)
    found = mismatch(features[0], targets, features[1], [Labelled(mine, targets)], [others])
    assert found.expected is not None
    classes, best = others.shape[1], others.argmax(axis=1)
    doubt = entropy(others, axis=1)
    n = len(found.gate.places[0])
    weights = importance_weights(expit(STEEP * (found.gate.told.scores[:n] - 0.5)), n, n)
    told = found.gate.told
    return Comparison(
        p=told.auc.p,
        auc=told.auc.value,
        accuracy=found.expected.source["value"],
        drop=found.expected.drop,
        least=found.expected.least,
        kind=found.kind,
        source=tuple((np.bincount(targets, minlength=classes) / len(targets)).tolist()),
        predicted=tuple((np.bincount(best, minlength=classes) / len(best)).tolist()),
        apart=gate(np.log(mine.clip(1e-6)), np.log(others.clip(1e-6)), permutations=1).told.accuracy["value"],
        entropy=tuple(float(doubt[best == name].mean()) if (best == name).any() else 0.0 for name in range(classes)),
        effective=effective(weights) / n,
    )
