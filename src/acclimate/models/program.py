"""`GraphProgram`: a traced forward pass cut at nodes, run as one compiled function for each segment."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from acclimate.core.tree import Tree
from acclimate.models.backbone import Rows

INPUT, SHAPE, CONSTANT = "input", "shape", "constant"
"""What a node depends on: the values of the input, its shape alone, or nothing but weights."""


class Uncuttable(Exception):
    """What crosses this cut cannot be kept by rows."""


@dataclass(frozen=True)
class Width:
    """An int crosses a cut as the width of a row of bytes: kept with its sample, read without waiting for a device."""

    per_row: bool
    """True where the int is proportional to the batch: the factor crosses."""


@dataclass(frozen=True)
class Same:
    """A value that is always the same needs not cross."""

    value: Any


@dataclass(frozen=True)
class Folded:
    """A tensor crosses that has `rows` rows a sample: they are kept with their sample."""

    rows: int


TENSOR, DEVICE, DTYPE = "tensor", "device", "dtype"


@dataclass(frozen=True)
class Boundary:
    """The nodes whose values cross a cut, and how each does.

    A form is a tree of TENSOR, Folded, DEVICE, DTYPE, Width and Same.
    """

    nodes: tuple[fx.Node, ...]
    forms: tuple[Any, ...]

    @property
    def plain(self) -> bool:
        """Only tensors cross: the state is the one value, or a tuple of them."""
        return all(part == TENSOR for form in self.forms for part in _parts(form))

    def pack(self, values: tuple[Any, ...]) -> tuple[torch.Tensor, ...]:
        """The values that cross the cut as a flat tuple of tensors, each with the batch first."""
        pairs = list(_pairs(values, self.forms))
        first = next(value for value, form in pairs if form == TENSOR)
        packed = []
        for value, form in pairs:
            if form == TENSOR:
                packed.append(value)
            elif isinstance(form, Folded):
                packed.append(value.unflatten(0, (len(first), form.rows)))
            elif isinstance(form, Width):
                width = value // len(first) if form.per_row else value
                packed.append(torch.zeros((len(first), width), dtype=torch.uint8, device=first.device))
        return tuple(packed)

    def unpack(self, state: tuple[torch.Tensor, ...]) -> tuple[Any, ...]:
        """The inverse of `pack`."""
        rest = iter(state)

        def value(form: Any) -> Any:
            if isinstance(form, tuple | list):
                return type(form)(value(part) for part in form)
            if isinstance(form, dict):
                return {name: value(part) for name, part in form.items()}
            if form in (DEVICE, DTYPE):
                return getattr(state[0], form)
            if isinstance(form, Same):
                return form.value
            leaf = next(rest)
            if isinstance(form, Folded):
                return leaf.flatten(0, 1)
            if isinstance(form, Width):
                return leaf.shape[1] * (len(leaf) if form.per_row else 1)
            return leaf

        return tuple(value(form) for form in self.forms)


class GraphProgram(Rows):
    """Boundary `k` lies before node `starts[k]` of the graph; the last one after the last node."""

    def __init__(self, graph: fx.Graph, starts: Sequence[int], boundaries: Sequence[Boundary]) -> None:
        self.graph = graph
        self.nodes = [node for node in graph.nodes if node.op not in ("placeholder", "output")]
        self.starts = [*starts, len(self.nodes)]
        self.boundaries = list(boundaries)
        self.compiled: dict[tuple[int, int], Callable[[Any, Tree], Tree]] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> GraphProgram:
        return self

    def segment(self, first: int, last: int) -> Callable[[Any, Tree], Tree]:
        if (first, last) not in self.compiled:
            self.compiled[first, last] = self._compile(first, last)
        return self.compiled[first, last]

    @torch.compiler.disable  # torch.compile looks through a segment that has run, and not through its making
    def _compile(self, first: int, last: int) -> Callable[[Any, Tree], Tree]:
        graph = fx.Graph()
        made = _enter(graph, graph.placeholder("state"), self.boundaries[first])

        def copied(node: fx.Node) -> fx.Node:
            if node not in made:  # depends on weights or shapes alone, and costs less than it would to keep
                made[node] = graph.node_copy(node, copied)
            return made[node]

        for node in self.nodes[self.starts[first] : self.starts[last]]:
            copied(node)
        graph.output(_leave(graph, copied, self.boundaries[last]))
        code = graph.python_code("self")
        space = dict(code.globals)
        exec(compile(code.src, f"<stages {first} to {last}>", "exec"), space)
        return space["forward"]


def _enter(graph: fx.Graph, state: fx.Node, boundary: Boundary) -> dict[fx.Node, fx.Node]:
    if boundary.plain and len(boundary.nodes) == 1:
        return {boundary.nodes[0]: state}
    if not boundary.plain:
        state = graph.call_function(boundary.unpack, (state,))
    return {node: graph.call_function(_item, (state, place)) for place, node in enumerate(boundary.nodes)}


def _leave(graph: fx.Graph, copied: Callable[[fx.Node], fx.Node], boundary: Boundary) -> Any:
    values = tuple(copied(node) for node in boundary.nodes)
    if boundary.plain:
        return values[0] if len(values) == 1 else values
    return graph.call_function(boundary.pack, (values,))


def _item(values: Any, place: int) -> Any:
    return values[place]


def _parts(form: Any) -> Iterator[Any]:
    if isinstance(form, tuple | list):
        for part in form:
            yield from _parts(part)
    elif isinstance(form, dict):
        for part in form.values():
            yield from _parts(part)
    else:
        yield form


def _pairs(value: Any, form: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(form, tuple | list):
        for value_, form_ in zip(value, form, strict=True):
            yield from _pairs(value_, form_)
    elif isinstance(form, dict):
        for name in form:
            yield from _pairs(value[name], form[name])
    else:
        yield value, form


def dependence(graph: fx.Graph) -> dict[fx.Node, str]:
    """What each node depends on."""
    found: dict[fx.Node, str] = {}
    for node in graph.nodes:
        among = {found[source] for source in node.all_input_nodes}
        if node.op == "placeholder":
            found[node] = INPUT
        elif not among or among == {CONSTANT}:
            found[node] = CONSTANT
        elif INPUT in among and (_has_tensors(node.meta["value"]) or node.target in ("item", "tolist")):
            found[node] = INPUT
        else:
            found[node] = SHAPE
    return found


def crossing(
    nodes: Sequence[fx.Node], start: int, after: Sequence[fx.Node], depends: dict[fx.Node, str]
) -> list[fx.Node]:
    """The nodes before `nodes[start]` whose values the nodes from there on (and `after`) need, in order of need.

    What depends on weights alone is computed again; so is a tensor that depends on the input's shape alone, from ints.
    """
    before = set(nodes[:start])
    found: dict[fx.Node, None] = {}
    seen: set[fx.Node] = set()

    def need(node: fx.Node) -> None:
        if node in seen or (node not in before and node.op != "placeholder"):
            return
        seen.add(node)
        if depends[node] == CONSTANT or (depends[node] == SHAPE and _has_tensors(node.meta["value"])):
            for source in node.all_input_nodes:
                need(source)
        else:
            found[node] = None

    for node in [*nodes[start:], *after]:
        for source in node.all_input_nodes:
            need(source)
    return sorted(found, key=lambda node: depends[node] != INPUT)


def boundary(nodes: Sequence[fx.Node], other: dict[fx.Node, Any], batches: tuple[int, int]) -> Boundary:
    """How the values of `nodes` cross a cut. `other`: their values in a run with more rows, the first ones the same.

    Raises Uncuttable where a tensor has not the batch first, or a value is neither tensor nor int nor always the same.
    """
    forms = tuple(_form(node.meta["value"], other[node], batches) for node in nodes)
    if not any(form == TENSOR for form in _parts(forms)):
        raise Uncuttable("no tensor crosses")
    return Boundary(tuple(nodes), forms)


def _form(one: Any, two: Any, batches: tuple[int, int]) -> Any:
    if isinstance(one, torch.Tensor):
        return _tensor_form(one, two, batches)
    if isinstance(one, tuple | list) and len(one) == len(two):
        kind = list if isinstance(one, list) else tuple
        return kind(_form(a, b, batches) for a, b in zip(one, two, strict=True))
    if isinstance(one, dict):
        return {name: _form(one[name], two[name], batches) for name in one}
    if isinstance(one, torch.device):
        return DEVICE
    if isinstance(one, torch.dtype):
        return DTYPE
    if isinstance(one, int) and not isinstance(one, bool) and one >= 0:
        if one == two:
            return Width(per_row=False)
        if one * batches[1] == two * batches[0] and one % batches[0] == 0:
            return Width(per_row=True)
    if one is None or (isinstance(one, bool | str | float) and one == two):
        return Same(one)
    raise Uncuttable(f"{type(one).__name__} crosses")


def _tensor_form(one: torch.Tensor, two: torch.Tensor, batches: tuple[int, int]) -> Any:
    rows = len(one) // batches[0] if one.ndim else 0
    by_sample = rows and (len(one), len(two)) == (rows * batches[0], rows * batches[1])
    if by_sample and torch.allclose(two[: len(one)].float(), one.float(), rtol=1e-3, atol=1e-4, equal_nan=True):
        return TENSOR if rows == 1 else Folded(rows)
    raise Uncuttable(f"a tensor of shape {tuple(one.shape)} crosses, whose rows are not the samples")


def _has_tensors(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return any(map(_has_tensors, value))
    if isinstance(value, dict):
        return any(map(_has_tensors, value.values()))
    return isinstance(value, torch.Tensor)
