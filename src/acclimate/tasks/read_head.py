"""`ReadHead`: a linear map of some of the pooled states that a language model gives."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

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


class ReadHead(nn.Module):
    """`features` [B, places, D] (see `models.language.cut`) to outputs [B, outputs], from the places in `reads` alone.

    The weight has columns for all places, so that its shape does not depend on what is read.
    """

    reads: torch.Tensor

    def __init__(self, places: int, width: int, outputs: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.width = width
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(places * width, outputs)
        self.register_buffer("reads", torch.zeros(places, dtype=torch.bool))
        self.reads[list(READINGS[DEFAULT])] = True

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
        """[B, D']: what the linear map is of."""
        return features[:, self.reads.nonzero().flatten()].flatten(1)

    @torch.no_grad()
    def take(self, reading: str, weight: torch.Tensor, bias: torch.Tensor) -> None:
        """Read so from now on, with this weight [outputs, D'] and bias [outputs]."""
        places = list(READINGS[reading])
        self.reads.zero_()
        self.reads[places] = True
        own = self.linear.weight.view(len(weight), len(self.reads), self.width)
        own.zero_()
        own[:, places] = weight.view(len(weight), len(places), self.width)
        self.linear.bias.copy_(bias)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        places = self.reads.nonzero().flatten()
        weight = self.linear.weight.view(-1, len(self.reads), self.width)[:, places].flatten(1)
        return F.linear(self.dropout(self.pooled(features)), weight, self.linear.bias)
