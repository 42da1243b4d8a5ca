"""Predictions over a split, streamed in fixed batches so that the same samples always share a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch

from acclimate.core.tree import Tree
from acclimate.engine.activations import Activations
from acclimate.engine.dataset import CHUNK, Dataset
from acclimate.engine.precision import Precision
from acclimate.models.backbone import Net
from acclimate.tasks.task import Task


@torch.inference_mode()
def outputs(net: Net, inputs: Tree, first: int, precision: Precision, device: torch.device) -> Tree:
    """The outputs of one batch in eval mode; the caller keeps the mode of the net."""
    with precision.inference(net):
        return net(precision.move(inputs, device), first)


def predict(
    net: Net,
    task: Task,
    batches: Iterator[Tree],
    precision: Precision,
    device: torch.device,
    first: int = 0,
    progress: Callable[[int], None] = lambda done: None,
) -> np.ndarray:
    """Predictions of all batches, one row a sample; only predictions are kept."""
    was = net.training
    net.eval()
    found = []
    for batch in batches:
        found.append(task.predictions(outputs(net, batch, first, precision, device)))
        progress(sum(map(len, found)))
    net.train(was)
    return np.concatenate(found)


def over_samples(dataset: Dataset, rows: np.ndarray, view: int = 0) -> Iterator[Tree]:
    """Input batches of the rows, in order."""
    for part in dataset.chunks(rows):
        yield dataset.batch(part, view)


def over_activations(cached: Activations, rows: np.ndarray) -> Iterator[Tree]:
    """Boundary batches of the rows, in order."""
    for start in range(0, len(rows), CHUNK):
        yield cached.rows(rows[start : start + CHUNK])
