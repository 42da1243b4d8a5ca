"""What a phase will cost, from a few timed forward passes: seconds and bytes, by stage."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from acclimate.core.tree import Tree, leaves, map_tree
from acclimate.engine.optim import trained_parameters
from acclimate.engine.phase import HEAD, Phase
from acclimate.engine.precision import Precision
from acclimate.models.backbone import Net
from acclimate.objectives import objective_named

BACKWARD = 3.0
"""A backward pass and the update cost about three forward passes without gradients (docs/log.md)."""
SOLVE = 1.5
"""Seconds of a solved phase beside its pass, for a few thousand samples."""
ROUNDS = 3


@dataclass(frozen=True)
class Speed:
    """Of one batch. `forward`: measured seconds a sample for each stage and, last, for the head; `flops`: floating-point operations a
    sample of the same, counted, so that what is decided from them does not follow the noise of a clock; `bytes`: of one cached
    sample at each boundary, 0..stages; `kept`: bytes a sample that a backward pass needs of each stage and of the head."""

    forward: tuple[float, ...]
    flops: tuple[int, ...]
    bytes: tuple[int, ...]
    kept: tuple[int, ...]

    def json(self) -> dict[str, Any]:
        return {name: list(value) for name, value in asdict(self).items()}

    @classmethod
    def of(cls, data: dict[str, Any]) -> Speed:
        """The inverse of `json`."""
        return cls(**{name: tuple(value) for name, value in data.items()})

    @property
    def shares(self) -> tuple[float, ...]:
        """Each stage's share of the operations of the backbone's forward pass."""
        own = self.flops[:-1]
        return tuple(value / max(1, sum(own)) for value in own)


def unknown(stages: int) -> Speed:
    """The speed before anything was measured."""
    nothing = (0,) * (stages + 1)
    return Speed(nothing, nothing, nothing, nothing)


def measure(net: Net, example: Tree, precision: Precision, device: torch.device) -> Speed:
    """Time each stage and the head on `example`, an input batch."""
    seconds, sizes = forward(net, example, precision, device)
    few = map_tree(lambda leaf: leaf[:2], example)
    return Speed(seconds, _flops(net, few, device), sizes, _kept(net, few, precision, device))


def forward(
    net: Net, example: Tree, precision: Precision, device: torch.device
) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """(seconds a sample of each stage and of the head without gradients, best of a few rounds; bytes a sample of each boundary)."""
    stages = range(len(net.backbone.stages))
    best = [float("inf")] * (len(stages) + 1)
    samples = len(leaves(example)[0])
    sizes: list[int] = []
    net.eval()
    for _ in range(ROUNDS):
        state = precision.move(example, device)
        sizes = [_bytes(state)]
        for stage in stages:
            with torch.inference_mode(), precision.inference(net):
                began = time.perf_counter()
                state = net.backbone.run(state, stage, stage + 1)
                _wait(device)
                best[stage] = min(best[stage], (time.perf_counter() - began) / samples)
            sizes.append(_bytes(state))
        with torch.inference_mode(), precision.inference(net):
            began = time.perf_counter()
            net.dense(state, len(stages))
            _wait(device)
            best[-1] = min(best[-1], (time.perf_counter() - began) / samples)
    return tuple(best), tuple(sizes)


def _flops(net: Net, few: Tree, device: torch.device) -> tuple[int, ...]:
    """Counted on two samples in plain arithmetic."""
    state, found = map_tree(lambda leaf: leaf.to(device), few), []
    with torch.no_grad(), _constant(net):
        for stage in range(len(net.backbone.stages)):
            with FlopCounterMode(display=False) as counter:
                state = net.backbone.run(state, stage, stage + 1)
            found.append(counter.get_total_flops() // 2)
        with FlopCounterMode(display=False) as counter:
            net.dense(state, len(net.backbone.stages))
        found.append(counter.get_total_flops() // 2)
    return tuple(found)


@contextmanager
def _constant(net: Net) -> Iterator[None]:
    """Inside, no parameter requires gradients: the counter fails at a view of one that does, which DeBERTa makes."""
    learned = [parameter for parameter in net.parameters() if parameter.requires_grad]
    try:
        for parameter in learned:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in learned:
            parameter.requires_grad_(True)


def _bytes(state: Tree) -> int:
    """Bytes of one sample as the cache holds it."""
    return sum(leaf[0].numel() * (2 if leaf.is_floating_point() else leaf.element_size()) for leaf in leaves(state))


def _kept(net: Net, few: Tree, precision: Precision, device: torch.device) -> tuple[int, ...]:
    """Bytes a sample that autograd keeps of each stage, counted on two samples."""
    state = precision.move(few, device)
    parameters = {id(value) for value in net.parameters()}
    stages = len(net.backbone.stages)
    found = []
    for part in range(stages + 1):
        seen: dict[int, torch.Tensor] = {}

        def pack(tensor: torch.Tensor, seen: dict[int, torch.Tensor] = seen) -> None:
            if id(tensor) not in parameters:
                seen[tensor.data_ptr()] = tensor

        leaf_state = map_tree(lambda leaf: leaf.detach().requires_grad_(leaf.is_floating_point()), state)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda nothing: nothing), precision.inference(net):
            state = net.backbone.run(leaf_state, part, part + 1) if part < stages else net.dense(leaf_state, stages)
        found.append(sum(tensor.nbytes for tensor in seen.values()) // 2)
        seen.clear()  # an operation that keeps its own output would keep itself
    return tuple(found)


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize()


def seconds(phase: Phase, speed: Speed, names: list[str], train: int, val: int) -> float:
    """Estimated seconds of a phase over `train` and `val` samples, its feature passes included."""
    if phase.solve:
        return (train + val) * sum(speed.forward) + SOLVE
    trained = [name in phase.stages for name in names]
    earliest = trained.index(True) if True in trained else len(names)
    first = phase.first if phase.views else 0
    step = sum(speed.forward[first:]) + BACKWARD * sum(speed.forward[earliest:])
    step *= objective_named(phase.objective).passes
    judged = sum(speed.forward[first:])
    if phase.everything:
        train, val = train + val, 0
    passes = max(0, phase.views - 1) * (train + val) * sum(speed.forward[:first])
    return phase.epochs * (train * step + val * judged) + passes


def memory(phase: Phase, speed: Speed, net: Net, names: list[str]) -> int:
    """Estimated bytes while the phase trains: weights, gradients, optimizer state and what the backward pass needs.

    The phase's adapter is attached to the net.
    """
    weights = sum(value.nbytes for value in net.state_dict().values())
    if phase.solve:
        return weights
    learned = sum(value.nbytes for value in trained_parameters(net, phase).values())
    states = {"sgd": 1, "adamw": 2, "adam": 2}[phase.optimizer] + 1 + (1 if phase.average or phase.ema else 0)
    kept = sum(size for name, size in zip([*names, HEAD], speed.kept, strict=True) if name in phase.stages)
    kept *= phase.batch_size
    return weights + learned * states + kept
