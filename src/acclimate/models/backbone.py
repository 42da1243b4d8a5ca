"""`Backbone`: a pretrained module cut into ordered, named stages that can be run in part."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

from acclimate.core.tree import Tree, leaves, rebuild, structure


@dataclass(frozen=True)
class Stage:
    """A stretch of the forward pass. `parameters` and `buffers` are names in the backbone's state dict."""

    name: str
    parameters: tuple[str, ...]
    buffers: tuple[str, ...]
    modules: tuple[str, ...]
    """Submodules that run in this stage, by name."""


class Program(Protocol):
    """How a backbone is run in part; immutable, holds names and no weights."""

    def segment(self, first: int, last: int) -> Callable[[Any, Tree], Tree]:
        """A function `(backbone, state at boundary first) -> state at boundary last`."""
        ...

    def split(self, state: Tree) -> list[Tree]:
        """The samples of a state at any boundary but 0, each without a batch dimension and without padding."""
        ...

    def join(self, samples: list[Tree]) -> Tree:
        """The inverse of `split`, of samples from any states at one boundary."""
        ...

    def trimmed(self, backbone: Any, ids: torch.Tensor) -> AbstractContextManager[None]:
        """See `Backbone.trimmed`."""
        ...


class Rows:
    """Samples that are the rows of every leaf."""

    @staticmethod
    def split(state: Tree) -> list[Tree]:
        parts = zip(*map(torch.unbind, leaves(state)), strict=True)
        return [rebuild(structure(state), list(each)) for each in parts]

    @staticmethod
    def join(samples: list[Tree]) -> Tree:
        parts = [torch.stack(each) for each in zip(*map(leaves, samples), strict=True)]
        return rebuild(structure(samples[0]), parts)

    @staticmethod
    def trimmed(backbone: Any, ids: torch.Tensor) -> AbstractContextManager[None]:
        """There is no such table."""
        return nullcontext()


class Backbone(nn.Module):
    """Boundary `k` is what flows into stage `k`: boundary 0 is the input batch, boundary `len(stages)` the features.

    `run(state, first, last)` takes boundary `first` to boundary `last` (default: the features, which a head reads).
    State is a tree of tensors; dimension 0 of every leaf is the batch, so that rows can be kept and put together anew.
    `trunk`: the pretrained module without its classifier. `dropped`: parameters and buffers that the forward pass never
    reached, by their names in the original module. `classifier`: the name there of the layer that made the logits,
    whose input the features are; None where the features are the module's output.
    """

    stages: tuple[Stage, ...]
    frozen: frozenset[str]
    """Names of the stages that stay in eval mode (`models.frozen.freeze` sets it)."""
    frozen_norms: bool
    """Batch norm stays in eval mode in every stage."""
    reads: Any
    """bool [places]: which of its features a head reads, so that the others need not be computed; None: all."""
    kept: tuple[nn.Module, ...]
    """The pretrained head, of a network whose head is worth keeping; in a tuple, so that it is no part of the backbone."""

    def __init__(
        self,
        trunk: nn.Module,
        stages: tuple[Stage, ...],
        program: Program,
        *,
        dropped: tuple[str, ...] = (),
        classifier: str | None = None,
    ) -> None:
        super().__init__()
        self.trunk = trunk
        self.stages = stages
        self.program = program
        self.dropped = dropped
        self.classifier = classifier
        self.frozen = frozenset()
        self.frozen_norms = False
        self.reads = None
        self.kept = ()

    def train(self, mode: bool = True) -> Backbone:
        """Train or eval mode, but for the frozen stages: they stay in eval mode."""
        super().train(mode)
        for stage in self.stages:
            if stage.name in self.frozen:
                for name in stage.modules:
                    self.get_submodule(name).eval()
        if self.frozen_norms:
            for module in self.modules():
                if isinstance(module, nn.modules.batchnorm._NormBase):
                    module.eval()
        return self

    def run(self, state: Tree, first: int = 0, last: int | None = None) -> Tree:
        last = len(self.stages) if last is None else last
        if not 0 <= first <= last <= len(self.stages):
            raise IndexError(f"no segment {first}..{last} in a backbone of {len(self.stages)} stages")
        return state if first == last else self.program.segment(first, last)(self, state)

    def split(self, state: Tree) -> list[Tree]:
        """The samples of a state at any boundary but 0, each without a batch dimension and without padding."""
        return self.program.split(state)

    def join(self, samples: list[Tree]) -> Tree:
        """The inverse of `split`, of samples from any states at one boundary."""
        return self.program.join(samples)

    def trimmed(self, ids: torch.Tensor) -> AbstractContextManager[None]:
        """Inside, of a table that the inputs index only the rows `ids` (int64 [n]) are there, and trained."""
        return self.program.trimmed(self, ids)

    def forward(self, inputs: Tree) -> Tree:
        return self.run(inputs)


class Net(nn.Module):
    """A backbone with a head: `net(x)` are the outputs, `net(state, first=k)` the same from boundary `k`."""

    def __init__(self, backbone: Backbone, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def restore(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Take over a whole state, saved by this version of the modules. Raises RuntimeError where it does not fit."""
        state = OrderedDict(tensors)
        state._metadata = self.state_dict()._metadata  # type: ignore[attr-defined]
        self.load_state_dict(state)

    def features(self, state: Tree, first: int = 0) -> Tree:
        """The features from boundary `first` on, as far as the head reads them."""
        self.backbone.reads = getattr(self.head, "reads", None)
        try:
            return self.backbone.run(state, first)
        finally:
            self.backbone.reads = None

    def dense(self, state: Tree, first: int = 0) -> Tree:
        """Everything that the head computes of the features, before it chooses among it: what a training step has to differentiate."""
        head = getattr(self.head, "dense", self.head)
        return head(self.features(state, first))

    def forward(self, state: Tree, first: int = 0, targets: Tree | None = None) -> Tree:
        """With `targets`, what a training batch is judged by: a head may look at them, as one that samples its own proposals must."""
        features = self.features(state, first)
        return self.head(features) if targets is None else self.head(features, targets)


def dense(net: nn.Module, state: Tree) -> Tree:
    """`Net.dense`, or the outputs of any other module."""
    return net.dense(state) if isinstance(net, Net) else net(state)
