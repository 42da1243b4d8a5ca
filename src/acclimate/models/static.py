"""Static token vectors: a table with one vector a token, whatever stands beside it, cut into its one stage."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn

from acclimate.core.tree import Tree
from acclimate.models.backbone import Backbone, Rows, Stage
from acclimate.models.language import EMBEDDINGS, pool, trimmed
from acclimate.models.trace import TRUNK


class StaticVectors(nn.Module):
    """Texts as pooled vectors of their tokens: the features of a language model of one block (`models.language.cut`)."""

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, wanted: tuple[bool, ...] | None = None
    ) -> torch.Tensor:
        """int64 [B, T], or [B, windows, T] of texts in windows, which are read as one -> [B, len(POOLED), D], zeros where not `wanted`."""
        return pool(self.embedding(input_ids.flatten(1)), attention_mask.flatten(1).bool(), False, wanted)


class StaticProgram(Rows):
    """One segment: the table and the pooling."""

    def segment(self, first: int, last: int) -> Callable[[Any, Tree], Tree]:
        return _features

    @staticmethod
    def trimmed(backbone: Any, ids: torch.Tensor) -> AbstractContextManager[None]:
        return trimmed(backbone.trunk.embedding, ids)


def _features(backbone: Any, state: Tree) -> torch.Tensor:
    wanted = None if backbone.reads is None else tuple(backbone.reads.tolist())
    return backbone.trunk(state["input_ids"], state["attention_mask"], wanted)


def cut(module: nn.Module, example: Tree) -> Backbone:
    """The table as a backbone of one stage, in eval mode; boundary 0 is that of any language model."""
    names = tuple(f"{TRUNK}.{name}" for name, _ in module.named_parameters())
    return Backbone(module, (Stage(EMBEDDINGS, names, (), (TRUNK,)),), StaticProgram()).eval()
