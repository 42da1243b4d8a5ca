"""Models: list what can be named, show one with its stages, fetch one for use without a network."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from acclimate.models.backbone import Backbone
from acclimate.models.card import Card, Preprocessing
from acclimate.models.load import describe, find, get, load

__all__ = ["Shown", "describe", "find", "get", "show"]


@dataclass(frozen=True)
class Shown:
    """A card with parameters and MACs counted, and the stages in order: (name, parameters)."""

    card: Card
    stages: tuple[tuple[str, int], ...]

    def json(self) -> dict[str, Any]:
        stages = [{"name": name, "parameters": parameters} for name, parameters in self.stages]
        return {**self.card.json(), "stages": stages}


def show(name: str) -> Shown:
    """What is known of a model; its architecture is built, its weights are not read. Raises `UserError`."""
    _, card = describe(name)
    backbone, built = load(name, pretrained=False)
    counted = replace(card, parameters=built.parameters, macs=macs(backbone, built.preprocessing))
    return Shown(counted, tuple((stage.name, _parameters(backbone, stage.parameters)) for stage in backbone.stages))


def macs(net: nn.Module, shown: Preprocessing) -> int:
    """Multiply-accumulates of one sample of full size: of matrix products and convolutions."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        net(shown.example(1))
    return counter.get_total_flops() // 2


def _parameters(backbone: Backbone, names: tuple[str, ...]) -> int:
    return sum(backbone.get_parameter(name).numel() for name in names)
