"""Margin disparity discrepancy: a second classifier disagrees on the target, and the features leave it no room (Zhang et al., 2019)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from acclimate.core.tree import Tree
from acclimate.objectives.adapting import TINY, Adapting, Reversed, Seen
from acclimate.objectives.dann import rising

MARGIN = 4.0
"""gamma: how much more its agreement on the source counts."""
LARGEST = 0.1
"""Of the reversed gradient."""


class Mdd(Adapting):
    """The second classifier, on reversed features, agrees with the first on the source (cross-entropy, times `MARGIN`) and not on the
    target (-log(1 - p) of the first's answer)."""

    def ready(self, net: Any, features: torch.Tensor, outputs: torch.Tensor) -> None:
        wide = features.shape[1]
        self.modules.add_module("second", nn.Sequential(nn.LayerNorm(wide), nn.Linear(wide, outputs.shape[1])))

    def apart(self, ours: Seen, theirs: Seen, targets: Tree) -> torch.Tensor:
        share = LARGEST * rising(self.progress)
        second: Any = self.modules.second
        agreeing, other = (second(Reversed.apply(side.features, share)).softmax(dim=1) for side in (ours, theirs))
        same = _of(agreeing, ours.chances).clamp_min(TINY).log().mean()
        different = (1 - _of(other, theirs.chances)).clamp_min(TINY).log().mean()
        return -MARGIN * same - different


def _of(chances: torch.Tensor, answers: torch.Tensor) -> torch.Tensor:
    """[B]: the probabilities of what is likeliest by `answers`."""
    return chances.gather(1, answers.argmax(dim=1, keepdim=True)).flatten()
