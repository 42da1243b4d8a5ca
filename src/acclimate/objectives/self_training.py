"""Self-training: the target's surest answers of each class are learned, with thresholds that no class is left out by."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from acclimate.core.tree import Tree
from acclimate.objectives.adapting import TINY, Adapting, Seen

THRESHOLD = 0.9
"""Of the class that is learned best; others have that share of it that their own mean sureness has (Zhang et al., 2021)."""
SLOW = 0.9
"""Of the running means."""
WAIT = 0.1
"""Share of the steps before any answer is believed."""


class SelfTraining(Adapting):
    """Cross-entropy to the answers whose probability, once brought to equal class shares, is above their class's threshold; mean over
    the whole batch (FixMatch; Sohn et al., 2020, without a second view: features are as they are)."""

    def ready(self, net: Any, features: torch.Tensor, outputs: torch.Tensor) -> None:
        classes = outputs.shape[1]
        for name in ("sure", "share"):
            self.modules.register_buffer(name, torch.full((classes,), 1 / classes, device=outputs.device))

    def apart(self, ours: Seen, theirs: Seen, targets: Tree) -> torch.Tensor:
        made: Any = self.modules
        with torch.no_grad():
            made.share.lerp_(theirs.chances.mean(dim=0), 1 - SLOW)
            even = theirs.chances / made.share.clamp_min(TINY)
            sure, answers = (even / even.sum(dim=1, keepdim=True)).max(dim=1)
            hot = F.one_hot(answers, len(made.sure)).to(sure)
            there = hot.sum(dim=0) > 0
            means = (hot * sure[:, None]).sum(dim=0) / hot.sum(dim=0).clamp_min(1)
            made.sure.copy_(torch.where(there, made.sure.lerp(means, 1 - SLOW), made.sure))
            threshold = THRESHOLD * made.sure / made.sure.max()
            believed = (sure >= threshold[answers]) & (self.progress >= WAIT)
        losses = F.nll_loss(theirs.chances.clamp_min(TINY).log(), answers, reduction="none")
        return (losses * believed).mean()
