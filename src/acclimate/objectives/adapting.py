"""What objectives of two streams share: the loss of the labelled source, and a part of their own that reads the unlabelled target."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd import Function

from acclimate.core.tree import Tree
from acclimate.objectives.supervised import Supervised

TINY = 1e-8


@dataclass(frozen=True)
class Seen:
    """One domain in one step: `features` float32 [B, D], what the head's linear map is of; `chances` float32 [B, K]; `outputs`."""

    features: torch.Tensor
    outputs: Tree
    chances: torch.Tensor


class Adapting(Supervised):
    """loss of the source + `strength` * `apart` of both domains, which is a mean over samples.

    Both go through the network one after the other, so that no batch norm sees them together: with "frozen" norms both use the
    statistics that are there, with "batch" norms each its own. What is `apart` of a micro-batch is that of its samples alone: where
    memory makes it smaller, fewer are compared.
    """

    passes, strong, streams = 2.0, True, 2
    together = 1024
    """Samples of each side in a step on cached features: statistics of a whole data set are better the more of it they see."""
    shared = False
    """Whether it reads the class shares of the target, where they are declared."""
    shares: tuple[float, ...] = ()
    """Of the classes in the target, where they were declared; else what is `shared` takes them to be equal."""

    def __call__(self, net: Any, first: int, *batches: Any) -> tuple[torch.Tensor, int]:
        source, target = batches
        ours = self.seen(net, source, first)
        loss, count = self.task.loss(ours.outputs, source.targets)
        theirs = self.seen(net, target, first)
        return loss + self.strength * count * self.apart(ours, theirs, source.targets), count

    def seen(self, net: Any, batch: Any, first: int) -> Seen:
        features = net.head.pooled(net.features(batch.inputs, first)).float()
        outputs = net.head.outputs(features)
        return Seen(features, outputs, self.task.chances(outputs.float()))

    @abstractmethod
    def apart(self, ours: Seen, theirs: Seen, targets: Tree) -> torch.Tensor:
        """What is to become small, beside the loss; `targets`: of the source."""


class Reversed(Function):
    """The same forward; backward the gradient times -`share` (Ganin et al., 2016): what follows learns to tell, what comes before to
    hide."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, share: float) -> torch.Tensor:
        ctx.share = share
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        return -ctx.share * grad, None


def entropy(chances: torch.Tensor) -> torch.Tensor:
    """float [B]: of each row, in nats."""
    return -(chances * chances.clamp_min(TINY).log()).sum(dim=1)
