"""Batch norm brought to new data before it learns, and its statistics to the weights as they are before it is judged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from acclimate.core.tree import Tree
from acclimate.models.backbone import Net

Sums = dict[nn.Module, tuple[torch.Tensor, torch.Tensor, int]]


@torch.no_grad()
def recentre(net: Net, modules: Iterable[nn.Module], batches: Iterable[Tree], first: int) -> None:
    """Give the batch norms among `modules` the mean m and variance v of what flows into them for `batches` (states at boundary `first`).

    With a x + b what a norm computes in eval mode, it becomes mean m, variance v, weight a sqrt(v + eps), bias b + a m: the net computes
    what it did, to rounding, and in training mode, where batches stand for the data, nearly so from the first step on. A norm that was
    folded into its convolution gets real statistics in this way, and one of other pictures does not lose what it knew while its
    statistics catch up.
    """
    norms = _norms(modules)
    if not norms:
        return
    with _watched(norms) as sums:
        was = net.training
        net.eval()
        for batch in batches:
            net.dense(batch, first)
        net.train(was)
    for norm in norms:
        if norm not in sums:
            continue
        total, squares, count = sums[norm]
        mean = total / count
        variance = (squares / count - mean.square()).clamp_min(0)
        assert norm.running_mean is not None and norm.running_var is not None
        slope = norm.weight.double() * (norm.running_var.double() + norm.eps).rsqrt()
        start = norm.bias.double() - slope * norm.running_mean.double()
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
        # of the statistics as they are kept, so that rounding them changes nothing
        norm.weight.copy_(slope * (norm.running_var.double() + norm.eps).sqrt())
        norm.bias.copy_(start + slope * norm.running_mean.double())


@torch.no_grad()
def restate(net: Net, modules: Iterable[nn.Module], batches: Iterable[Tree], first: int) -> None:
    """Give the batch norms among `modules` the mean statistics of these batches under the weights as they are (Wu and Johnson, 2021).

    While weights move, running averages lag behind them by some dozen steps: in a short run a good network looks broken for that.
    """
    norms = _norms(modules)
    if not norms:
        return
    kept = [(norm.momentum, norm.training) for norm in norms]
    was = net.training
    net.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # all batches count alike
        norm.train()
    for batch in batches:
        net.dense(batch, first)
    net.train(was)
    for norm, (momentum, training) in zip(norms, kept, strict=True):
        norm.momentum = momentum
        norm.train(training)


def _norms(modules: Iterable[nn.Module]) -> list[Any]:
    kind = nn.modules.batchnorm._BatchNorm
    found = dict.fromkeys(one for one in modules if isinstance(one, kind) and one.running_mean is not None)
    return list(found)


@contextmanager
def _watched(norms: list[Any]) -> Iterator[Sums]:
    """Collects, inside, sums over samples and places of what flows into each norm, float64 [channels]."""
    sums: Sums = {}

    def see(norm: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        values = inputs[0].double().transpose(0, 1).flatten(1)
        total, squares, count = sums.get(norm, (0.0, 0.0, 0))
        sums[norm] = total + values.sum(1), squares + values.square().sum(1), count + values.shape[1]

    hooks = [norm.register_forward_pre_hook(see) for norm in norms]
    try:
        yield sums
    finally:
        for hook in hooks:
            hook.remove()
