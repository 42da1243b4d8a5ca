"""CDAN+E: the discriminator sees features and predictions together, sure samples count for more (Long et al., 2018)."""

from __future__ import annotations

from typing import Any

import torch

from acclimate.core.tree import Tree
from acclimate.objectives.adapting import Adapting, Seen, entropy
from acclimate.objectives.dann import discriminator, rising, told

LARGEST, WIDTH = 4096, 1024
"""Numbers of the product of features and predictions up to which it is taken whole, and else random products of so many."""


class Cdan(Adapting):
    """As `Dann`, on the outer product of features and probabilities, the latter without gradient; each sample weighs 1 + exp(-H) of its
    probabilities, normalised within its domain."""

    together = 512

    def ready(self, net: Any, features: torch.Tensor, outputs: torch.Tensor) -> None:
        wide, classes = features.shape[1], outputs.shape[1]
        whole = wide * classes <= LARGEST
        if not whole:
            self.modules.register_buffer("of_features", torch.randn(wide, WIDTH) / WIDTH**0.25)
            self.modules.register_buffer("of_chances", torch.randn(classes, WIDTH) / WIDTH**0.25)
        self.modules.add_module("discriminator", discriminator(wide * classes if whole else WIDTH))

    def apart(self, ours: Seen, theirs: Seen, targets: Tree) -> torch.Tensor:
        joined = [self.joined(side.features, side.chances.detach()) for side in (ours, theirs)]
        first, second = (sureness(side.chances.detach()) for side in (ours, theirs))
        return told(self.modules.discriminator, joined[0], joined[1], rising(self.progress), (first, second))

    def joined(self, features: torch.Tensor, chances: torch.Tensor) -> torch.Tensor:
        """[B, F K], or products of random projections of both [B, WIDTH]."""
        made: Any = self.modules
        if hasattr(made, "of_features"):
            return (features @ made.of_features) * (chances @ made.of_chances)
        return (chances[:, :, None] * features[:, None, :]).flatten(1)


def sureness(chances: torch.Tensor) -> torch.Tensor:
    """float [B], mean 1: 1 + exp(-entropy)."""
    weights = 1 + torch.exp(-entropy(chances))
    return weights / weights.mean()
