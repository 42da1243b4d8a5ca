"""Cutting a language model into stages: its embeddings, then each of its blocks; no class per architecture is needed.

A transformer of the library transformers is embeddings, a list of blocks that run in order, and little after them. What a block is
given beside the hidden states (masks, positions) depends on the mask of the inputs alone, so it is taken from the model's own
forward pass, and the blocks are run by us. Whether that gives what the model gives is checked when it is cut.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

from acclimate.core.errors import fail
from acclimate.core.tree import Tree
from acclimate.models.backbone import Backbone, Stage
from acclimate.models.swap import swapped
from acclimate.models.trace import TRUNK, Reached

READ = 4
"""The last blocks whose states are pooled, for a head that may join them."""
POOLED = ("edge", "mean", "max")
"""How states are pooled over the tokens of a text: the first token, or the last where a token sees only those before it; the mean; the
largest value."""
EMBEDDINGS = "embeddings"
TRIM = 0.7
"""The table of tokens is trained whole where more than this share of it occurs."""


def cut(module: nn.Module, example: Tree) -> Backbone:
    """The module as a backbone, in eval mode; stages are "embeddings" and each block by its name; features are pooled states.

    Boundary 0 is {"input_ids", "attention_mask"[, "token_type_ids"]}, int64 [B, T], a text's tokens side by side; boundary k
    {"states": [B, T, D], "mask": bool [B, T], "read": [B, blocks read so far, len(POOLED), D]}; the features
    [B, READ * len(POOLED), D], the last block's first. Raises `UserError` for a module that is not made of blocks.
    """
    module.eval()
    config: Any = getattr(module, "config", None)
    if config is not None:
        config.use_cache = False
    names = _blocks(module)
    if not names:
        raise fail(f"model {type(module).__name__}", "is not a row of blocks, so it cannot be cut", "use another model")
    tuples, after, dropped = _observe(module, names, example)
    for name in _unused_modules(module, dropped):
        parent, _, own = name.rpartition(".")
        setattr(module.get_submodule(parent), own, None)
    program = BlockProgram(names, after, tuples, _is_causal(module, names, example))
    stages = _stages(module, names, after)
    backbone = Backbone(module, stages, program, dropped=tuple(dropped)).eval()
    _check(backbone, example)
    return backbone


def _blocks(module: nn.Module) -> tuple[str, ...]:
    """Names of the blocks: the largest list of modules of one class."""
    lists = [
        (sum(parameter.numel() for parameter in each.parameters()), name, each)
        for name, each in module.named_modules()
        if isinstance(each, nn.ModuleList) and len(each) > 1 and len({type(block) for block in each}) == 1
    ]
    if not lists:
        return ()
    _, name, each = max(lists, key=lambda found: found[0])
    return tuple(f"{name}.{i}" for i in range(len(each)))


def _observe(module: nn.Module, names: tuple[str, ...], example: Tree) -> tuple[int, tuple[str, ...], list[str]]:
    """(how many things a block returns in a tuple, 0 for the states alone; the modules that run after the last block; the parameters
    that the states do not depend on)."""
    last = module.get_submodule(names[-1])
    seen: list[int] = []
    after: list[str] = []
    hooks = [
        last.register_forward_hook(lambda _m, _i, output: seen.append(len(output) if isinstance(output, tuple) else 0))
    ]
    for name, part in module.named_modules():
        if not any(True for _ in part.children()) and next(part.parameters(), None) is not None:
            hooks.append(part.register_forward_hook(lambda *_, name=name: after.append(name) if seen else None))
    try:
        with torch.enable_grad():
            states = _states(module(**example))
            parameters = dict(module.named_parameters())
            reached = torch.autograd.grad(states.sum(), list(parameters.values()), allow_unused=True)
    finally:
        for hook in hooks:
            hook.remove()
    dropped = [name for name, slope in zip(parameters, reached, strict=True) if slope is None]
    used = [name for name in after if not any(f"{name}.{own}" in dropped for own, _ in _own(module, name))]
    return seen[0], tuple(dict.fromkeys(used)), dropped


def _own(module: nn.Module, name: str) -> Iterator[tuple[str, nn.Parameter]]:
    return module.get_submodule(name).named_parameters(recurse=False)


def _states(output: Any) -> torch.Tensor:
    return output.last_hidden_state if hasattr(output, "last_hidden_state") else output[0]


def _unused_modules(module: nn.Module, dropped: list[str]) -> list[str]:
    """The children of the module none of whose parameters has a part in the states: a pooler, say."""
    unused = set(dropped)
    found = []
    for name, child in module.named_children():
        own = [f"{name}.{inner}" for inner, _ in child.named_parameters()]
        if own and set(own) <= unused:
            found.append(name)
    return found


def _is_causal(module: nn.Module, names: tuple[str, ...], example: Tree) -> bool:
    """Whether a token sees only those before it: another last token then changes nothing at the first."""
    one = {name: leaf[:1] for name, leaf in example.items()}
    other = {**one, "input_ids": torch.cat([one["input_ids"][:, :-1], (one["input_ids"][:, -1:] - 1).abs()], dim=1)}
    with torch.no_grad():
        first, second = _states(module(**one)), _states(module(**other))
    return torch.equal(first[:, 0], second[:, 0])


def _stages(module: nn.Module, names: tuple[str, ...], after: tuple[str, ...]) -> tuple[Stage, ...]:
    parameters = dict(module.named_parameters())
    buffers = [name for name in module.state_dict() if name not in parameters]

    def stage_of(name: str) -> int:
        inside = [i for i, block in enumerate(names, start=1) if name.startswith(f"{block}.")]
        return inside[0] if inside else len(names) if name.rpartition(".")[0] in after else 0

    def named(number: int, all_names: Any) -> tuple[str, ...]:
        return tuple(f"{TRUNK}.{name}" for name in all_names if stage_of(name) == number)

    outside = [name for name, part in module.named_modules() if name and not any(True for _ in part.children())]
    modules = [tuple(f"{TRUNK}.{name}" for name in outside if stage_of(f"{name}.") == 0 and name not in after)]
    modules += [(f"{TRUNK}.{name}",) for name in names]
    modules[-1] += tuple(f"{TRUNK}.{name}" for name in after)
    titles = (EMBEDDINGS, *names)
    return tuple(
        Stage(title, named(number, parameters), named(number, buffers), modules[number])
        for number, title in enumerate(titles)
    )


def _check(backbone: Backbone, example: Tree) -> None:
    """Stage by stage the features are those of the model's own forward pass."""
    program: Any = backbone.program
    with torch.no_grad():
        states = _states(backbone.trunk(**program.inputs(backbone, example)))
        wanted = pool(states, example["attention_mask"].bool(), program.causal)
        state = example
        for stage in range(len(backbone.stages)):
            state = backbone.run(state, stage, stage + 1)
            if stage + 1 < len(backbone.stages):
                state = backbone.join(backbone.split(state))
    if not torch.allclose(state[:, : len(POOLED)], wanted, rtol=1e-3, atol=1e-4):
        raise fail(
            f"model {type(backbone.trunk).__name__}",
            "computes something between its blocks, so it cannot be cut into them",
            "use another model",
        )


