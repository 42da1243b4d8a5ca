"""What of a sample an answer rests on: integrated gradients at a boundary where parts of the sample have still places of their own."""

from __future__ import annotations

import numpy as np
import torch

from acclimate.core.tree import Tree, leaves, map_tree, rebuild, structure
from acclimate.engine.dataset import Dataset, parts
from acclimate.engine.precision import undisturbed
from acclimate.models.backbone import Net
from acclimate.tasks.task import Inputs, Task

POINTS = 4
"""Points between blank samples and this one at which gradients are taken, on the ways from all of them together."""
TOGETHER = 16
"""Samples in a batch, at most."""


def evidence(
    net: Net, task: Task, dataset: Dataset, rows: np.ndarray, predictions: np.ndarray, device: torch.device
) -> list[np.ndarray | None]:
    """Of each row what its parts add to the log-odds of the answer, as `Inputs.evidence` gives it; None where that cannot be asked.

    `predictions`: of the rows, one row a sample. Integrated gradients (Sundararajan et al. 2017) from one or several blank samples
    (Erion et al. 2021) to this one, not over the input but over what flows into a stage: for pictures the last maps that are fine
    enough, which makes it HiResCAM (Draelos and Carin 2020) averaged over a path, for texts the embedded tokens. All in fp32
    and eval mode; the net is left exactly as it was.
    """
    found: list[np.ndarray | None] = [None] * len(rows)
    order = np.argsort(dataset.costs[rows], kind="stable")
    with undisturbed(net):
        boundary = None
        for part in parts(dataset.costs[rows][order], TOGETHER):
            places = order[part]
            batch = map_tree(lambda leaf: leaf.to(device), dataset.batch(rows[places]))
            if boundary is None:
                boundary = ground(net, task, dataset.inputs, batch, predictions[places])
            if boundary is None:
                return found
            made = _at(net, task, dataset.inputs, batch, predictions[places], boundary)
            for place, one in zip(places, made or (), strict=made is not None):
                found[place] = one
    return found


def ground(net: Net, task: Task, inputs: Inputs, batch: Tree, predictions: np.ndarray) -> int | None:
    """The first boundary that has places for parts of the sample."""
    few = map_tree(lambda leaf: leaf[:1], batch)
    asked = inputs.grounds(len(net.backbone.stages))
    return next((k for k in asked if _at(net, task, inputs, few, predictions[:1], k) is not None), None)


def _at(
    net: Net, task: Task, inputs: Inputs, batch: Tree, predictions: np.ndarray, boundary: int
) -> list[np.ndarray] | None:
    blanks = inputs.blanks(batch)
    with torch.no_grad():
        end, *begins = (net.backbone.run(state, 0, boundary) for state in (batch, *blanks))
    form, here = structure(end), leaves(end)
    moved = [i for i, leaf in enumerate(here) if leaf.is_floating_point()]
    shares = [torch.zeros_like(leaf) if i in moved else leaf for i, leaf in enumerate(here)]
    steps = max(1, POINTS // len(begins))
    for begin in map(leaves, begins):
        for step in range(steps):
            state = list(here)
            for i in moved:
                state[i] = torch.lerp(begin[i], here[i], (step + 0.5) / steps).requires_grad_()
            sure = task.certainty(net(rebuild(form, state), boundary), predictions)
            slopes = torch.autograd.grad(sure.sum(), [state[i] for i in moved], allow_unused=True)
            for i, slope in zip(moved, slopes, strict=True):
                if slope is not None:
                    shares[i] += slope * (here[i] - begin[i]) / (steps * len(begins))
    return inputs.evidence(rebuild(form, shares))
