"""Supervised contrastive learning: samples of one class come together, those of others part (Khosla et al., 2020)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from acclimate.objectives.supervised import Supervised

TEMPERATURE = 0.1


class Contrastive(Supervised):
    """Of each sample the mean over those alike of -log softmax(cosine / TEMPERATURE) over all others of the batch, on what the
    head reads of the features; the head itself does not learn.

    A sample that has none like it in the batch has no loss and does not count. Pairs are those of a micro-batch: where memory
    makes it smaller, the contrast is with fewer samples.
    """

    judges = False

    def __call__(self, net: Any, first: int, *batches: Any) -> tuple[torch.Tensor, int]:
        (batch,) = batches
        features = F.normalize(net.head.pooled(net.features(batch.inputs, first)).float(), dim=1)
        return contrast(features, self.task.alike(batch.targets))


def contrast(features: torch.Tensor, alike: torch.Tensor) -> tuple[torch.Tensor, int]:
    """(sum, number) of the losses of normalised `features` [B, D]; `alike` float [B, B]: how much two samples belong together."""
    itself = torch.eye(len(features), dtype=torch.bool, device=features.device)
    cosine = (features @ features.T / TEMPERATURE).masked_fill(itself, float("-inf"))
    chances = cosine.log_softmax(dim=1).masked_fill(itself, 0.0)
    alike = alike.to(features).masked_fill(itself, 0.0)
    share = alike.sum(dim=1)
    losses = -(alike * chances).sum(dim=1) / share.clamp_min(1e-12)
    return losses.sum(), int((share > 0).sum())
