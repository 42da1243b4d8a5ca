"""Maximum mean discrepancy of the features of both domains (deep adaptation networks; Long et al., 2015)."""

from __future__ import annotations

import torch

from acclimate.core.tree import Tree
from acclimate.objectives.adapting import Adapting, Seen

WIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Of the kernels, as multiples of the median squared distance of the pooled batch, which no gradient flows through."""


class Mmd(Adapting):
    """The biased V-statistic with the mean of Gaussian kernels, which is never negative; batches may be of unequal size."""

    def apart(self, ours: Seen, theirs: Seen, targets: Tree) -> torch.Tensor:
        return discrepancy(kernels(torch.cat([ours.features, theirs.features])), len(ours.features))


def kernels(features: torch.Tensor, widths: tuple[float, ...] = WIDTHS) -> torch.Tensor:
    """[n, n]: mean over the widths of exp(-d^2 / (width * median))."""
    features = features - features.mean(dim=0).detach()  # large norms would cancel
    squares = features.square().sum(dim=1)
    distances = (squares[:, None] + squares[None, :] - 2 * features @ features.T).clamp_min(0)
    pairs = torch.triu(torch.ones_like(distances, dtype=torch.bool), diagonal=1)
    middle = distances.detach()[pairs].quantile(0.5) if pairs.any() else distances.new_ones(())
    each = [torch.exp(-distances / (width * middle.clamp_min(1e-12))) for width in widths]
    return torch.stack(each).mean(dim=0)


def discrepancy(kernel: torch.Tensor, first: int) -> torch.Tensor:
    """Mean within the `first` rows, plus mean within the others, less twice the mean between."""
    return kernel[:first, :first].mean() + kernel[first:, first:].mean() - 2 * kernel[:first, first:].mean()