def pool(
    states: torch.Tensor, mask: torch.Tensor, causal: bool, wanted: tuple[bool, ...] | None = None
) -> torch.Tensor:
    """[B, T, D] -> [B, len(POOLED), D], over the tokens that the mask (bool [B, T]) says are there; zeros where not `wanted`."""
    edge, mean, most = wanted or (True, True, True)
    nothing = states.new_zeros(len(states), states.shape[-1])
    rows = torch.arange(len(states), device=states.device)
    found = [nothing, nothing, nothing]
    if edge:
        place = mask.shape[1] - 1 - mask.flip(1).int().argmax(1) if causal else mask.int().argmax(1)
        found[0] = states[rows, place]
    if mean:
        weight = mask.to(states.dtype)
        found[1] = (states * weight[..., None]).sum(1) / weight.sum(1, keepdim=True).clamp_min(1)
    if most:
        found[2] = states.masked_fill(~mask[..., None], float("-inf")).amax(1)
    return torch.stack([each.to(states.dtype) for each in found], dim=1)


def _scattered(rows: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
    """[n, ...] -> [B, W, ...], zero where no window is (`there`: bool [B, W], n of them true)."""
    full = rows.new_zeros(*there.shape, *rows.shape[1:])
    full[there] = rows
    return full


def _window_sample(state: Tree, row: int) -> Tree:
    """One text that is read in windows: its tokens one behind the other, and the lengths of its windows."""
    mask = state["mask"][row]
    lengths = mask.sum(1)
    there = lengths > 0
    sample = {"states": state["states"][row][mask], "windows": lengths[there].to(torch.int32)}
    return {**sample, "read": state["read"][row][there]} if "read" in state else sample


def _window_state(samples: list[Tree]) -> Tree:
    """The inverse."""
    lengths = nn.utils.rnn.pad_sequence([sample["windows"].long() for sample in samples], batch_first=True)
    mask = torch.arange(int(lengths.max())) < lengths[..., None]
    state = {"states": _scattered(torch.cat([sample["states"] for sample in samples]), mask), "mask": mask}
    if "read" in samples[0]:
        state["read"] = _scattered(torch.cat([sample["read"] for sample in samples]), lengths > 0)
    return state


class BlockProgram:
    """Embeddings, then blocks, run in part."""

    def __init__(self, names: tuple[str, ...], after: tuple[str, ...], tuples: int, causal: bool) -> None:
        self.names = names
        self.after = after
        self.tuples = tuples
        self.causal = causal
        self.known: tuple[torch.Tensor, str, list[Any]] | None = None
        """What the blocks were given beside the states, for the mask that was seen last; only without gradients."""

    def segment(self, first: int, last: int) -> Callable[[Any, Tree], Tree]:
        return partial(self._run, first, last)

    def split(self, state: Tree) -> list[Tree]:
        if isinstance(state, torch.Tensor):
            return list(state)
        if state["mask"].ndim == 3:
            return [_window_sample(state, row) for row in range(len(state["mask"]))]
        lengths = state["mask"].sum(1).tolist()
        return [
            {"states": state["states"][row, :length], **({"read": state["read"][row]} if "read" in state else {})}
            for row, length in enumerate(lengths)
        ]

    def join(self, samples: list[Tree]) -> Tree:
        if isinstance(samples[0], torch.Tensor):
            return torch.stack(samples)
        if "windows" in samples[0]:
            return _window_state(samples)
        states = nn.utils.rnn.pad_sequence([sample["states"] for sample in samples], batch_first=True)
        lengths = torch.tensor([len(sample["states"]) for sample in samples])
        state = {"states": states, "mask": torch.arange(states.shape[1]) < lengths[:, None]}
        if "read" in samples[0]:
            state["read"] = torch.stack([sample["read"] for sample in samples])
        return state

    def inputs(self, backbone: Any, state: Tree) -> dict[str, torch.Tensor]:
        """What the model's own forward takes; positions count the tokens that are there, whichever side is padded."""
        taken = inspect.signature(backbone.trunk.forward).parameters
        given = {name: leaf for name, leaf in state.items() if name in taken}
        if self.causal and "position_ids" in taken:
            given["position_ids"] = (state["attention_mask"].long().cumsum(1) - 1).clamp_min(0)
        return given

    def _run(self, first: int, last: int, backbone: Any, state: Tree) -> Tree:
        mask = state["attention_mask"].bool() if first == 0 else state["mask"]
        if mask.ndim == 3:
            return self._run_windows(first, last, backbone, state, mask)
        given = {"input_ids": torch.zeros_like(mask, dtype=torch.long), "attention_mask": mask.long()} | state
        hidden, calls = self._calls(backbone, given, mask, first)
        hidden = state["states"] if first else hidden
        read = [state["read"]] if "read" in state else []
        wanted = None if backbone.reads is None else backbone.reads.tolist()
        for number in range(max(first - 1, 0), last - 1):
            arguments, named = calls[number]
            out = backbone.get_submodule(f"{TRUNK}.{self.names[number]}")(hidden, *arguments, **named)
            hidden = out[0] if self.tuples else out
            depth = len(self.names) - 1 - number
            if depth == 0:
                for name in self.after:
                    hidden = backbone.get_submodule(f"{TRUNK}.{name}")(hidden)
            if depth < READ:
                own = None if wanted is None else tuple(wanted[depth * len(POOLED) : (depth + 1) * len(POOLED)])
                read.append(pool(hidden, mask, self.causal, own)[:, None])
        if last == len(self.names) + 1:
            return torch.cat([part.to(hidden.dtype) for part in read], dim=1).flip(1).flatten(1, 2)
        new = {"states": hidden, "mask": mask}
        return {**new, "read": torch.cat([part.to(hidden.dtype) for part in read], dim=1)} if read else new

    def _run_windows(self, first: int, last: int, backbone: Any, state: Tree, mask: torch.Tensor) -> Tree:
        """Windows are run as texts of their own; the features of a text are the mean of its windows'."""
        there = mask.any(2)
        flat = {name: leaf[there] for name, leaf in state.items()}
        out = self._run(first, last, backbone, flat)
        if isinstance(out, torch.Tensor):
            return _scattered(out, there).sum(1) / there.sum(1)[:, None, None]
        return {"mask": mask, **{name: _scattered(leaf, there) for name, leaf in out.items() if name != "mask"}}

    def _calls(self, backbone: Any, given: Tree, mask: torch.Tensor, first: int) -> tuple[torch.Tensor, list[Any]]:
        """(the states at boundary 1, where `first` is 0; what each block is given beside its states)."""
        known = self.known
        attention = str(getattr(backbone.trunk.config, "_attn_implementation", ""))  # decides what a mask looks like
        if first and known is not None and not torch.is_grad_enabled() and (known[0] is mask and known[1] == attention):
            return mask, known[2]
        calls: list[Any] = []
        with self._recording(backbone, calls):
            try:
                backbone.trunk(**self.inputs(backbone, given))
            except Reached as reached:
                hidden = reached.value
        found = [(arguments, named) for _, arguments, named in calls]
        self.known = None if torch.is_grad_enabled() else (mask, attention, found)
        return hidden, found

    @contextmanager
    def _recording(self, backbone: Any, calls: list[Any]) -> Iterator[None]:
        """Inside, blocks hand on what they are given; the last one ends the forward pass with the first one's states."""
        blocks = [backbone.get_submodule(f"{TRUNK}.{name}") for name in self.names]

        def record(*arguments: Any, **named: Any) -> Any:
            hidden = arguments[0] if arguments else named.pop("hidden_states")
            calls.append((hidden, arguments[1:], named))
            if len(calls) == len(blocks):
                raise Reached(calls[0][0])
            return (hidden, *[None] * (self.tuples - 1)) if self.tuples else hidden

        with swapped(dict.fromkeys(blocks, record)):
            yield

    def trimmed(self, backbone: Any, ids: torch.Tensor) -> AbstractContextManager[None]:
        return trimmed(backbone.trunk.get_input_embeddings(), ids)


@contextmanager
def trimmed(table: nn.Embedding, ids: torch.Tensor) -> Iterator[None]:
    """Inside, the table of tokens is a new, small parameter: the rows of these ids; other ids raise IndexError.

    So its gradient, norm and update are not over a vocabulary of which most never occurs. Equal to training the whole table but
    for weight decay, which the rows left out do not get. Afterwards the rows are written back.
    """
    whole, padding = table.weight, table.padding_idx
    used = torch.cat([ids, ids.new_tensor([0] if padding is None else [0, padding])]).unique().to(whole.device)
    if not whole.requires_grad or len(used) > TRIM * len(whole):
        yield
        return
    place = torch.full((len(whole),), len(used), device=whole.device)
    place[used] = torch.arange(len(used), device=whole.device)
    looked_up = table.forward  # its own, which may scale what it finds (Gemma)
    table.weight, table.padding_idx = (
        nn.Parameter(whole.detach()[used]),
        None if padding is None else int(place[padding]),
    )
    try:
        with swapped({table: lambda x: looked_up(place[x])}):
            yield
    finally:
        with torch.no_grad():
            whole[used] = table.weight.detach()
        table.weight, table.padding_idx = whole, padding
