"""Predictions over a split, streamed in fixed batches so that the same samples always share a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch

from acclimate.core.tree import Tree
from acclimate.engine.activations import Activations
from acclimate.engine.dataset import Dataset
from acclimate.engine.precision import Precision
from acclimate.models.backbone import Net
from acclimate.tasks.task import Task

Placed = tuple[np.ndarray, Tree]
"""A batch, and the places of its samples among the rows that were asked for."""


@torch.inference_mode()
def outputs(net: Net, inputs: Tree, first: int, precision: Precision, device: torch.device) -> Tree:
    """The outputs of one batch in eval mode; the caller keeps the mode of the net."""
    with precision.inference(net):
        return net(precision.move(inputs, device), first)


def predict(
    net: Net,
    task: Task,
    batches: Iterator[Placed],
    precision: Precision,
    device: torch.device,
    first: int = 0,
    progress: Callable[[int], None] = lambda done: None,
) -> np.ndarray:
    """Predictions of all batches, one row a sample, in the order of the rows; only predictions are kept."""
    was = net.training
    net.eval()
    found, places = [], []
    for place, batch in batches:
        found.append(task.predictions(outputs(net, batch, first, precision, device)))
        places.append(place)
        progress(sum(map(len, found)))
    net.train(was)
    return np.concatenate(found)[np.argsort(np.concatenate(places))]


def over_samples(dataset: Dataset, rows: np.ndarray) -> Iterator[Placed]:
    """Input batches of the rows."""
    for places in dataset.chunks(rows):
        yield places, dataset.batch(rows[places])


def over_activations(dataset: Dataset, cached: Activations, rows: np.ndarray) -> Iterator[Placed]:
    """Boundary batches of the rows."""
    for places in dataset.chunks(rows):
        yield places, cached.rows(rows[places])
