"""`ReadHead`: a linear map of some of the pooled states that a language model gives."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from acclimate.core.tree import Tree
from acclimate.models.language import POOLED, READ

EDGE, MEAN, MAX = range(len(POOLED))
DEFAULT = "mean"


def _columns(depth: int, *pooled: int) -> tuple[int, ...]:
    """Places among the features of these poolings of the last `depth` blocks."""
    return tuple(block * len(POOLED) + one for block in range(depth) for one in pooled)


READINGS = {
    "mean": _columns(1, MEAN),
    "edge": _columns(1, EDGE),
    "mean of 2 blocks": _columns(2, MEAN),
    "mean of 4 blocks": _columns(READ, MEAN),
    "edge of 4 blocks": _columns(READ, EDGE),
    "edge, mean and max": _columns(1, EDGE, MEAN, MAX),
    "edge, mean and max of 4 blocks": _columns(READ, EDGE, MEAN, MAX),
}
"""What a head may read, simplest first: one pooling or several joined, of the last block or the last few joined."""


SPREAD = 0.35
"""What the spread of each feature is made: about that of BERTs as they come, with which the rates of texts were measured."""


class ReadHead(nn.Module):
    """`features` [B, places, D] (see `models.language.cut`) to outputs [B, outputs], from the places in `reads` alone.

    The weight has columns for all places, so that its shape does not depend on what is read. Its columns are of features with the mean
    and spread of those that it was fitted to taken out, since those of a decoder spread from 1 to 1,000 and no rate suits them all.
    """

    reads: torch.Tensor
    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, places: int, width: int, outputs: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.width = width
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(places * width, outputs)
        self.register_buffer("reads", torch.zeros(places, dtype=torch.bool))
        self.reads[list(READINGS[DEFAULT])] = True
        self.register_buffer("mean", torch.zeros(places, width))
        self.register_buffer("scale", torch.ones(places, width))

    @classmethod
    def of(cls, features: torch.Tensor, outputs: int) -> ReadHead:
        """A fresh head for features shaped like this example batch."""
        return cls(features.shape[1], features.shape[2], outputs)

    @property
    def readings(self) -> list[str]:
        """What may be read, of as many blocks as there are; simplest first."""
        return [name for name, places in READINGS.items() if max(places) < len(self.reads)]

    @property
    def reading(self) -> str:
        """What is read."""
        places = tuple(self.reads.nonzero().flatten().tolist())
        return next(name for name, own in READINGS.items() if tuple(sorted(own)) == places)

    @staticmethod
    def read(features: torch.Tensor, reading: str) -> torch.Tensor:
        """float32 [B, D']: the features that a reading takes."""
        return features[:, list(READINGS[reading])].flatten(1).float()

    def pooled(self, features: torch.Tensor) -> torch.Tensor:
        """float32 [B, D']: what the linear map is of."""
        places = self.reads.nonzero().flatten()
        return ((features[:, places].float() - self.mean[places]) * self.scale[places]).flatten(1)

    @torch.no_grad()
    def take(
        self, reading: str, weight: torch.Tensor, bias: torch.Tensor, mean: torch.Tensor, spread: torch.Tensor
    ) -> None:
        """Read so from now on, with weight [outputs, D'] and bias [outputs] of features less `mean`, by `spread`, both [D']."""
        places = list(READINGS[reading])
        self.reads.zero_()
        self.reads[places] = True
        own = self.linear.weight.view(len(weight), len(self.reads), self.width)
        own.zero_()
        own[:, places] = weight.view(len(weight), len(places), self.width) / SPREAD
        self.mean[places] = mean.view(len(places), self.width)
        self.scale[places] = SPREAD / spread.view(len(places), self.width)
        self.linear.bias.copy_(bias)

    @torch.no_grad()
    def move(self, matrix: torch.Tensor, offset: torch.Tensor) -> None:
        """From now on the outputs of pooled + pooled @ matrix + offset; matrix [D', D'], offset [D']."""
        places, weight = self.reads.nonzero().flatten(), self._weight.clone()
        own = self.linear.weight.view(len(weight), len(self.reads), self.width)
        own[:, places] = (weight + weight @ matrix.T).view(len(weight), len(places), self.width)
        self.linear.bias.add_(weight @ offset)

    @property
    def _weight(self) -> torch.Tensor:
        """[outputs, D']: the columns of what is read."""
        places = self.reads.nonzero().flatten()
        return self.linear.weight.view(-1, len(self.reads), self.width)[:, places].flatten(1)

    def outputs(self, pooled: torch.Tensor) -> torch.Tensor:
        """[B, outputs]: the linear map of what `pooled` gives."""
        return F.linear(self.dropout(pooled), self._weight, self.linear.bias)

    def forward(self, features: torch.Tensor, targets: Tree | None = None) -> torch.Tensor:
        return self.outputs(self.pooled(features))
