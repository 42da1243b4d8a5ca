"""`LinearHead`: a linear map of pooled features."""

from __future__ import annotations

import torch
from torch import nn

from acclimate.core.tree import Tree


class LinearHead(nn.Module):
    """`linear(dropout(pool(features)))`: features to outputs [B, outputs]."""

    def __init__(self, width: int, outputs: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(width, outputs)

    @classmethod
    def of(cls, features: torch.Tensor, outputs: int, dropout: float = 0.0) -> LinearHead:
        """A fresh head for features shaped like this example batch."""
        return cls(cls.pool(features).shape[1], outputs, dropout)

    @staticmethod
    def pool(features: torch.Tensor) -> torch.Tensor:
        """[B, D] as it is; the mean over positions of a map [B, D, H, W] or of tokens [B, T, D]: always [B, D]."""
        if features.ndim == 2:
            return features
        return features.mean(dim=1) if features.ndim == 3 else features.flatten(2).mean(dim=2)

    readings = ("features",)
    """What may be read of the features; the solver chooses (`ReadHead` has several)."""
    reading = "features"
    """What is read."""

    @classmethod
    def read(cls, features: torch.Tensor, reading: str) -> torch.Tensor:
        """float32 [B, D]."""
        return cls.pool(features).float()

    def pooled(self, features: torch.Tensor) -> torch.Tensor:
        """[B, D]: what the linear map is of."""
        return self.pool(features)

    @torch.no_grad()
    def take(
        self, reading: str, weight: torch.Tensor, bias: torch.Tensor, mean: torch.Tensor, spread: torch.Tensor
    ) -> None:
        """From now on weight [outputs, D] and bias [outputs] of features less `mean`, by `spread`, both [D]."""
        raw = weight / spread
        self.linear.weight.copy_(raw)
        self.linear.bias.copy_(bias - raw @ mean)

    @torch.no_grad()
    def move(self, matrix: torch.Tensor, offset: torch.Tensor) -> None:
        """From now on the outputs of pooled + pooled @ matrix + offset; matrix [D, D], offset [D]."""
        weight = self.linear.weight.clone()
        self.linear.weight.add_(weight @ matrix.T)
        self.linear.bias.add_(weight @ offset)

    def outputs(self, pooled: torch.Tensor) -> torch.Tensor:
        """[B, outputs]: the linear map of what `pooled` gives."""
        return self.linear(self.dropout(pooled))

    def forward(self, features: torch.Tensor, targets: Tree | None = None) -> torch.Tensor:
        return self.outputs(self.pooled(features))
