"""`Side`: samples of one data set as a frozen network sees them: what flows into the head, cached, and what the head makes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from acclimate.engine import evaluate
from acclimate.engine.activations import Activations, Pass
from acclimate.engine.dataset import Dataset
from acclimate.engine.precision import Precision
from acclimate.models.backbone import Net
from acclimate.tasks.task import Task


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
