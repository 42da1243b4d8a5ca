"""What an objective is: a sum of losses over the batches of its streams, with the modules that only training needs."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import nn


class Objective(Protocol):
    modules: nn.Module
    """What only training needs (a discriminator, say); its parameters are trained and checkpointed, never saved with the model."""

    def __call__(self, net: nn.Module, first: int, *batches: Any) -> tuple[torch.Tensor, int]:
        """(sum of the losses, number of targets in it) of one micro-batch a stream, read from boundary `first`."""
        ...
