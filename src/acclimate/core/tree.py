"""Trees of tensors: an input, a target or a boundary is a tensor, or a tuple, list or dict of trees."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

Tree = Any
"""A tensor, or a tuple, list or dict (string keys) of trees."""


def map_tree(function: Callable[[torch.Tensor], Any], tree: Tree) -> Tree:
    """The same tree with `function` applied to every tensor."""
    if isinstance(tree, dict):
        return {name: map_tree(function, value) for name, value in tree.items()}
    if isinstance(tree, tuple | list):
        return type(tree)(map_tree(function, value) for value in tree)
    return function(tree)


def leaves(tree: Tree) -> list[torch.Tensor]:
    """Every tensor of the tree, in order."""
    if isinstance(tree, dict):
        return [leaf for value in tree.values() for leaf in leaves(value)]
    if isinstance(tree, tuple | list):
        return [leaf for value in tree for leaf in leaves(value)]
    return [tree]


def structure(tree: Tree) -> Any:
    """The shape of the tree as JSON: the position of each leaf in `leaves(tree)` stands for the leaf; tuples become {"tuple": [...]}."""
    count = iter(range(1 << 30))

    def walk(node: Tree) -> Any:
        if isinstance(node, dict):
            return {"dict": {name: walk(value) for name, value in node.items()}}
        if isinstance(node, tuple | list):
            return {"tuple" if isinstance(node, tuple) else "list": [walk(value) for value in node]}
        return next(count)

    return walk(tree)


def rebuild(shape: Any, parts: list[torch.Tensor]) -> Tree:
    """The inverse of (`structure`, `leaves`)."""
    if isinstance(shape, int):
        return parts[shape]
    kind, content = next(iter(shape.items()))
    if kind == "dict":
        return {name: rebuild(value, parts) for name, value in content.items()}
    return (tuple if kind == "tuple" else list)(rebuild(value, parts) for value in content)
