"""Which layers of a net are convolutions that can be computed our way, and the swap that makes them so for a while."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from acclimate.core.tree import Tree, leaves, map_tree
from acclimate.engine.convolution import PLAIN, Geometry, How, Norm, convolve, kind
from acclimate.models.backbone import dense
from acclimate.models.swap import swapped

ACTIVATIONS: dict[type, str] = {nn.ReLU: "relu", nn.ReLU6: "relu6"}
Fused = tuple[tuple[str, ...], ...]
"""(convolution, norm) or (convolution, norm, activation): names of layers that run as one."""
Ways = Mapping[str, dict[str, str]]
"""Kind of convolution -> way of each of its parts; a kind that is not there is computed the plain way."""


@dataclass(frozen=True)
class Call:
    """One convolution as it ran: its layer's name, the shape of its input [n, c, h, w], its weight and geometry."""

    name: str
    shape: torch.Size
    weight: Tensor
    geometry: Geometry

    @property
    def kind(self) -> str:
        return kind(self.weight, self.geometry)

    @property
    def work(self) -> int:
        """Multiplications for one sample, about."""
        return (
            self.weight.numel() * self.shape[2] * self.shape[3] // (self.geometry.stride[0] * self.geometry.stride[1])
        )


class _Instead(TorchFunctionMode):
    """Inside, `torch.conv2d` is another function: so subclasses that pad or standardise first are served too."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return (self.function if func is torch.conv2d else func)(*args, **(kwargs or {}))


def body(net: nn.Module) -> nn.Module:
    """The part whose layers have names here: the backbone of a net with a head, else the module itself."""
    part = getattr(net, "backbone", net)
    return part if isinstance(part, nn.Module) else net


def geometry(stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1) -> Geometry | None:
    """The arguments of `torch.conv2d` as pairs; None where the padding is a word."""
    if isinstance(padding, str):
        return None

    def pair(value: Any) -> tuple[int, int]:
        return (value, value) if isinstance(value, int) else (value[0], value[-1])

    return Geometry(pair(stride), pair(padding), pair(dilation), groups)


def trace(net: nn.Module, example: Tree) -> tuple[list[Call], Fused]:
    """The convolutions that `net(example)` runs once each, and the chains of layers that can run as one.

    A norm or activation follows a layer where that layer's result goes into it and, by the graph of the backward pass,
    nowhere else. The net is in eval mode.
    """
    tracer = _Tracer(net)
    modules = list(body(net).modules())
    hooked = [module for module in modules if _is_norm(module) or type(module) in ACTIVATIONS]
    handles = [module.register_forward_pre_hook(tracer.enter) for module in hooked]
    handles += [module.register_forward_hook(tracer.leave) for module in hooked if _is_norm(module)]
    convolutions = [module for module in modules if isinstance(module, nn.Conv2d)]
    watched: dict[nn.Module, Callable[..., Any]] = {module: tracer.watched(module) for module in convolutions}
    try:
        with torch.enable_grad(), swapped(watched):
            outputs = dense(net, map_tree(lambda leaf: leaf.clone().requires_grad_(leaf.is_floating_point()), example))
    finally:
        for handle in handles:
            handle.remove()
    readers = _readers(outputs)
    once = {module: calls[0] for module, calls in tracer.calls.items() if len(calls) == 1}
    chains = (tracer.chain(module, readers) for module in once)
    return list(once.values()), tuple(chain for chain in chains if len(chain) > 1)


class _Tracer:
    """Sees what flows between convolutions, norms and activations in one forward pass."""

    def __init__(self, net: nn.Module) -> None:
        self.net = net
        self.names = {module: name for name, module in body(net).named_modules()}
        self.calls: dict[nn.Module, list[Call]] = {}
        self.made: dict[int, tuple[nn.Module, Tensor, Any]] = {}
        """id of a result -> its layer, itself (so that the id stays taken), its node in the graph."""
        self.followers: dict[nn.Module, list[tuple[nn.Module, Any]]] = {}

    def watched(self, module: nn.Conv2d) -> Callable[[Tensor], Tensor]:
        ordinary = module.forward

        def record(x: Tensor, weight: Tensor, bias: Any = None, *arguments: Any, **named: Any) -> Tensor:
            out = torch.conv2d(x, weight, bias, *arguments, **named)
            shape = geometry(*arguments, **named)
            if shape is not None and x.ndim == 4:
                self.calls.setdefault(module, []).append(Call(self.names[module], x.shape, weight.detach(), shape))
                self.made[id(out)] = module, out, out.grad_fn
            return out

        def run(x: Tensor) -> Tensor:
            with _Instead(record):
                return ordinary(x)

        return run

    def enter(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        maker, _, node = self.made.get(id(inputs[0]), (None, None, None)) if inputs else (None, None, None)
        if maker is not None and inputs[0].grad_fn is node:  # else it was changed in place
            self.followers.setdefault(maker, []).append((module, node))

    def leave(self, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        self.made[id(output)] = module, output, output.grad_fn

    def chain(self, convolution: nn.Module, readers: Counter[Any]) -> tuple[str, ...]:
        """Names of the convolution and of the norm and activation that it can fold in."""

        def next_of(module: nn.Module) -> nn.Module | None:
            found = self.followers.get(module, [])
            return found[0][0] if len(found) == 1 and readers[found[0][1]] == 1 else None

        name, norm = self.names[convolution], next_of(convolution)
        if norm is None or not _is_norm(norm) or not _same_stage(self.net, name, self.names[norm]):
            return (name,)
        act = getattr(norm, "act", None) or next_of(norm)
        if type(act) not in ACTIVATIONS or not _same_stage(self.net, name, self.names[act]):
            return name, self.names[norm]
        return name, self.names[norm], self.names[act]


def _is_norm(module: nn.Module) -> bool:
    """Batch norm with running statistics and an affine part, alone or (in timm) with `drop` and `act` behind it."""
    if not isinstance(module, nn.BatchNorm2d) or module.running_mean is None or module.weight is None:
        return False
    combined = isinstance(getattr(module, "drop", None), nn.Identity) and isinstance(
        getattr(module, "act", None), nn.Module
    )
    return type(module) is nn.BatchNorm2d or (type(module).__name__ == "BatchNormAct2d" and combined)


def _readers(outputs: Tree) -> Counter[Any]:
    """How many operations read the result of each operation of the graph that leads to the outputs."""
    counts: Counter[Any] = Counter()
    todo = [leaf.grad_fn for leaf in leaves(outputs) if leaf.grad_fn is not None]
    done = set(todo)
    counts.update(todo)
    while todo:
        for source, _ in todo.pop().next_functions:
            if source is not None:
                counts[source] += 1
                if source not in done:
                    done.add(source)
                    todo.append(source)
    return counts


def _same_stage(net: nn.Module, *names: str) -> bool:
    """Whether no boundary can lie between these layers."""
    stages = getattr(body(net), "stages", None)
    if not stages:
        return True

    def stage(name: str) -> int | None:
        held = (i for i, one in enumerate(stages) for own in one.modules if name == own or name.startswith(own + "."))
        return next(held, None)

    found = {stage(name) for name in names}
    return len(found) == 1 and None not in found


def forwards(net: nn.Module, fused: Fused, ways: Ways, dtype: torch.dtype) -> dict[nn.Module, Callable[..., Any]]:
    """What to swap in: every convolution our way, and the norms and activations that are folded into it, empty."""
    root = body(net)
    chains = {chain[0]: [root.get_submodule(name) for name in chain[1:]] for chain in fused}
    swap: dict[nn.Module, Callable[..., Any]] = {}
    for name, module in root.named_modules():
        if isinstance(module, nn.Conv2d):
            norm, act, *_ = [*chains.get(name, []), None, None]
            swap[module] = _convolution(module, norm, act, ways, dtype)  # type: ignore[arg-type]
            if norm is not None:
                swap[norm] = _folded(norm, act)
            if act is not None and act is not getattr(norm, "act", None):
                swap[act] = _folded(act, None)
    return swap


def _convolution(
    module: nn.Conv2d, norm: nn.BatchNorm2d | None, act: nn.Module | None, ways: Ways, dtype: torch.dtype
) -> Callable[[Tensor], Tensor]:
    ordinary = type(module).forward

    def ours(x: Tensor, weight: Tensor, bias: Any = None, *arguments: Any, **named: Any) -> Tensor:
        shape = geometry(*arguments, **named)
        if shape is None or x.ndim != 4:
            return torch.conv2d(x, weight, bias, *arguments, **named)
        values, activation, way = None, None, ways.get(kind(weight, shape), PLAIN)
        folds = norm is not None and not norm.training  # looked at now: batch statistics may be asked for later
        if not folds and way == PLAIN and dtype == torch.float32:  # one call backwards, where ours makes two
            return torch.conv2d(x, weight, bias, *arguments, **named)
        if norm is not None and folds:
            assert norm.running_var is not None and norm.running_mean is not None
            rstd = (norm.running_var + norm.eps).rsqrt()
            values = Norm(norm.weight, norm.bias, norm.running_mean, rstd)
            activation = ACTIVATIONS.get(type(act))
        out = convolve(x, weight, bias, values, How(shape, dtype, way, activation))
        if folds:
            out.__dict__["folded"] = (norm, act)
        return out

    def run(x: Tensor) -> Tensor:
        with _Instead(ours):
            return ordinary(module, x)

    return run


def _folded(module: nn.Module, act: nn.Module | None) -> Callable[[Tensor], Tensor]:
    """The module where its work is not yet done; else, of a norm with an activation in it, what remains."""
    ordinary = type(module).forward

    def run(x: Tensor) -> Tensor:
        if module not in getattr(x, "folded", ()):
            return ordinary(module, x)
        inner: Any = getattr(module, "act", None)
        return inner(x) if act is None and inner is not None else x

    return run
