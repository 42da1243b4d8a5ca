"""DANN: a discriminator learns to tell the domains apart, and the features to hide it (Ganin et al., 2016)."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from acclimate.core.tree import Tree
from acclimate.objectives.adapting import Adapting, Reversed, Seen

WIDTH = 256
"""Of the discriminator's two layers."""


def rising(progress: float) -> float:
    """How strongly gradients are reversed: 2 / (1 + exp(-10 p)) - 1 over the progress of the phase, however many steps it has."""
    return 2 / (1 + math.exp(-10 * progress)) - 1


class Dann(Adapting):
    """Binary cross-entropy of the discriminator's logit, its gradient reversed for the features by `rising`."""

    def ready(self, net: Any, features: torch.Tensor, outputs: torch.Tensor) -> None:
        self.modules.add_module("discriminator", discriminator(features.shape[1]))

    def apart(self, ours: Seen, theirs: Seen, targets: Tree) -> torch.Tensor:
        return told(self.modules.discriminator, ours.features, theirs.features, rising(self.progress))


def discriminator(width: int) -> nn.Module:
    """[B, width] -> a logit [B, 1]; layer norm in front, for features come in any scale."""
    layers = (nn.LayerNorm(width), nn.Linear(width, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU())
    return nn.Sequential(*layers, nn.Linear(WIDTH, 1))


def told(
    discriminator: Any,
    ours: torch.Tensor,
    theirs: torch.Tensor,
    share: float,
    weights: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> torch.Tensor:
    """Cross-entropy of telling the domains apart, half from each; `weights`: [B] of each side, mean 1."""
    parts = []
    for number, side in enumerate((ours, theirs)):
        logits = discriminator(Reversed.apply(side, share)).flatten()
        losses = F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, number), reduction="none")
        parts.append((losses if weights is None else losses * weights[number]).mean())
    return (parts[0] + parts[1]) / 2
