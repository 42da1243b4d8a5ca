"""Tracing a module by running it: a graph of calls between submodules, each node with the value it had."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

import torch
from torch import fx, nn

from acclimate.core.tree import Tree

TRUNK = "trunk"
CREATORS = ("arange", "empty", "full", "linspace", "ones", "zeros")
"""Functions that make tensors from sizes alone: torch does not hand them to proxies by itself."""


class Untraceable(Exception):
    """The module's Python cannot be followed."""


class Reached(Exception):
    """The forward pass came to the layer where tracing stops; carries what flows into it."""

    def __init__(self, value: Any) -> None:
        self.value = value


def guard(value: Any, expected: Any) -> None:
    """A decision that the forward pass took when it was traced, and that must fall the same way whenever it runs."""
    if value != expected:
        raise RuntimeError(
            f"the model was cut for an input shape where this was {expected!r}, now it is {value!r}: cut it anew"
        )


def together(*values: Any) -> tuple[Any, ...]:
    """Several features as one value."""
    return values


def call(module: nn.Module, inputs: Tree) -> Any:
    """The module's own forward: a dict of inputs goes in by name."""
    return module(**{name: inputs[name] for name in inputs}) if isinstance(inputs, dict) else module(inputs)


def evaluate(node: fx.Node, root: nn.Module, value: Callable[[fx.Node], Any]) -> Any:
    """What a node (of any kind but placeholder) computes when its arguments are `value(node)`."""
    if node.op == "get_attr":
        return attribute(root, str(node.target))
    args, kwargs = _filled(node.args, value), _filled(node.kwargs, value)
    if node.op == "call_module":
        return root.get_submodule(str(node.target))(*args, **kwargs)
    if node.op == "call_method":
        return getattr(args[0], str(node.target))(*args[1:], **kwargs)
    if node.op == "output":
        return args[0]
    assert callable(node.target)
    return node.target(*args, **kwargs)


def _filled(argument: Any, value: Callable[[fx.Node], Any]) -> Any:
    """The argument with values for nodes; lists are fresh, since a module may write into one that it is given."""
    if isinstance(argument, fx.Node):
        found = value(argument)
        return list(found) if type(found) is list else found
    if isinstance(argument, tuple):
        return tuple(_filled(part, value) for part in argument)
    if isinstance(argument, list):
        return [_filled(part, value) for part in argument]
    if isinstance(argument, dict):
        return {name: _filled(part, value) for name, part in argument.items()}
    if isinstance(argument, slice):
        return slice(*(_filled(part, value) for part in (argument.start, argument.stop, argument.step)))
    return argument


def attribute(root: nn.Module, path: str) -> Any:
    parent, _, name = path.rpartition(".")
    return getattr(root.get_submodule(parent), name)


class Proxy(fx.Proxy):
    """Stands for a value while tracing, and knows it: Python may ask for lengths, truth and types."""

    @property
    def value(self) -> Any:
        return self.node.meta["value"]

    @property
    def __class__(self) -> type:  # `isinstance` sees the type of the value
        return type(self.node.meta["value"])

    @__class__.setter
    def __class__(self, _: type) -> None:
        raise TypeError("a proxy keeps its class")

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.node.meta["value"], name)
        if callable(found):
            return fx.proxy.Attribute(self, name)
        return self.tracer.create_proxy("call_function", getattr, (self, name), {})

    def __len__(self) -> int:
        return len(self.value)

    def __index__(self) -> int:
        return self._settled(int(self.value))

    def __int__(self) -> int:
        return self._settled(int(self.value))

    def __float__(self) -> float:
        return self._settled(float(self.value))

    def __hash__(self) -> int:
        return id(self)

    def _settled(self, value: Any) -> Any:
        self.tracer.create_proxy("call_function", guard, (self, value), {})
        return value


