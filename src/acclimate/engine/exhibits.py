"""`exhibits`: samples of a data set as a person is shown them, with what the model's answers rest on."""

from __future__ import annotations

import numpy as np
import torch

from acclimate.data.table import Raw, Table
from acclimate.engine.attribution import evidence
from acclimate.engine.dataset import Dataset
from acclimate.engine.saved import Saved
from acclimate.tasks.exhibit import Exhibit


def exhibits(
    saved: Saved, dataset: Dataset, rows: np.ndarray, predictions: np.ndarray, device: torch.device
) -> list[Exhibit]:
    """One for each row, in order. `rows`: int64 [n]; `predictions`: of these rows, one row a sample. Memory holds a few samples at a time
    beside what is returned."""
    grounds = evidence(saved.net, saved.task, dataset, rows, predictions, device)
    targets = dataset.targets[rows] if dataset.labelled else [None] * len(rows)
    return [
        saved.task.exhibit(
            dataset.table.place(int(row)), raw(dataset.table, int(row)), dataset.inputs, prediction, target, ground
        )
        for row, prediction, target, ground in zip(rows, predictions, targets, grounds, strict=True)
    ]


def raw(table: Table, row: int) -> Raw:
    """Nothing where the file has gone since it was read."""
    try:
        return table.raw(row)
    except OSError:
        return b""
