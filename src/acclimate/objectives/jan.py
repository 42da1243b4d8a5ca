"""Joint discrepancy of features and predictions (joint adaptation networks; Long et al., 2017)."""

from __future__ import annotations

import torch

from acclimate.core.tree import Tree
from acclimate.objectives.adapting import Adapting, Seen
from acclimate.objectives.mmd import discrepancy, kernels, squares

WIDTH = 2 * 0.92**2
"""Of the kernel of predictions: a standard deviation of 0.92, as published; a median would be 0 where all are sure."""


class Jan(Adapting):
    """As `Mmd`, with the product of the kernels of features and of probabilities: classes are brought together with their own."""

    together = 512

    def apart(self, ours: Seen, theirs: Seen, targets: Tree) -> torch.Tensor:
        chances = torch.cat([ours.chances, theirs.chances])
        alike = torch.exp(-squares(chances) / WIDTH)
        return discrepancy(kernels(torch.cat([ours.features, theirs.features])) * alike, len(ours.features))
