"""The last resort for a module whose forward pass cannot be traced: one stage that runs it as it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from acclimate.core.tree import Tree
from acclimate.models.backbone import Backbone, Rows, Stage
from acclimate.models.trace import TRUNK, Reached, call

BODY = "body"


class Stop(nn.Module):
    """Stands where the classifier was: the forward pass ends here, with what flows in."""

    def forward(self, features: Tree) -> Tree:
        raise Reached(features)


class WholeProgram(Rows):
    """One segment: the trunk's own forward."""

    def segment(self, first: int, last: int) -> Callable[[Any, Tree], Tree]:
        def run(backbone: Backbone, state: Tree) -> Tree:
            try:
                return call(backbone.trunk, state)
            except Reached as reached:
                return reached.value

        return run


def whole(module: nn.Module, classifier: str | None) -> Backbone:
    """The module as a backbone of one stage, its classifier taken out."""
    if classifier:
        parent, _, name = classifier.rpartition(".")
        setattr(module.get_submodule(parent), name, Stop())
    parameters = dict(module.named_parameters(remove_duplicate=False))
    names = list(module.state_dict())
    stage = Stage(
        BODY,
        tuple(f"{TRUNK}.{name}" for name in names if name in parameters),
        tuple(f"{TRUNK}.{name}" for name in names if name not in parameters),
        (TRUNK,),
    )
    return Backbone(module, (stage,), WholeProgram(), classifier=classifier).eval()
