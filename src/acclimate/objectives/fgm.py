"""FGM: learn from each sample as it is, and moved a little in the direction that raises its loss most (Miyato et al., 2017)."""

from __future__ import annotations

from typing import Any

import torch

from acclimate.core.tree import Tree, leaves, map_tree, rebuild, structure
from acclimate.objectives.supervised import Supervised

EMBEDDED = 1
"""The boundary behind a network's embeddings, or its first stage: what flows there can be moved, words cannot."""


class Fgm(Supervised):
    """(loss(x) + loss(x + r)) / 2, with r = strength * g / |g| of each sample and g the gradient of its loss.

    x: what flows into the second stage, or at the cached boundary that the phase reads. Half each, so that rates keep their
    meaning; the norm is over all of a sample's tokens or places.
    """

    passes, strong = 2.3, True

    def __call__(self, net: Any, first: int, *batches: Any) -> tuple[torch.Tensor, int]:
        (batch,) = batches
        at = max(first, min(EMBEDDED, len(net.backbone.stages)))
        state = map_tree(_followed, net.backbone.run(batch.inputs, first, at))
        loss, count = self.task.loss(net(state, at, batch.targets), batch.targets)
        worse, _ = self.task.loss(net(self._moved(state, loss), at, batch.targets), batch.targets)
        return (loss + worse) / 2, count

    def _moved(self, state: Tree, loss: torch.Tensor) -> Tree:
        found = [leaf for leaf in leaves(state) if leaf.is_floating_point()]
        slopes = torch.autograd.grad(loss, found, retain_graph=True, allow_unused=True)
        known = [
            (slope if slope is not None else torch.zeros_like(leaf)).float()
            for leaf, slope in zip(found, slopes, strict=True)
        ]
        norms = torch.stack([slope.flatten(1).square().sum(1) for slope in known]).sum(0).sqrt().clamp_min(1e-12)
        steps = iter([self.strength * slope / norms.view(-1, *[1] * (slope.ndim - 1)) for slope in known])
        moved = [leaf + next(steps).to(leaf.dtype) if leaf.is_floating_point() else leaf for leaf in leaves(state)]
        return rebuild(structure(state), moved)


def _followed(leaf: torch.Tensor) -> torch.Tensor:
    """The leaf as one whose gradient can be asked for."""
    return leaf if leaf.requires_grad or not leaf.is_floating_point() else leaf.detach().requires_grad_()
