"""Wall time of the first fit on some data, of the same again, and of other strategies on the same data: whole processes.

    python benchmarks/second_fit.py PICTURES [PICTURES ...] [--rounds 3]

PICTURES: image folders. Each round begins with an empty cache. At most a fifth of the first run's time is the aim.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import command, folders, machine, show

RUNS = {
    "first: auto": [],
    "again: auto": [],
    "another: probe": ["--strategy", "probe"],
    "another: last:1": ["--strategy", "last:1"],
}


def seconds(data: Path, options: list[str], cache: str, out: str) -> float:
    line = [sys.executable, "-m", "acclimate", "fit", str(data.resolve()), *options, "--out", out, "--quiet"]
    began = time.monotonic()
    subprocess.run(line, check=True, env={**os.environ, "ACCLIMATE_CACHE": cache}, stdout=subprocess.DEVNULL)
    return time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    print(machine())
    for place_in_table, data in enumerate(folders(given.data)):
        found: dict[str, list[float]] = {name: [] for name in RUNS}
        for _ in range(given.rounds):
            with tempfile.TemporaryDirectory() as place:
                for number, (name, options) in enumerate(RUNS.items()):
                    found[name].append(seconds(data, options, f"{place}/cache", f"{place}/run-{number}"))
        first = found["first: auto"]
        rows = [
            [
                data.name,
                name,
                f"{statistics.median(times):.1f}",
                f"{statistics.median(b / a for a, b in zip(first, times, strict=True)):.2f}",
            ]
            for name, times in found.items()
        ]
        show(
            "second fit",
            ["data", "run", "seconds, median", "of the first, median of pairs"],
            rows,
            begin=place_in_table == 0,
        )


if __name__ == "__main__":
    command(main)
