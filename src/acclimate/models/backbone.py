"""`Backbone`: a pretrained module cut into ordered, named stages that can be run in part."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from acclimate.core.tree import Tree


@dataclass(frozen=True)
class Stage:
    """A stretch of the forward pass. `parameters` and `buffers` are names in the backbone's state dict."""

    name: str
    parameters: tuple[str, ...]
    buffers: tuple[str, ...]
    modules: tuple[str, ...]
    """Submodules that run in this stage, by name."""


class Backbone(nn.Module):
    """Boundary `k` is what flows into stage `k`: boundary 0 is the input batch, boundary `len(stages)` the features for a head.

    `run(state, first, last)` takes boundary `first` to boundary `last` (default: the features). State is a tree of tensors.
    """

    stages: tuple[Stage, ...]

    def run(self, state: Tree, first: int = 0, last: int | None = None) -> Tree:
        raise NotImplementedError

    def forward(self, inputs: Tree) -> Tree:
        return self.run(inputs)


class Net(nn.Module):
    """A backbone with a head: `net(x)` are the outputs, `net(state, first=k)` the same from boundary `k`."""

    def __init__(self, backbone: Backbone, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, state: Tree, first: int = 0) -> Tree:
        return self.head(self.backbone.run(state, first))
