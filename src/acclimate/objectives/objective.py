"""What an objective is: a sum of losses over the batches of its streams, with the modules that only training needs."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import nn

from acclimate.core.tree import Tree


class Judge(Protocol):
    """What an objective asks of a task (`tasks.task.Task`)."""

    def loss(self, outputs: Tree, targets: Tree) -> tuple[torch.Tensor, int]: ...

    def divergence(self, outputs: Tree, others: Tree) -> torch.Tensor: ...

    def alike(self, targets: Tree) -> torch.Tensor: ...

    def chances(self, outputs: Tree) -> torch.Tensor: ...


class Objective(Protocol):
    modules: nn.Module
    """What only training needs (a discriminator, say); its parameters are trained and checkpointed, never saved with the model."""
    passes: float
    """What a step costs, as a multiple of a supervised one."""
    noisy: bool
    """Learns only where two passes of one batch differ: by dropout in what trains."""
    strong: bool
    """Has a part of its own beside the task's loss, which `strength` weighs."""
    judges: bool
    """Trains the head, so that the outcome can predict."""
    streams: int
    """How many streams of batches it reads: 1, or 2 where the second brings samples of the target, without targets of their own."""
    shares: tuple[float, ...]
    """Class shares of the target, where they were declared; set once, before `ready`."""
    progress: float
    """Share of the steps that are done, 0 to 1; the loop sets it before each."""

    def __init__(self, task: Judge, strength: float = 1.0) -> None: ...

    def ready(self, net: Any, features: torch.Tensor, outputs: torch.Tensor) -> None:
        """Make the modules that have to know widths: of features [B, D] and outputs [B, K]. Called once, before the optimizer is built."""
        ...

    def __call__(self, net: Any, first: int, *batches: Any) -> tuple[torch.Tensor, int]:
        """(sum of the losses, number of targets in it) of one micro-batch a stream, read from boundary `first`."""
        ...
