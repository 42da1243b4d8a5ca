"""What `choose` recommends against brute force: accuracy given away, and its cost as a share of fitting every candidate.

    python benchmarks/choose_regret.py FLOWERS TRASHNET TREC BANKING77 [--strategy probe] [--seed 0] [--keep FILE]

FLOWERS: class folders (the Flowers Recognition set, 25 % cut off for the test). TRASHNET: class folders under train, val and test
(github.com/garythung/trashnet). TREC: train, val and test tables of questions in 6 classes (cogcomp.seas.upenn.edu/Data/QA/QC).
BANKING77: the same of questions in 77 classes (github.com/PolyAI-LDN/task-specific-datasets).

Candidates are all models whose weights are on this machine (`acclimate models get NAME` for more), at all sizes that `choose` looks at,
and a network with random weights. Brute force is a fit of each of them with the same strategy, and takes the one with the
best validation. Choice and brute force begin with an empty cache each; seconds are the processor's, so that other jobs count little.
Regret: test accuracy of what brute force takes, and of the best in hindsight, less that of the recommendation; beside it that of the first
of the static order (accuracy at the source, parameters, size of the inputs). --keep: fits of brute force, which take hours, are noted in
this file and not made again.
"""

from __future__ import annotations

import argparse
import functools
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from common import command, folders, kept, machine, show

from acclimate.core.places import cache_folder
from acclimate.verbs.choose import Choice, Judged, choose
from acclimate.verbs.fit import fit

T = TypeVar("T")
RANDOM = {"pictures": "random:efficientnet_lite0", "texts": "random:minilm"}


@dataclass(frozen=True)
class Fitted:
    """A fit of one candidate: accuracy on validation, on test, seconds of the processor."""

    title: str
    val: float
    test: float
    seconds: float


def every(data: Path, candidates: list[Judged], asked: dict[str, Any], keep: Path | None) -> list[Fitted]:
    """A fit of each; what `keep` holds is read there."""

    def made(one: Judged) -> Fitted:
        def step() -> dict[str, float]:
            (val, test), seconds = timed(functools.partial(fitted, data, one, asked))
            return {"val": val, "test": test, "seconds": seconds}

        title = one.entrant.title
        return Fitted(title, **kept(keep, {"data": data.name, "asked": asked, "candidate": title}, step))

    return [made(one) for one in candidates]


def fitted(data: Path, one: Judged, asked: dict[str, Any]) -> tuple[float, float]:
    """(accuracy on validation, on test)."""
    assert one.entrant.candidate is not None
    model, size = one.entrant.candidate.model.name, one.entrant.candidate.size
    with tempfile.TemporaryDirectory() as place:
        run = fit(data, out=Path(place) / "run", model=model, size=size, **asked)
        return _validated(run), run.metrics()["metrics"]["accuracy"]["value"]  # type: ignore[union-attr]


def _validated(run: Any) -> float:
    events = run.events()
    index = next(event["index"] for event in events if event["event"] == "chosen")
    return next(event["value"] for event in events if event["event"] == "outcome" and event["index"] == index)


@contextmanager
def empty_cache(models: Path) -> Iterator[None]:
    """Empty but for the weights."""
    with tempfile.TemporaryDirectory() as cache:
        os.environ["ACCLIMATE_CACHE"] = cache
        (Path(cache) / "models").symlink_to(models)
        yield


def timed(step: Callable[[], T]) -> tuple[T, float]:
    """The result and the seconds of the processor."""
    began = time.process_time()
    return step(), time.process_time() - began


def row(data: Path, found: Choice, took: float, every: list[Fitted]) -> list[str]:
    """The line of one data set."""
    by_title, whole = {one.title: one for one in every}, sum(one.seconds for one in every)
    taken = by_title[found.recommended.entrant.title]
    brute, best = max(every, key=lambda one: one.val), max(every, key=lambda one: one.test)
    first = min((one for one in found.candidates if one.entrant.candidate), key=lambda one: one.static)
    static = by_title[first.entrant.title]
    chance = [one.test for one in every if one.title.startswith("random:")]
    return [
        data.name,
        str(len(every)),
        f"{taken.title}: {taken.test:.3f}",
        f"{brute.title}: {brute.test:.3f}",
        f"{best.title}: {best.test:.3f}",
        f"{100 * (brute.test - taken.test):+.1f} / {100 * (best.test - taken.test):+.1f}",
        f"{static.title}: {100 * (brute.test - static.test):+.1f} / {100 * (best.test - static.test):+.1f}",
        ", ".join(f"{one:.3f}" for one in chance),
        f"{took:.0f} of {whole:.0f} ({took / whole:.2f})",
    ]


def line(one: Judged, given: Fitted) -> list[str]:
    """The line of one candidate."""
    quality, costs = one.quality["value"], one.entrant.costs
    return [
        one.entrant.title,
        f"{quality:.3f}",
        one.entrant.last,
        f"{given.val:.3f}",
        f"{given.test:.3f}",
        f"{1000 * costs.each:.2f}",
    ]


HEADER = [
    "data",
    "candidates",
    "recommended",
    "brute force",
    "hindsight",
    "regret, points",
    "static order",
    "random network",
    "core seconds",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+")
    parser.add_argument("--strategy", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=None)
    given = parser.parse_args()
    print(machine())
    models = (cache_folder() / "models").resolve()
    for data in folders(given.data):
        pictures = not any(data.glob("*.[ct]sv"))
        asked: dict[str, Any] = {"strategy": given.strategy, "seed": given.seed}
        if pictures and not (data / "test").is_dir():
            asked["test"] = 0.25
        fresh = [RANDOM["pictures" if pictures else "texts"]]
        with empty_cache(models):
            found, took = timed(functools.partial(choose, data, models=fresh, **asked))
        print(f"{data.name}: {found.why}", flush=True)
        candidates = [one for one in found.candidates if one.entrant.candidate is not None]
        with empty_cache(models):
            all_ = every(data, candidates, asked, given.keep)
        lines = [line(one, given_) for one, given_ in zip(candidates, all_, strict=True)]
        show(data.name, ["candidate", "quality by choose", "by", "validation", "test", "ms a sample"], lines)
        show(f"regret, --strategy {given.strategy}, seed {given.seed}", HEADER, [row(data, found, took, all_)])
    print()


if __name__ == "__main__":
    command(main)