class _Entry(nn.Module):
    """The root of a trace; `trunk` is where a backbone keeps the module, so that a backbone runs the graph's names."""

    def __init__(self, trunk: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, inputs: Tree) -> Any:
        try:
            found = call(self.trunk, inputs)
        except Reached as reached:
            found = reached.value
        several = type(found) in (tuple, list) and any(issubclass(type(one), fx.Proxy) for one in found)
        return found[0].tracer.create_proxy("call_function", together, tuple(found), {}) if several else found


class Tracer(fx.Tracer):
    """Traces with the children of `opened` modules as units, and stops at `stop`. Every node keeps its value."""

    def __init__(self, opened: Collection[str], stop: nn.Module | None, example: Tree) -> None:
        super().__init__(autowrap_modules=(math,), autowrap_functions=_unfollowed())
        self.opened = {f"{TRUNK}.{name}".rstrip(".") for name in opened}
        self.stop = stop
        self.example = example
        self.running = False

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return module_qualified_name not in self.opened

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if self.running:
            return forward(*args, **kwargs)
        if m is self.stop:
            raise Reached(args[0])
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        return attr_val if self.running else super().getattr(attr, attr_val, parameter_proxy_cache)

    def create_arg(self, a: Any) -> Any:
        return a.node if issubclass(type(a), fx.Proxy) else super().create_arg(a)

    def create_node(self, kind: str, target: Any, args: Any, kwargs: Any, *rest: Any, **more: Any) -> fx.Node:
        node = super().create_node(kind, target, args, kwargs, *rest, **more)
        if kind == "placeholder":
            node.meta["value"] = self.example
        else:
            self.running, before = True, self.running
            try:
                node.meta["value"] = evaluate(node, self.root, lambda n: n.meta["value"])
            finally:
                self.running = before
        return node

    def proxy(self, node: fx.Node) -> Proxy:
        return Proxy(node, self)

    def to_bool(self, obj: Any) -> bool:
        return Proxy(obj.node, self)._settled(bool(obj.node.meta["value"]))

    def iter(self, obj: Any) -> Iterator[Any]:
        value = obj.node.meta["value"]
        return iter([obj[key] for key in range(len(value))]) if not isinstance(value, dict) else iter(list(value))

    def keys(self, obj: Any) -> Any:
        return list(obj.node.meta["value"])


def trace(
    module: nn.Module, example: Tree, opened: Collection[str], stop: nn.Module | None
) -> tuple[fx.Graph, dict[str, Any]]:
    """The graph of a forward pass in eval mode, and the constant tensors that its Python made, by name.

    Raises Untraceable.
    """
    entry = _Entry(module)
    own = set(vars(entry)) | set(entry._modules)
    try:
        with torch.no_grad(), _creators_followed():
            graph = Tracer(opened, stop, example).trace(entry)
    except Exception as problem:
        raise Untraceable(f"{type(problem).__name__}: {problem}") from problem
    return graph, {name: value for name, value in vars(entry).items() if name not in own}


def _unfollowed() -> tuple[Callable[..., Any], ...]:
    """timm's functions that are called as they are: their Python looks at shapes."""
    from timm.layers import get_notrace_functions

    return tuple(get_notrace_functions())


def _creators_followed() -> ExitStack:
    stack = ExitStack()
    for name in CREATORS:
        stack.enter_context(patch.object(torch, name, _followed(getattr(torch, name))))
    return stack


def _followed(function: Callable[..., Any]) -> Callable[..., Any]:
    def create(*args: Any, **kwargs: Any) -> Any:
        found: list[Any] = []
        _proxies((args, kwargs), found)
        if not found:
            return function(*args, **kwargs)
        return found[0].tracer.create_proxy("call_function", function, args, kwargs)

    return create


def _proxies(node: Any, found: list[Any]) -> None:
    if issubclass(type(node), fx.Proxy):
        found.append(node)
    elif type(node) in (tuple, list):
        for item in node:
            _proxies(item, found)
    elif type(node) is dict:
        for item in node.values():
            _proxies(item, found)
