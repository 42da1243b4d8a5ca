"""Samples of one chunk as few tensors: stacked where they are equal in shape, else one behind the other without padding."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from acclimate.core.tree import Tree, leaves, map_tree, rebuild, structure
from acclimate.engine.store import Chunk

STACKED, PACKED, LISTED = "stacked", "packed", "list"


def stack(samples: list[Tree]) -> Tree:
    """Sample trees of equal shapes as one batch tree."""
    return _joined(samples, torch.stack)


def pack(samples: list[Tree]) -> tuple[Tree, str]:
    """(what a chunk holds, its form): leaves that differ in their first dimension alone are laid one behind the other."""
    marks = [([leaf.dtype for leaf in leaves(s)], [leaf.shape[1:] for leaf in leaves(s)]) for s in samples]
    shapes = structure(samples[0]) if samples else None
    if not samples or any(m != marks[0] for m in marks) or any(structure(s) != shapes for s in samples):
        return samples, LISTED
    if all([leaf.shape for leaf in leaves(s)] == [leaf.shape for leaf in leaves(samples[0])] for s in samples):
        return stack(samples), STACKED
    lengths = torch.tensor([[len(leaf) for leaf in leaves(s)] for s in samples], dtype=torch.int32)
    return {"rows": _joined(samples, torch.cat), "lengths": lengths}, PACKED


def _joined(samples: list[Tree], join: object) -> Tree:
    parts = [join([leaves(s)[i] for s in samples]) for i in range(len(leaves(samples[0])))]  # type: ignore[operator]
    return rebuild(structure(samples[0]), parts)


@dataclass
class Samples:
    """The samples of a chunk by their place in it."""

    chunk: Chunk
    form: str

    def __post_init__(self) -> None:
        if self.form == PACKED:
            lengths = self.chunk.tree["lengths"].numpy().astype(np.int64)
            self.ends = lengths.cumsum(axis=0)
            self.shape = structure(self.chunk.tree["rows"])
            self.flat = leaves(self.chunk.tree["rows"])

    def __getitem__(self, offset: int) -> Tree:
        """One sample, without a batch dimension."""
        if self.form == LISTED:
            return self.chunk.tree[offset]
        if self.form == STACKED:
            return map_tree(lambda leaf: leaf[offset], self.chunk.tree)
        ends = self.ends[offset]
        begins = self.ends[offset - 1] if offset else np.zeros_like(ends)
        return rebuild(self.shape, [leaf[a:b] for leaf, a, b in zip(self.flat, begins, ends, strict=True)])
