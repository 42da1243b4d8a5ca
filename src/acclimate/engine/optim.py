"""The optimizer of a phase, its learning rates over the steps, and averages of the weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import nn

from acclimate.engine.phase import HEAD, Phase
from acclimate.models.backbone import Net

OPTIMIZERS = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD}


def stage_parameters(net: Net, stage: str) -> dict[str, nn.Parameter]:
    """The parameters of a stage (or "head") by their names in `net`."""
    if stage == HEAD:
        return {f"head.{name}": value for name, value in net.head.named_parameters()}
    found = next(one for one in net.backbone.stages if one.name == stage)
    own = dict(net.backbone.named_parameters())
    return {f"backbone.{name}": own[name] for name in found.parameters}


def trained_parameters(net: Net, phase: Phase) -> dict[str, nn.Parameter]:
    """Every parameter that the phase trains, by name."""
    return {name: value for stage in phase.stages for name, value in _learning(net, phase, stage).items()}


def _learning(net: Net, phase: Phase, stage: str) -> dict[str, nn.Parameter]:
    """What of a stage the phase trains."""
    own = stage_parameters(net, stage)
    if not phase.only or stage == HEAD:
        return own
    return {name: value for name, value in own.items() if name.rpartition(".")[2] == phase.only}


def build(net: Net, phase: Phase, extra: Iterable[nn.Parameter] = ()) -> torch.optim.Optimizer:
    """One group a stage and kind of parameter; vectors (norms, biases) get no weight decay. `extra`: parameters of the objective."""
    groups = []
    for stage, rate in zip(phase.stages, phase.lr, strict=True):
        parameters = list(_learning(net, phase, stage).values())
        for decay in (True, False):
            own = [value for value in parameters if (value.ndim > 1) is decay]
            if own:
                groups.append({"params": own, "peak": rate, "weight_decay": phase.weight_decay if decay else 0.0})
    own = list(extra)
    if own:
        groups.append({"params": own, "peak": max(phase.lr), "weight_decay": phase.weight_decay})
    settings = {"momentum": phase.momentum} if phase.optimizer == "sgd" else {}
    return OPTIMIZERS[phase.optimizer](groups, lr=0.0, fused=True, **settings)


def share(phase: Phase, step: int, steps: int) -> float:
    """What the learning rates are multiplied with at a step: a linear rise over the warm-up, then the schedule."""
    rise = phase.warmup * steps
    if step < rise:
        return (step + 1) / (rise + 1)
    done = (step - rise) / max(1.0, steps - rise)
    return {"cosine": 0.5 * (1 + math.cos(math.pi * done)), "linear": 1 - done, "constant": 1.0}[phase.schedule]


def set_rates(optimizer: torch.optim.Optimizer, multiplier: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * multiplier


class Average:
    """A running average of tensors in float32: uniform over what it saw, or exponential with `decay`."""

    def __init__(self, tensors: Mapping[str, torch.Tensor], decay: float | None = None) -> None:
        self.values = {name: value.detach().float().clone() for name, value in tensors.items()}
        self.decay = decay
        self.seen = 0

    @torch.no_grad()
    def update(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Uniform: the mean of all seen. Exponential: the decay starts small ((1+n)/(10+n)), so early weights do not linger."""
        keep = (
            self.seen / (self.seen + 1) if self.decay is None else min(self.decay, (1 + self.seen) / (10 + self.seen))
        )
        for name, value in tensors.items():
            self.values[name].lerp_(value.detach().float(), 1 - keep)
        self.seen += 1

    @torch.no_grad()
    def swap(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Exchange the averaged and the live values; twice is as before."""
        for name, value in tensors.items():
            live = value.detach().clone()
            value.copy_(self.values[name])
            self.values[name] = live.float()
