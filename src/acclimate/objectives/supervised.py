"""The supervised objective: the task's own loss over one stream of labelled batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from acclimate.core.tree import Tree

Loss = Callable[[Tree, Tree], tuple[torch.Tensor, int]]


class Supervised:
    """`loss`: (outputs, targets) -> (sum, number of targets), as `Task.loss`."""

    def __init__(self, loss: Loss) -> None:
        self.loss = loss
        self.modules = nn.Module()

    def __call__(self, net: nn.Module, first: int, *batches: Any) -> tuple[torch.Tensor, int]:
        (batch,) = batches
        return self.loss(net(batch.inputs, first), batch.targets)
