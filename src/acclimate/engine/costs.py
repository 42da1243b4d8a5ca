"""What a model costs on this machine, measured: a sample alone and in the best batch, memory, and what it takes on disk."""

from __future__ import annotations

import statistics
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from acclimate.core.tree import Tree, leaves
from acclimate.engine import evaluate
from acclimate.engine.precision import Precision
from acclimate.models.backbone import Net

BATCHES = (1, 8, 32)
WARM, REPEATS, ENOUGH = 1, 15, 0.4
"""Passes that are not timed; those that are, at most, and seconds after which no further one is, nor a larger batch tried."""


@dataclass(frozen=True)
class Costs:
    """`latency`: seconds of one sample alone, the median; `each`: seconds a sample in batches of `batch`, the fastest of `BATCHES`;
    `memory`: bytes of the weights and of what a pass over one sample holds at most; `disk`: bytes of the weights. None: not known."""

    latency: float
    batch: int
    each: float
    memory: int | None
    disk: int | None
    parameters: int | None

    def json(self) -> dict[str, Any]:
        return {
            "latency_ms": 1000 * self.latency,
            "batch": self.batch,
            "batch_ms": 1000 * self.each,
            "memory_bytes": self.memory,
            "disk_bytes": self.disk,
            "parameters": self.parameters,
        }


def measure(net: Net, example: Callable[[int], Tree], precision: Precision, device: torch.device) -> Costs:
    """The net in the arithmetic that it answers in; decoding and preparing are not part of it. `example(n)`: a batch of n samples."""
    net.eval()
    timed, last = dict[int, tuple[float, float]](), 0.0
    for size in BATCHES:
        batch = example(size)
        there = len(leaves(batch)[0])
        if there in timed or (timed and last > ENOUGH):  # there are no more samples, or no more can be gained by them
            break
        passes = seconds(lambda batch=batch: _answer(net, batch, precision, device))  # type: ignore[misc]
        timed[there], last = (statistics.median(passes), min(passes) / there), min(passes)
    best = min(timed, key=lambda size: timed[size][1])
    weights = sum(value.nbytes for value in net.state_dict().values())
    held = peak(lambda: _answer(net, example(1), precision, device), device)
    parameters = sum(value.numel() for value in net.parameters())
    return Costs(timed[min(timed)][0], best, timed[best][1], weights + held, weights, parameters)


def seconds(step: Callable[[], object]) -> list[float]:
    """Of several passes, once it is warm. With one thread its own time counts, so that other work on the machine does not."""
    alone = torch.get_num_threads() == 1 and not torch.accelerator.is_available()
    clock = time.thread_time if alone else time.perf_counter
    for _ in range(WARM):
        step()
    found: list[float] = []
    while len(found) < REPEATS and sum(found) < ENOUGH:
        began = clock()
        step()
        found.append(clock() - began)
    return found


def _answer(net: Net, batch: Tree, precision: Precision, device: torch.device) -> None:
    evaluate.outputs(net, batch, 0, precision, device)
    if device.type != "cpu":
        torch.accelerator.synchronize()


def peak(step: Callable[[], object], device: torch.device) -> int:
    """Bytes of the tensors that `step` makes and holds at the same time, at most; what a library takes inside of one operation is not seen
    on a processor."""
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        step()
        return int(torch.cuda.max_memory_allocated(device) - before)
    with Held() as held:
        step()
    return held.most


class Held(TorchDispatchMode):
    """Counts the bytes of living storages that were made inside of it."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.most = 0, 0
        self.seen: dict[int, int] = {}

    def __torch_dispatch__(self, call: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = call(*args, **(kwargs or {}))
        for leaf in made if isinstance(made, tuple | list) else (made,):
            if isinstance(leaf, torch.Tensor):
                self._count(leaf.untyped_storage())
        return made

    def _count(self, storage: torch.UntypedStorage) -> None:
        name = storage._cdata
        if name not in self.seen:
            self.seen[name] = storage.nbytes()
            self.now += storage.nbytes()
            self.most = max(self.most, self.now)
            weakref.finalize(storage, self._forget, name)

    def _forget(self, name: int) -> None:
        self.now -= self.seen.pop(name, 0)
