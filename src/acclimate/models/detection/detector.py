"""`Detector`: a network that finds boxes as a body, a neck and a head; and its cut into stages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import nn

from acclimate.core.tree import Tree
from acclimate.models import stages
from acclimate.models.backbone import Backbone, Program, Rows, Stage

NECK = "neck"
WITHIN = "net."
"""How names begin in a body that wraps another library's network: its stages are called what they are called there."""


class Head(Protocol):
    """The head of a detector, an `nn.Module`: it reads {"maps": tuple of [B, C, H, W], "frame": int32 [B, sources, 8]}.

    `head(features)` are its answers, {"boxes": [B, N, 4] on the canvas (xyxy), "scores": [B, N], "labels": int64 [B, N], -1 where there
    is none, "frame"}, best first, after suppression: no more than `most`, of scores above `floor`. `head(features, targets)` is what
    it learns from, {"loss": sum over the targets, "count": their number}; `targets` as `tasks.detection` gives them.
    """

    classes: list[str]
    """What it tells apart, in the order of its outputs; none where it was never trained."""
    tuned: str
    """How it is best moved: an entry of `tasks.tuning.BOXES`. "fresh": never trained, nor is the neck below it."""
    floor: float
    """Scores below are not answered. 0.001 to 0.01: average precision counts what is unlikely, too."""
    iou: float
    """Of two boxes of a class that overlap more, the less likely one is suppressed."""
    most: int

    def dense(self, features: Tree) -> Tree:
        """All that is computed before answers are chosen: tensors with gradients."""
        ...

    def renewed(self, classes: list[str]) -> nn.Module:
        """A copy for other classes: what makes class outputs is fresh but for classes that it knew by the same name, all else equal
        bit by bit."""
        ...


class Detector(nn.Module):
    """`body` reads pixels [B, 3, H, W] and gives a tuple of maps, `neck` mixes them (None: as they are), `head` is a `Head`."""

    def __init__(self, body: nn.Module, neck: nn.Module | None, head: Any) -> None:
        super().__init__()
        self.body = body
        self.neck = neck
        self.head = head

    def forward(self, pixels: torch.Tensor, frame: torch.Tensor, targets: Tree | None = None) -> Tree:
        maps = self.body(pixels)
        maps = maps if self.neck is None else self.neck(maps)
        features = {"maps": maps, "frame": frame}
        return self.head(features) if targets is None else self.head(features, targets)


class Framed(Rows):
    """The program of a detector's body, with the neck as one more stage; the frame goes past them.

    Boundary 0 is {"pixels", "frame"}, every other {"maps": what crosses there, "frame"}.
    """

    def __init__(self, body: Program, count: int, neck: bool) -> None:
        self.body = body
        self.count = count
        self.neck = neck

    def segment(self, first: int, last: int) -> Callable[[Any, Tree], Tree]:
        end = min(last, self.count)

        def run(backbone: Backbone, state: Tree) -> Tree:
            maps = state["maps" if first else "pixels"]
            if first < end:
                maps = self.body.segment(first, end)(backbone, maps)
            if last > self.count:
                maps = backbone.get_submodule(NECK)(maps)
            return {"maps": maps, "frame": state["frame"]}

        return run


def cut(detector: Detector, example: Tree) -> Backbone:
    """The body cut into stages as any network is, then the neck; the head is kept beside it (`Backbone.kept`)."""
    body = stages.cut(detector.body, example["pixels"], headless=True)
    found = tuple(replace(stage, name=stage.name.removeprefix(WITHIN)) for stage in body.stages)
    neck = detector.neck
    if neck is not None:
        own = dict(neck.named_parameters(prefix=NECK))
        buffers = tuple(name for name in neck.state_dict(prefix=f"{NECK}.") if name not in own)
        found = (*found, Stage(NECK, tuple(own), buffers, (NECK,)))
    program = Framed(body.program, len(body.stages), neck is not None)
    backbone = Backbone(body.trunk, found, program, dropped=body.dropped)
    for name, value in body.named_buffers(recurse=False):
        backbone.register_buffer(name, value, persistent=False)
    if neck is not None:
        backbone.add_module(NECK, neck)
    backbone.kept = (detector.head,)
    return backbone.eval()
