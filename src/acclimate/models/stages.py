"""Cutting a module into stages: from its own forward pass, traced, not from a class per architecture."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import fx, nn

from acclimate.core.tree import Tree, leaves, map_tree
from acclimate.models.backbone import Backbone, Stage
from acclimate.models.classifier import find_classifier
from acclimate.models.program import Boundary, GraphProgram, Uncuttable, boundary, crossing, dependence
from acclimate.models.trace import TRUNK, Untraceable, attribute, call, evaluate, guard, trace
from acclimate.models.whole import BODY, whole

ENOUGH = 4
"""Modules are opened until this many composite units are seen."""


def cut(module: nn.Module, example: Tree, headless: bool = False) -> Backbone:
    """The module as a backbone, in eval mode. It is taken over: its classifier and what never runs are taken out.

    `headless`: the module has no classifier, and none is looked for: with random weights, which may bring all values near to zero, any
    layer could be taken for one.

    `example`: an input batch (a tensor [batch, ...], or a dict of inputs by name) of the size that will be used;
    another size works where the module's forward takes it. Stages come from a trace of the forward pass: one starts at
    each unit (a submodule called there) that holds a matrix or a convolution; what runs before the first block belongs
    to the first stage. A module that cannot be traced is one stage. What the module raises for `example` is raised.
    """
    module.eval()
    two, three = _rows(example, 2), _rows(example, 3)
    classifier = None if headless else find_classifier(module, two)
    try:
        graph, constants = _open(module, two, classifier)
        return _assemble(module, graph, constants, three, classifier)
    except (Untraceable, Uncuttable):
        with torch.no_grad():
            call(module, two)
        return whole(module, classifier)


def _rows(example: Tree, count: int) -> Tree:
    def repeat(leaf: torch.Tensor) -> torch.Tensor:
        return leaf[[row % len(leaf) for row in range(count)]]

    return map_tree(repeat, example)


def _open(module: nn.Module, example: Tree, classifier: str | None) -> tuple[fx.Graph, dict[str, Any]]:
    """A trace of the module, opened until there are enough composite units."""
    stop = module.get_submodule(classifier) if classifier else None
    opened = {"", *_ancestors(classifier or "")}
    closed: set[str] = set()
    traced = trace(module, example, opened, stop)
    while True:
        units = [name for name in _units(traced[0]) if name not in opened]
        if sum(_is_composite(module.get_submodule(name)) for name in units) >= ENOUGH:
            return traced
        larger = [name for name in units if name not in closed and _can_open(module.get_submodule(name))]
        if not larger:
            return traced
        largest = max(larger, key=lambda name: _size(module.get_submodule(name)))
        try:
            traced = trace(module, example, opened | {largest}, stop)
            opened.add(largest)
        except Untraceable:
            closed.add(largest)


def _ancestors(name: str) -> Iterator[str]:
    parts = name.split(".")
    return (".".join(parts[:depth]) for depth in range(1, len(parts)))


def _units(graph: fx.Graph) -> list[str]:
    """Names of the submodules that the graph calls, in order."""
    calls = (str(node.target).removeprefix(f"{TRUNK}.") for node in graph.nodes if node.op == "call_module")
    return list(dict.fromkeys(calls))


def _is_composite(unit: nn.Module) -> bool:
    holders = (part for part in unit.modules() if next(part.parameters(recurse=False), None) is not None)
    return len(list(holders)) >= 2


def _can_open(unit: nn.Module) -> bool:
    return any(next(child.parameters(), None) is not None for child in unit.children())


def _size(unit: nn.Module) -> int:
    return sum(parameter.numel() for parameter in unit.parameters())


def _starts_stage(unit: nn.Module) -> bool:
    return any(sum(side > 1 for side in parameter.shape) >= 2 for parameter in unit.parameters())


def _assemble(
    module: nn.Module, graph: fx.Graph, constants: dict[str, Any], other: Tree, classifier: str | None
) -> Backbone:
    root = nn.Module()
    root.add_module(TRUNK, module)
    for name, value in constants.items():
        root.register_buffer(name, value, persistent=False)
    _sweep(graph)
    values = _values(root, graph, other)
    _check(module, other, classifier, values)
    nodes = [node for node in graph.nodes if node.op not in ("placeholder", "output")]
    starts, boundaries = _cuts(root, graph, nodes, values)
    dropped = tuple(name for name in _prune(root, nodes) if name.rpartition(".")[0] != classifier)
    stages = _describe(root, nodes, starts)
    for node in graph.nodes:
        node.meta.clear()
    backbone = Backbone(module, stages, GraphProgram(graph, starts, boundaries), dropped=dropped, classifier=classifier)
    for name, value in constants.items():
        backbone.register_buffer(name, value, persistent=False)
    return backbone.eval()


def _sweep(graph: fx.Graph) -> None:
    """Take out nodes that nothing needs, but for those that check or write in place."""
    for node in reversed(list(graph.nodes)):
        if not node.users and node.op not in ("placeholder", "output") and not _has_effect(node):
            graph.erase_node(node)


def _has_effect(node: fx.Node) -> bool:
    if node.op == "call_method":
        return str(node.target).endswith("_") and not str(node.target).endswith("__")
    return node.op == "call_function" and (node.target in (guard, torch._assert) or bool(node.kwargs.get("inplace")))


def _cuts(
    root: nn.Module, graph: fx.Graph, nodes: list[fx.Node], values: dict[fx.Node, Any]
) -> tuple[list[int], list[Boundary]]:
    """Where the stages start, and what crosses there: cuts that cannot be kept by rows are left out."""
    depends = dependence(graph)
    entry, output = next(iter(graph.nodes)), next(iter(reversed(graph.nodes)))
    batches = (len(leaves(entry.meta["value"])[0]), len(leaves(values[entry])[0]))
    starts = [0]
    boundaries = [Boundary((entry,), ("tensor",))]
    for start in _candidates(root, nodes):
        try:
            crossed = boundary(crossing(nodes, start, [output], depends), values, batches)
        except Uncuttable:
            continue
        starts.append(start)
        boundaries.append(crossed)
    features = output.args[0]
    boundaries.append(boundary([features], values, batches))
    return starts, boundaries


def _values(root: nn.Module, graph: fx.Graph, inputs: Tree) -> dict[fx.Node, Any]:
    """The value of every node for other inputs."""
    values: dict[fx.Node, Any] = {}
    with torch.no_grad():
        for node in graph.nodes:
            values[node] = inputs if node.op == "placeholder" else evaluate(node, root, values.__getitem__)
    return values


def _check(module: nn.Module, inputs: Tree, classifier: str | None, values: dict[fx.Node, Any]) -> None:
    """The graph computes what the module does, for a batch that it was not traced with.

    Raises Untraceable.
    """
    seen: list[Tree] = []
    layer = module.get_submodule(classifier) if classifier else nn.Identity()
    hook = layer.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.no_grad():
        seen.insert(0, call(module, inputs))
    hook.remove()
    features = next(value for node, value in values.items() if node.op == "output")
    for one, two in zip(leaves(seen[-1]), leaves(features), strict=True):
        if one.shape != two.shape or not torch.allclose(one, two, rtol=1e-3, atol=1e-4, equal_nan=True):
            raise Untraceable("the traced forward pass gives other features")


def _candidates(root: nn.Module, nodes: list[fx.Node]) -> list[int]:
    """Positions of the units that start a stage (but the first), where no unit is called on both sides."""
    calls: dict[str, list[int]] = {}
    for position, node in enumerate(nodes):
        if node.op == "call_module":
            calls.setdefault(str(node.target), []).append(position)
    units = {name: root.get_submodule(name) for name in calls}
    first = {places[0]: name for name, places in calls.items()}
    starting = [place for place, name in first.items() if _starts_stage(units[name])]
    composite = [place for place, name in first.items() if _is_composite(units[name])]
    inside = starting[1:] if not composite else [place for place in starting if place >= min(composite)]
    if starting and inside and starting[0] == inside[0]:
        inside = inside[1:]
    shared = [
        (places[0], places[-1]) for name, places in calls.items() if next(units[name].parameters(), None) is not None
    ]
    return [place for place in inside if not any(begin < place <= end for begin, end in shared)]


def _describe(root: nn.Module, nodes: list[fx.Node], starts: list[int]) -> tuple[Stage, ...]:
    """What runs in each stage, and what it holds: a weight belongs to the stage that uses it first."""
    place = {node: position for position, node in enumerate(nodes)}
    for node in nodes:
        if node.op == "get_attr":
            place[node] = min(place[user] for user in node.users if user in place)
    kept = root.state_dict()
    names: dict[int, list[str]] = {}
    for name, tensor in _named_tensors(root):
        if name in kept:
            names.setdefault(id(tensor), []).append(name)
    stages = []
    for start, end in pairwise([*starts, len(nodes)]):
        here = [node for node in nodes if start <= place[node] < end]
        modules = tuple(dict.fromkeys(str(node.target) for node in here if node.op == "call_module"))
        held = [(tensor, names.pop(id(tensor), [])) for node in here for tensor in _tensors(root, node)]
        stages.append(
            Stage(
                name=_stage_name(root, modules),
                parameters=tuple(name for tensor, found in held if isinstance(tensor, nn.Parameter) for name in found),
                buffers=tuple(name for tensor, found in held if not isinstance(tensor, nn.Parameter) for name in found),
                modules=modules,
            )
        )
    return tuple(stages)


def _stage_name(root: nn.Module, modules: tuple[str, ...]) -> str:
    starting = (name for name in modules if _starts_stage(root.get_submodule(name)))
    return next(starting, (modules or (BODY,))[0]).removeprefix(f"{TRUNK}.")


def _named_tensors(root: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    yield from root.named_parameters(remove_duplicate=False)
    yield from root.named_buffers(remove_duplicate=False)


def _tensors(root: nn.Module, node: fx.Node) -> list[torch.Tensor]:
    """The parameters and buffers that a node reads."""
    if node.op == "call_module":
        unit = root.get_submodule(str(node.target))
        return [*unit.parameters(), *unit.buffers()]
    if node.op == "get_attr":
        value = attribute(root, str(node.target))
        return [value] if isinstance(value, torch.Tensor) else []
    return []


def _prune(root: nn.Module, nodes: list[fx.Node]) -> list[str]:
    """Take out every tensor and submodule that no node reaches; the names of what was taken, as the trunk had them."""
    used = {id(tensor) for node in nodes for tensor in _tensors(root, node)}
    units = {str(node.target) for node in nodes if node.op == "call_module"}
    reached = {
        path for node in nodes if node.op in ("call_module", "get_attr") for path in _ancestors(str(node.target))
    }
    gone: list[str] = []

    def visit(part: nn.Module, path: str) -> None:
        for table in (part._parameters, part._buffers):
            for name, value in list(table.items()):
                if value is not None and id(value) not in used:
                    gone.append(f"{path}.{name}")
                    table[name] = None
        for name, child in list(part.named_children()):
            full = f"{path}.{name}"
            if full in units:
                continue
            if full in reached:
                visit(child, full)
            else:
                gone.extend(f"{full}.{inner}" for inner, tensor in _named_tensors(child) if id(tensor) not in used)
                del part._modules[name]

    visit(root.get_submodule(TRUNK), TRUNK)
    return [name.removeprefix(f"{TRUNK}.") for name in gone]
