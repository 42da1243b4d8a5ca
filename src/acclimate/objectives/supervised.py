"""The supervised objective: the task's own loss over one stream of labelled batches."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from acclimate.objectives.objective import Judge


class Supervised:
    """The loss of `task`; objectives with a part of their own build on it."""

    passes, noisy, strong, judges, streams = 1.0, False, False, True, 1
    progress = 0.0
    shares: tuple[float, ...] = ()

    def __init__(self, task: Judge, strength: float = 1.0) -> None:
        self.task = task
        self.strength = strength
        self.modules = nn.Module()

    def ready(self, net: Any, features: torch.Tensor, outputs: torch.Tensor) -> None:
        """There is nothing to make."""

    def __call__(self, net: Any, first: int, *batches: Any) -> tuple[torch.Tensor, int]:
        (batch,) = batches
        return self.task.loss(net(batch.inputs, first, batch.targets), batch.targets)
