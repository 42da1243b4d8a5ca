"""What the benchmarks share: the data folder, the machine in a line, and a table that grows as rows come in."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from acclimate.core import device


def folder(path: str) -> Path:
    """A data folder given on the command line; leaves with a clear line where it is not there."""
    found = Path(path)
    if not found.is_dir():
        print(f"skipped: {path} is not there; the docstring of this benchmark says where the public can get the data")
        sys.exit(0)
    return found


def machine() -> str:
    """Processor, threads and torch: what a figure belongs to."""
    return f"machine: {device.machine_key()}, torch threads {torch.get_num_threads()}"


def show(title: str, header: Sequence[str], rows: Sequence[Sequence[Any]], *, begin: bool = True) -> None:
    """Markdown rows, printed at once; `begin`: title and header before them."""
    if begin:
        print(f"\n{title}\n\n| {' | '.join(header)} |\n|{' --- |' * len(header)}", flush=True)
    for row in rows:
        print(f"| {' | '.join(map(str, row))} |", flush=True)


def side_by_side(sides: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each side in each round, the sides in turn, so that a noisy neighbour meets all of them."""
    found: dict[str, list[float]] = {name: [] for name in sides}
    for side in sides.values():
        side()  # warm up
    for _ in range(rounds):
        for name, side in sides.items():
            began = time.perf_counter()
            side()
            found[name].append(time.perf_counter() - began)
    return found


def ratio(times: dict[str, list[float]], above: str, below: str) -> float:
    """The median over the rounds of above / below, pair by pair."""
    return statistics.median(a / b for a, b in zip(times[above], times[below], strict=True))
