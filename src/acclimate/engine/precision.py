"""`Precision`: the arithmetic that is fast for a net on this machine, measured in a moment, remembered, replayable."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from acclimate.core.device import machine_key
from acclimate.core.errors import fail, near
from acclimate.core.places import cache_folder
from acclimate.core.run import write_whole
from acclimate.core.tree import Tree, leaves, map_tree
from acclimate.engine import convolution, linear
from acclimate.engine.attention import attending, is_transformer
from acclimate.engine.layers import Call, Fused, forwards, trace
from acclimate.models.backbone import dense
from acclimate.models.swap import swapped

ASKED = ("auto", "fp32", "bf16")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
VERSION = 2
"""Of what is remembered: raised where the same choice would compute something else."""
GAIN, WORTH = 1.1, 1e-4
"""What is tried first is kept unless another way is this many times as fast, and these seconds faster beside.

This makes it rare that noise decides, not impossible: small nets, where nothing is clearly
faster, still come out differently now and then. A run is repeated by its recorded choice, not by measuring again.
"""
TURNS, MOST_TURNS, MOMENT = 3, 30, 0.005
"""Of each timing: fewest runs, most runs, and seconds that it takes in all, about, where a run is shorter."""
BEHIND = 1.5
"""Who takes this many times as long as the fastest is timed no more."""
SLOW, FAR = 2.0, 3.0
"""Seconds from which a first run, which prepares kernels too, says enough of who takes so many times as long as the fastest."""
SAMPLES, LONG = 32, 0.03
"""Most samples of the example that are timed; fewer, at least two, where plain inference takes more seconds than this."""
NUMBERS = 2048
"""Where a sample is smaller than so many numbers (a text of a few tokens), enough are timed to make them: a lone one says nothing."""

_SWAPS: WeakKeyDictionary[nn.Module, dict[str, dict[nn.Module, Callable[..., Any]]]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Precision:
    """What to compute in, JSON-serialisable. The default is plain fp32. The same choice gives the same bits again.

    `forward`, `train`: "fp32" or "bf16" (autocast; parameters, their gradients and the optimizer stay in fp32).
    `channels_last`: pictures and maps lie in memory with the channels together.
    """

    device: str = "cpu"
    forward: str = "fp32"
    train: str = "fp32"
    channels_last: bool = False
    fused: Fused = ()
    """Layers that run as one on the CPU: (convolution, frozen batch norm[, activation])."""
    linear: bool = False
    """Linear layers, attention and dropout of transformers run our way on the CPU."""
    ways: dict[str, dict[str, str]] = field(default_factory=dict)
    """How each part of a kind of convolution is computed in training, where plain would be slow."""
    why: str = ""

    def json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, data: dict[str, Any]) -> Precision:
        """The inverse of `json`."""
        return cls(**{**data, "fused": tuple(map(tuple, data["fused"]))})

    @property
    def key(self) -> str:
        """Names everything that changes the bits of a forward pass without gradients."""
        layers = hashlib.blake2b(repr(self.fused).encode(), digest_size=8).hexdigest() if self.fused else "plain"
        return f"{VERSION} {self.device} {self.forward} {'channels last' if self.channels_last else ''} {layers} {self.linear}"

    def move(self, tree: Tree, device: torch.device | None = None) -> Tree:
        """The tree on the device, laid out as it will be read; floating-point leaves (cached ones are bf16) as fp32."""

        def one(leaf: Tensor) -> Tensor:
            kind = torch.float32 if leaf.is_floating_point() else leaf.dtype
            leaf = leaf.to(device or self.device, kind, non_blocking=True)
            pictures = self.channels_last and leaf.ndim == 4 and leaf.is_floating_point()
            return leaf.contiguous(memory_format=torch.channels_last if pictures else torch.contiguous_format)

        return map_tree(one, tree)

    @contextmanager
    def training(self, net: nn.Module) -> Iterator[None]:
        """Inside, forward and backward passes of the net are computed this way."""
        with self._context(net, self.train, self.ways):
            yield

    @contextmanager
    def inference(self, net: nn.Module) -> Iterator[None]:
        """Inside, forward passes of the net (or of its backbone) without gradients are computed this way."""
        with self._context(net, self.forward, {}):
            yield

    @contextmanager
    def _context(self, net: nn.Module, dtype: str, ways: dict[str, dict[str, str]]) -> Iterator[None]:
        swap: dict[nn.Module, Callable[..., Any]] = {}
        if self.device == "cpu" and self.channels_last and convolution.available(DTYPES[dtype]):
            known = _SWAPS.setdefault(net, {})
            name = repr((self.fused, dtype, ways))
            if name not in known:
                known[name] = forwards(net, self.fused, ways, DTYPES[dtype])
            swap = known[name]
        with ExitStack() as stack:
            if self.linear and linear.available(DTYPES[dtype]):
                known = _SWAPS.setdefault(net, {})
                if f"linear {dtype}" not in known:
                    known[f"linear {dtype}"] = linear.forwards(net, DTYPES[dtype])
                swap = known[f"linear {dtype}"]
                stack.enter_context(attending(net, DTYPES[dtype]))
            stack.enter_context(swapped(swap))
            stack.enter_context(torch.autocast(self.device, torch.bfloat16, enabled=dtype == "bf16"))
            yield

    @classmethod
    def measure(
        cls,
        net: nn.Module,
        example: Tree,
        device: torch.device | str = "cpu",
        *,
        asked: str = "auto",
        remember: bool = True,
    ) -> Precision:
        """The fastest precision for training (the parameters that require gradients) and inference of `net(example)`.

        `example`: an input batch, of which a few samples are used. `asked`: "fp32" or "bf16" fixes the arithmetic, not
        the way it is done; anything else but "auto" raises `UserError`. With `remember` a choice once made on this
        machine for this net, size and trained part is taken again (machine.json in the cache folder). The net is left
        as it was; no random number is drawn from the global generators.
        """
        if asked not in ASKED:
            raise fail(f"--precision {asked}", "is not a known precision", near(asked, ASKED))
        name = torch.device(device).type
        signature = _signature(net, example, name, asked)
        if remember and (found := _recall(signature)):
            return cls.of(found)
        with undisturbed(net):
            chosen = _choose(net, cls(name).move(example, torch.device(device)), name, asked)
        if remember:
            return cls.of(_remember(signature, chosen.json()))
        return chosen


def forget(net: Any) -> None:
    """To be called where layers of a net with a backbone were put in or taken out: what was swapped in for the old ones is stale."""
    for module in (net, net.backbone):
        _SWAPS.pop(module, None)


# --- choosing


def _choose(net: nn.Module, example: Tree, device: str, asked: str) -> Precision:
    """The fastest way to train, then the fastest arithmetic to infer in."""
    trained = _trained(net)

    def infer(one: Precision, batch: Tree) -> None:
        with torch.inference_mode(), one.inference(net):
            dense(net, one.move(batch))

    def step(one: Precision, batch: Tree) -> None:
        with one.training(net):
            outputs = [leaf for leaf in leaves(dense(net, one.move(batch))) if leaf.is_floating_point()]
            loss = torch.stack([leaf.float().square().mean() for leaf in outputs]).sum()
        torch.autograd.grad(loss, trained, allow_unused=True)

    few = _first(example, 2)
    run = step if trained else infer
    dtypes, refused = _able(lambda one: run(one, few), device, _dtypes(device, asked))
    if not dtypes:
        raise fail(f"--precision {asked}", f"is beyond this model ({refused})", "use --precision fp32 or auto")
    plain = partial(infer, Precision(device), few)
    seconds = min(_seconds(plain) for _ in range(2)) / len(leaves(few)[0])
    fewest = max(2, min(SAMPLES, NUMBERS // leaves(few)[0][0].numel()))
    some = _first(example, max(fewest, min(SAMPLES, int(LONG / seconds))))
    candidates = _candidates(net, some, device, dtypes, bool(trained))
    place, times = _fastest([partial(run, one, some) for one in candidates])
    gain = times[candidates.index(Precision(device, dtypes[0], dtypes[0]))] / times[place]
    best = candidates[place]
    if trained:
        both = [replace(best, forward=dtype) for dtype in dtypes]
        best = both[_fastest([partial(infer, one, some) for one in both])[0]]
    return replace(best, why=_why(best, dtypes[0], gain) + (f"; {refused}" if refused else ""))


def _trained(net: nn.Module) -> list[nn.Parameter]:
    """What learns, but for tables of tokens: their gradients, which training trims, take as long in every arithmetic, and much memory."""
    tables = {id(module.weight) for module in net.modules() if isinstance(module, nn.Embedding)}
    return [parameter for parameter in net.parameters() if parameter.requires_grad and id(parameter) not in tables]


def _dtypes(device: str, asked: str) -> list[str]:
    able = device != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)
    if asked == "bf16" and not able:
        raise fail("--precision bf16", "is beyond this accelerator", "use --precision fp32 or auto")
    return [asked] if asked != "auto" else ["fp32", "bf16"] if able else ["fp32"]


def _able(run: Callable[[Precision], None], device: str, dtypes: list[str]) -> tuple[list[str], str]:
    """The arithmetics that the net runs in, and why another does not: architectures exist that were written for fp32 alone."""
    able, refused = [], ""
    for dtype in dtypes:
        try:
            if dtype != "fp32":
                run(Precision(device, dtype, dtype))
            able.append(dtype)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, TypeError) as error:
            refused = f"its architecture does not run in {dtype}: {str(error).splitlines()[0]}"
    return able, refused


def _candidates(net: nn.Module, some: Tree, device: str, dtypes: list[str], trains: bool) -> list[Precision]:
    """fp32 first: where nothing is gained, exact arithmetic is the better one."""
    plain = [Precision(device, dtype, dtype) for dtype in dtypes]
    if device != "cpu":
        maps = any(isinstance(module, nn.Conv2d) for module in net.modules())
        return plain + [replace(one, channels_last=True) for one in plain if maps]
    few = _first(some, 2)
    calls, fused = trace(net, few) if convolution.available(torch.float32) else ([], ())
    if not calls:
        able = is_transformer(net) and _equal(net, few, Precision(), Precision(linear=True))
        fast = [able and linear.available(DTYPES[one.train]) for one in plain]
        return [
            way for one, ours in zip(plain, fast, strict=True) for way in (one, replace(one, linear=True))[: 1 + ours]
        ]
    if not _equal(net, few, Precision(), Precision(channels_last=True, fused=fused)):
        fused = ()
    ours = [
        replace(
            one,
            channels_last=True,
            fused=fused,
            ways=_ways(calls, len(leaves(some)[0]), DTYPES[one.train]) if trains else {},
        )
        if convolution.available(DTYPES[one.train])
        else one
        for one in plain
    ]
    return [ours[0], plain[0], *ours[1:]]


def _equal(net: nn.Module, few: Tree, *both: Precision) -> bool:
    """Whether two ways give the same outputs up to rounding; a layer that does more than it seems would show here."""
    outputs = []
    for one in both:
        with torch.no_grad(), one.inference(net):
            outputs.append(leaves(dense(net, one.move(few))))
    return all(torch.dist(a.float(), b.float()) <= 1e-3 * a.float().norm() for a, b in zip(*outputs, strict=True))


def _ways(calls: list[Call], samples: int, dtype: torch.dtype) -> dict[str, dict[str, str]]:
    """Of each kind of convolution, timed at its largest, the parts that are clearly faster another way than plain."""
    found = {}
    for kind in dict.fromkeys(call.kind for call in calls):
        largest = max((call for call in calls if call.kind == kind), key=lambda call: call.work)
        parts = convolution.parts(largest.weight, largest.geometry, (samples, *largest.shape[1:]), dtype)
        chosen = {part: list(ways)[_fastest(list(ways.values()))[0]] for part, ways in parts.items()}
        if any(way != "plain" for way in chosen.values()):
            found[kind] = chosen
    return found


def _fastest(runs: list[Callable[[], object]]) -> tuple[int, list[float]]:
    """Place of the first that is about as fast as the fastest, and the seconds of the shortest run of each.

    They run in turn, so that what disturbs the machine for a while disturbs all of them; who is far behind drops out.
    """
    if len(runs) == 1:
        return 0, [1.0]
    times = [_seconds(run) for run in runs]  # of first runs, which prepare kernels
    racing = [place for place, took in enumerate(times) if took <= max(SLOW, FAR * min(times))]
    for turn in range(1, MOST_TURNS + 1):
        for place in racing:
            times[place] = min(times[place], _seconds(runs[place]))
        if turn > 1:  # one run may have been disturbed
            racing = [place for place in racing if times[place] <= min(times) * BEHIND]
        if len(racing) == 1 or (turn >= TURNS and turn * min(times) > MOMENT):
            break
    return next(place for place, took in enumerate(times) if took <= min(times) * GAIN + WORTH), times


def _seconds(run: Callable[[], object]) -> float:
    """With one thread its own time counts, so that other work on the machine does not sway the choice."""
    alone = torch.get_num_threads() == 1 and not torch.accelerator.is_available()
    clock = time.thread_time if alone else time.perf_counter
    began = clock()
    run()
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
    return clock() - began


def _first(tree: Tree, count: int) -> Tree:
    return map_tree(lambda leaf: leaf[:count].clone(), tree)


def _why(one: Precision, plain: str, gain: float) -> str:
    """The choice in words."""
    faster = f", {gain:.1f} times as fast as {plain} as it comes" if gain > GAIN else ""
    words = [f"trains in {one.train}{faster}; predicts in {one.forward}"]
    if one.linear:
        words.append("linear layers and attention computed our way")
    if one.fused:
        words.append(f"{len(one.fused)} frozen batch norms folded into convolutions")
    for kind, parts in one.ways.items():
        words.append(f"{kind}: " + ", ".join(f"{part} {way}" for part, way in parts.items() if way != "plain"))
    return "; ".join(words)


@contextmanager
def undisturbed(net: nn.Module) -> Iterator[None]:
    """Inside, the net is in eval mode and gradients can be taken; afterwards, its modes are what they were."""
    modes = {module: module.training for module in net.modules()}
    try:
        with torch.inference_mode(False), torch.enable_grad():
            net.eval()
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


# --- remembering


def _signature(net: nn.Module, example: Tree, device: str, asked: str) -> str:
    """Names what the choice depends on, beside the machine: the net, what of it trains, the size of a sample."""
    layers = [(name, type(module).__name__) for name, module in net.named_modules()]
    weights = [(name, tuple(value.shape), value.requires_grad) for name, value in net.named_parameters()]
    sample = [(tuple(leaf.shape[1:]), str(leaf.dtype)) for leaf in leaves(example)]
    content = repr((VERSION, layers, weights, sample, device, asked))
    return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()


def _file() -> Path:
    return cache_folder() / "machine.json"


def _read() -> dict[str, dict[str, Any]]:
    """Machine -> signature -> choice; empty where there is no file or a damaged one."""
    try:
        known = json.loads(_file().read_text())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _recall(signature: str) -> dict[str, Any] | None:
    return _read().get(machine_key(), {}).get(signature)


def _remember(signature: str, choice: dict[str, Any]) -> dict[str, Any]:
    """Keep the choice; what another process kept meanwhile comes first, so that both compute the same bits."""
    known = _read()
    choice = known.setdefault(machine_key(), {}).setdefault(signature, choice)
    with contextlib.suppress(OSError):
        write_whole(_file(), json.dumps(known, indent=1))
    return choice
