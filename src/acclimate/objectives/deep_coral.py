"""Deep CORAL: the covariances of the features of both domains become alike (Sun and Saenko, 2016)."""

from __future__ import annotations

import torch

from acclimate.core.tree import Tree
from acclimate.objectives.adapting import Adapting, Seen


class DeepCoral(Adapting):
    """|C_s - C_t|_F^2 / 4 D^2, as a share of what it was in the first batch: the published scale depends on that of the features, and
    one that followed the current covariance would be made small by collapse."""

    together = 512  # whole covariances are made in every step

    def ready(self, net: object, features: torch.Tensor, outputs: torch.Tensor) -> None:
        self.modules.register_buffer("first", torch.zeros((), device=features.device))

    def apart(self, ours: Seen, theirs: Seen, targets: Tree) -> torch.Tensor:
        value = distance(ours.features, theirs.features)
        first: torch.Tensor = self.modules.first  # type: ignore[assignment]
        if not bool(first):
            first.copy_(value.detach())
        return value / first.clamp_min(1e-12)


def distance(ours: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
    """Of the covariances (n - 1) of [n, D] and [m, D]."""
    return (torch.cov(ours.T) - torch.cov(theirs.T)).square().sum() / (4 * ours.shape[1] ** 2)
