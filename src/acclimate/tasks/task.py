"""What a task is: it owns targets (encoding, head, loss, predictions, metrics) and how a sample becomes an input."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from acclimate.core.tree import Tree
from acclimate.metrics.metric import Metric
from acclimate.models.card import Preprocessing


class Inputs(Protocol):
    """How one sample becomes what the model reads. Stateless; equal `key`s mean equal results."""

    key: str
    """Names everything that changes the result: the content key of the preprocessing."""

    def prepare(self, raw: bytes | str) -> Tree:
        """Decode and bring to working size: a tree of small (uint8, int32) tensors that can be kept on disk.

        Raises ValueError, with a reason a person can read, where the sample cannot be decoded.
        """
        ...

    def view(self, prepared: Tree, view: int, seed: int) -> Tree:
        """The fixed view number `view` of a prepared sample: 0 is the sample as it is, others are augmented by (view, seed)."""
        ...

    def augment(self, prepared: Tree, policy: str, seed: int) -> Tree:
        """A fresh augmented copy under a policy ("none", "light", "randaugment"), a pure function of the seed."""
        ...

    def collate(self, samples: list[Tree]) -> Tree:
        """A batch of prepared, viewed or augmented samples, ready for the model: normalised, float32."""
        ...


class Task(Protocol):
    """Everything that depends on what a target is."""

    name: str
    spec: dict[str, Any]
    """All that the task needs to be rebuilt, as JSON; travels in model.json: {"classes": [...], "several": false}."""
    primary: str
    """The metric that validation is judged by; higher is better."""

    def encode(self, column: pa.ChunkedArray) -> np.ndarray:
        """Targets of a `target` column, one row a sample: int64 [n], float32 [n, classes], or object [n]."""
        ...

    def targets(self, encoded: np.ndarray) -> Tree:
        """A batch of encoded targets as tensors."""
        ...

    def strata(self, column: pa.ChunkedArray) -> np.ndarray:
        """int64 [n]: which samples count as alike when splits are cut."""
        ...

    def inputs(self, preprocessing: Preprocessing) -> Inputs: ...

    def head(self, features: Tree) -> nn.Module:
        """A fresh head for features shaped like this example batch; takes the backbone's features, gives outputs."""
        ...

    def loss(self, outputs: Tree, targets: Tree) -> tuple[torch.Tensor, int]:
        """(sum of the losses over the targets of the batch, number of targets in it)."""
        ...

    def predictions(self, outputs: Tree) -> np.ndarray:
        """Outputs of a batch as one row a sample, float32: probabilities [n, classes] for classification."""
        ...

    def scores(self, predictions: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """float64 [n]: how right each prediction is (1 = right, 0 = wrong): what a paired comparison compares."""
        ...

    def metrics(self, predictions: np.ndarray, targets: np.ndarray) -> dict[str, Metric]: ...

    def answer(self, prediction: np.ndarray) -> dict[str, Any]:
        """One prediction in the user's words: {"label": "rose", "confidence": 0.93, ...}; the columns of `predict`."""
        ...


