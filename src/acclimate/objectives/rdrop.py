"""R-Drop: two passes of a batch with different dropout, which must agree (Liang et al., 2021)."""

from __future__ import annotations

from typing import Any

import torch

from acclimate.objectives.supervised import Supervised


class RDrop(Supervised):
    """(loss_1 + loss_2) / 2 + strength * (KL(p_1 | p_2) + KL(p_2 | p_1)) / 2 of each sample, summed over the samples.

    `strength` is the paper's alpha in this form; the authors' own code differs from it, and in itself, in halves and sums.
    """

    passes, noisy, strong = 2.0, True, True

    def __call__(self, net: Any, first: int, *batches: Any) -> tuple[torch.Tensor, int]:
        (batch,) = batches
        one, other = net(batch.inputs, first, batch.targets), net(batch.inputs, first, batch.targets)
        loss, count = self.task.loss(one, batch.targets)
        again, _ = self.task.loss(other, batch.targets)
        return (loss + again) / 2 + self.strength * self.task.divergence(one, other), count
