"""Minimum class confusion: predictions on the target waver between few classes (Jin et al., 2020)."""

from __future__ import annotations

import torch

from acclimate.core.tree import Tree
from acclimate.objectives.adapting import TINY, Adapting, Seen, entropy

TEMPERATURE = 2.5


class Mcc(Adapting):
    """`confusion` of the target's probabilities at `TEMPERATURE`."""

    def apart(self, ours: Seen, theirs: Seen, targets: Tree) -> torch.Tensor:
        cooled = theirs.chances.clamp_min(TINY) ** (1 / TEMPERATURE)
        return confusion(cooled / cooled.sum(dim=1, keepdim=True))


def confusion(chances: torch.Tensor) -> torch.Tensor:
    """How much classes [B, K] go together, sure samples weighing more: off-diagonal share of the row-normalised p' w p, mean of rows."""
    weights = 1 + torch.exp(-entropy(chances))
    weights = weights * len(chances) / weights.sum()
    together = (chances * weights[:, None]).T @ chances
    together = together / together.sum(dim=1, keepdim=True).clamp_min(TINY)
    return (together.sum() - together.trace()) / chances.shape[1]
