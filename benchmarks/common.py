"""What the benchmarks share: arguments, the machine in a line, and a table that grows as rows come in."""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from acclimate.core import device
from acclimate.core.errors import UserError, fail, near


def command(main: Callable[[], None]) -> None:
    """Run a benchmark; wrong input ends it with the message alone and exit code 2."""
    try:
        main()
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


def folders(paths: Iterable[str]) -> list[Path]:
    """The data folders given on the command line; those that are not there are named before anything runs, and left out."""
    found = [Path(path) for path in paths]
    for path in found:
        if not path.is_dir():
            print(
                f"skipped: {path} is not there; the docstring of this benchmark says where the public can get the data"
            )
    return [path for path in found if path.is_dir()]


def positive(text: str) -> int:
    """A number from 1 on, as a type of argparse."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 on")
    return int(text)


def meant(asked: str, names: Iterable[str]) -> list[str]:
    """Of the names those that `--only` means, by name or by how they begin, separated by semicolons; all where it is empty.

    Raises `UserError` where none begins so.
    """
    known = list(names)
    wanted = [one.strip() for one in asked.split(";")]
    for one in wanted:
        if not any(name.startswith(one) for name in known):
            raise fail(f"--only {one!r}", "means none of the sides", near(one, known))
    return [name for name in known if any(name == one if one in known else name.startswith(one) for one in wanted)]


def at_hand(names: list[str], side: str, module: str) -> list[str]:
    """Without those that begin as the side does, where what it needs is not installed, which is said."""
    if importlib.util.find_spec(module):
        return names
    print(f"left out: {side}, which needs {module}: pip install {module}")
    return [name for name in names if not name.startswith(side)]


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


def kept(keep: Path | None, name: dict[str, Any], step: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `step` gives, as JSON; where the file `keep` has noted it under this name, what it gave then."""
    lines = keep.read_text().splitlines() if keep is not None and keep.exists() else []
    noted = next((one["found"] for one in map(json.loads, lines) if one["name"] == name), None)
    if noted is not None:
        return noted
    found = step()
    if keep is not None:
        with keep.open("a") as file:
            file.write(json.dumps({"name": name, "found": found}) + "\n")
    return found
