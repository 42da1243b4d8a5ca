"""A bridge: a residual linear map of low rank between features and head, which learns in the head's place and is folded into it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from acclimate.alignments.space import Space
from acclimate.core.seeds import torch_seeded
from acclimate.core.tree import Tree
from acclimate.engine.phase import Phase
from acclimate.engine.precision import forget
from acclimate.models.backbone import Net


class Bridge(nn.Module):
    """A head on moved features: with u the place of pooled features x in a space, x + (u @ down @ up) back from the space.

    At first `up` is 0 and nothing is moved. The head itself stays as it is. `down` [k, rank], `up` [rank, k].
    """

    down: nn.Parameter
    up: nn.Parameter
    into: torch.Tensor
    offset: torch.Tensor
    back: torch.Tensor

    def __init__(self, head: Any, space: Space, rank: int) -> None:
        super().__init__()
        self.held = (head,)  # in a tuple, so that its parameters are none of ours
        k = space.matrix.shape[1]
        self.down = nn.Parameter(torch.randn(k, rank) / k**0.5)
        self.up = nn.Parameter(torch.zeros(rank, k))
        self.register_buffer("into", torch.from_numpy(space.matrix).float())
        self.register_buffer("offset", torch.from_numpy(-space.centre @ space.matrix).float())
        self.register_buffer("back", torch.from_numpy(np.linalg.pinv(space.matrix)).float())

    @property
    def head(self) -> Any:
        return self.held[0]

    @property
    def reads(self) -> Any:
        """Of the head, where it does not read all features."""
        return getattr(self.head, "reads", None)

    def pooled(self, features: Tree) -> torch.Tensor:
        """[B, D]: the moved features."""
        x = self.head.pooled(features).float()
        return x + (x @ self.into + self.offset) @ self.down @ self.up @ self.back

    def outputs(self, pooled: torch.Tensor) -> torch.Tensor:
        return self.head.outputs(pooled)

    def before(self, features: Tree) -> Tree:
        """The outputs on features as they came."""
        with torch.no_grad():
            return self.head.outputs(self.head.pooled(features))

    def forward(self, features: Tree, targets: Tree | None = None) -> Tree:
        return self.outputs(self.pooled(features))

    @torch.no_grad()
    def fold(self) -> None:
        """The head on moved features becomes the head."""
        moved = self.down.double() @ self.up.double() @ self.back.double()
        self.head.move((self.into.double() @ moved).float(), (self.offset.double() @ moved).float())


@contextmanager
def bridged(net: Net, phase: Phase, space: Space | None) -> Iterator[None]:
    """Inside, a phase that asks for a bridge has one in the place of the head; afterwards it is folded into the head."""
    if not phase.bridge:
        yield
        return
    assert space is not None
    head = net.head
    training = head.training
    head.eval()  # without dropout: it is to say what it said
    with torch_seeded("bridge", phase.seed):
        bridge = Bridge(head, space, phase.bridge).to(next(head.parameters()).device)
    for parameter in head.parameters():
        parameter.requires_grad_(False)
    net.head = bridge.train(net.training)
    forget(net)
    try:
        yield
        bridge.fold()
    finally:
        net.head = head.train(training).requires_grad_()
        forget(net)
