"""Maximum mean discrepancy of the features of both domains (deep adaptation networks; Long et al., 2015)."""

from __future__ import annotations

import torch

from acclimate.core.tree import Tree
from acclimate.objectives.adapting import Adapting, Seen

NARROW, KERNELS = 0.25, 5
"""Width of the narrowest kernel, as a multiple of the median squared distance of the pooled batch, which no gradient flows through; how
many there are, each twice as wide as the one before."""


class Mmd(Adapting):
    """The biased V-statistic with the mean of Gaussian kernels, which is never negative; batches may be of unequal size."""

    together = 512  # every sample is compared with every other

    def apart(self, ours: Seen, theirs: Seen, targets: Tree) -> torch.Tensor:
        return discrepancy(kernels(torch.cat([ours.features, theirs.features])), len(ours.features))


def kernels(features: torch.Tensor, narrow: float = NARROW, count: int = KERNELS) -> torch.Tensor:
    """[n, n]: mean over the widths of exp(-d^2 / (width * median))."""
    distances = squares(features)
    pairs = torch.triu(torch.ones_like(distances, dtype=torch.bool), diagonal=1)
    middle = distances.detach()[pairs].quantile(0.5) if pairs.any() else distances.new_ones(())
    kernel = torch.exp(-distances / (2 ** (count - 1) * narrow * middle.clamp_min(1e-12)))
    whole = kernel
    for _ in range(count - 1):
        kernel = kernel.square()  # of half the width, at a fraction of the time that exp takes
        whole = whole + kernel
    return whole / count


def squares(rows: torch.Tensor) -> torch.Tensor:
    """[n, n]: squared distances."""
    rows = rows - rows.mean(dim=0).detach()  # large norms would cancel
    norms = rows.square().sum(dim=1)
    return (norms[:, None] + norms[None, :] - 2 * rows @ rows.T).clamp_min(0)


def discrepancy(kernel: torch.Tensor, first: int) -> torch.Tensor:
    """Mean within the `first` rows, plus mean within the others, less twice the mean between."""
    return kernel[:first, :first].mean() + kernel[first:, first:].mean() - 2 * kernel[:first, first:].mean()
