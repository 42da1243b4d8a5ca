"""SHOT: predictions on the target become sure, in the shares that are expected, around centroids of classes (Liang et al., 2020)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from acclimate.core.tree import Tree
from acclimate.objectives.adapting import TINY, Adapting, Seen, entropy

LABELLED = 0.3
"""Weight of the cross-entropy to the labels of the nearest centroids."""
ANCHOR = 1.0
"""Weight of the divergence from what the network said before: without it samples that were right drift away (docs/log.md)."""


class Shot(Adapting):
    """mean H(p) - H(mean p) + LABELLED * cross-entropy to the nearest centroid + ANCHOR * KL(p before | p), all of the target.

    The source is not read, and the classifier should stay: what learns are the features. H(mean p) leans on equal shares; with others
    declared it is the divergence from those. Centroids are those of the batch, weighed by its probabilities, labels assigned twice:
    batches must be large. KL to the network of the start keeps a copy of the classifier's answers on the features as they came.
    """

    passes, shared = 1.0, True

    def ready(self, net: Any, features: torch.Tensor, outputs: torch.Tensor) -> None:
        classes = outputs.shape[1]
        shares = torch.tensor(self.shares or [1 / classes] * classes, device=outputs.device)
        self.modules.register_buffer("shares", shares)

    def __call__(self, net: Any, first: int, *batches: Any) -> tuple[torch.Tensor, int]:
        source, target = batches
        theirs = self.seen(net, target, first)
        count = len(source.rows)
        loss = self.strength * self.apart(theirs, theirs, ())
        if hasattr(net.head, "before"):
            before = self.task.chances(net.head.before(net.features(target.inputs, first)).float()).detach()
            loss = loss + ANCHOR * divergence(before, theirs.chances)
        return count * loss, count

    def apart(self, ours: Seen, theirs: Seen, targets: Tree) -> torch.Tensor:
        mean = theirs.chances.mean(dim=0)
        shares: Any = self.modules.shares
        uneven = (mean * (mean.clamp_min(TINY) / shares.clamp_min(TINY)).log()).sum()
        labels = nearest_centroids(theirs.features.detach(), theirs.chances.detach())
        drawn = F.nll_loss(theirs.chances.clamp_min(TINY).log(), labels)
        return entropy(theirs.chances).mean() + uneven + LABELLED * drawn


def divergence(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """Mean KL(before | after) of probabilities [B, K]."""
    return (before * (before.clamp_min(TINY) / after.clamp_min(TINY)).log()).sum(dim=1).mean()


def nearest_centroids(features: torch.Tensor, chances: torch.Tensor, rounds: int = 2) -> torch.Tensor:
    """int64 [B]: the class whose centroid is nearest by cosine; centroids are means weighed by probabilities, then by the labels found.

    Features [B, D] get a 1 appended, as published.
    """
    points = F.normalize(torch.cat([features, features.new_ones(len(features), 1)], dim=1), dim=1)
    weights = chances
    labels = chances.argmax(dim=1)
    for _ in range(rounds):
        centroids = F.normalize(weights.T @ points / weights.sum(dim=0)[:, None].clamp_min(TINY), dim=1)
        known = weights.sum(dim=0) > 0
        labels = (points @ centroids.T).masked_fill(~known, -2.0).argmax(dim=1)
        weights = F.one_hot(labels, chances.shape[1]).to(points)
    return labels
