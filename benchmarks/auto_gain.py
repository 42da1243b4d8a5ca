"""Accuracy and time of the strategies on image folders: several seeds and splits pooled, compared with the probe picture by picture.

    python benchmarks/auto_gain.py FLOWERS TRASHNET [--seeds 3] [--only 'auto;last 3, 1 view'] [--no-test]

FLOWERS: class folders without splits (the Flowers Recognition set, cut 60 / 15 / 25 by seed). TRASHNET: class folders under
train, val and test (github.com/garythung/trashnet). Every fit begins with an empty cache, so its time is the whole time.
`--no-test` leaves the test split unread: to be used while defaults are chosen. A dash stands where a model learned from the
validation samples, which then say nothing.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import command, folders, machine, show

from acclimate.core.recipe import Options
from acclimate.engine import evaluate
from acclimate.engine.learned import seen
from acclimate.engine.saved import load_model
from acclimate.engine.watcher import Watcher
from acclimate.metrics.intervals import paired
from acclimate.tasks.image_inputs import ImageInputs
from acclimate.verbs.fit import fit
from acclimate.verbs.job import prepare

VARIANTS: dict[str, tuple[int, dict[str, Any]]] = {
    "probe": (1, {"strategy": "probe"}),
    "last 2, 1 view": (1, {"strategy": "last:2"}),
    "last 3, 1 view": (1, {"strategy": "last:3"}),
    "last 3, 2 views": (2, {"strategy": "last:3"}),
    "last 3, 4 views": (4, {"strategy": "last:3"}),
    "last 4, 4 views": (4, {"strategy": "last:4"}),
    "all layers": (1, {"strategy": "layer-decay"}),
    "auto": (ImageInputs.views["light"], {"strategy": "auto"}),
    "auto, 0.5 minutes": (ImageInputs.views["light"], {"strategy": "auto", "minutes": 0.5}),
    "auto, 10 minutes": (ImageInputs.views["light"], {"strategy": "auto", "minutes": 10.0}),
}
"""name -> (cached views, options)."""
USUAL = [name for name in VARIANTS if name != "auto, 10 minutes"]


def run(
    data: Path, views: int, asked: dict[str, Any], seed: int, test: bool
) -> tuple[np.ndarray, np.ndarray, float, str]:
    """(right or wrong of each validation picture, of each test picture, seconds, the phase that was kept)."""
    ImageInputs.views = {"none": 1, "light": views}
    with tempfile.TemporaryDirectory() as place:
        os.environ["ACCLIMATE_CACHE"] = str(Path(place) / "cache")
        own = {"seed": seed, **asked, **({} if (data / "test").is_dir() else {"test": 0.25})}
        began = time.monotonic()
        done = fit(data, out=Path(place) / "run", **own)
        seconds = time.monotonic() - began
        job = prepare(data, Options.check(own), Watcher())
        saved = load_model(done.path, job.device)
        found = []
        for split in ("val", "test") if test else ("val",):
            rows = job.rows(split)
            samples = evaluate.over_samples(job.dataset, rows)
            predictions = evaluate.predict(saved.net, saved.task, samples, saved.precision, job.device)
            scores = saved.task.scores(predictions, job.dataset.targets[rows])
            learned = seen(done.path, job.task, job.dataset, rows).mean()
            found.append(np.full_like(scores, np.nan) if learned > 0.5 else scores)
        return found[0], found[-1] if test else np.zeros(0), seconds, done.metrics()["chosen"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--only", default=";".join(USUAL), help="variants, separated by semicolons")
    parser.add_argument("--no-test", action="store_true")
    given = parser.parse_args()
    asked_for = {"probe", *(name.strip() for name in given.only.split(";"))}
    names = [name for name in VARIANTS if name in asked_for]
    print(machine())
    for data in folders(given.data):
        rows, base = [], None
        for name in names:
            views, asked = VARIANTS[name]
            seeds = range(given.first_seed, given.first_seed + given.seeds)
            runs = [run(data, views, asked, seed, not given.no_test) for seed in seeds]
            val, test = (np.concatenate([one[part] for one in runs]) for part in (0, 1))
            base = (val, test) if base is None else base
            rows.append([name, *_figures(runs, 0, val, base[0]), *_figures(runs, 1, test, base[1]), *_costs(runs)])
            show(f"{data.name}, {given.seeds} seeds", HEADER, rows[-1:], begin=len(rows) == 1)
    print()


HEADER = ["variant", "val", "by seed", "over probe", "test", "by seed", "over probe", "seconds", "kept"]


def _figures(runs: list[Any], part: int, pooled: np.ndarray, base: np.ndarray) -> list[str]:
    if not len(pooled) or np.isnan(pooled).any():
        return ["-", "-", "-"]
    difference = paired(pooled, base)
    by_seed = " ".join(f"{one[part].mean():.3f}" for one in runs)
    return [
        f"{pooled.mean():.4f}",
        by_seed,
        f"{difference.difference:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]",
    ]


def _costs(runs: list[Any]) -> list[str]:
    return [" ".join(f"{one[2]:.0f}" for one in runs), ", ".join(sorted({one[3] for one in runs}))]


if __name__ == "__main__":
    command(main)
