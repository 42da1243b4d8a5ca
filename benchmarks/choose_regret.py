"""What `choose` recommends against brute force: accuracy given away, and its cost as a share of fitting every candidate.

    python benchmarks/choose_regret.py FLOWERS TRASHNET TREC BANKING77 [--strategy auto] [--seed 0] [--most N] [--keep FILE]

FLOWERS: class folders (the Flowers Recognition set, 25 % cut off for the test). TRASHNET: class folders under train, val and test
(github.com/garythung/trashnet). TREC: train, val and test tables of questions in 6 classes (cogcomp.seas.upenn.edu/Data/QA/QC).
BANKING77: the same of questions in 77 classes (github.com/PolyAI-LDN/task-specific-datasets).

Candidates are all models whose weights are on this machine (`acclimate models get NAME` for more), at all sizes that `choose` looks at,
and a network with random weights, to see that it is not taken. Brute force is a fit of each of the others with the same strategy, and
takes the one with the best validation. Choice and brute force begin with an empty cache each; seconds are the processor's, so that other
jobs count little. Regret: test accuracy of what brute force takes, and of the best in hindsight, less that of the recommendation; beside
it that of the first of the static order (accuracy at the source, parameters, size of the inputs). --most: at most so many training
samples, for brute force over all of them takes long. --keep: what was chosen and the fits are noted in this file and
not made again.
"""

from __future__ import annotations

import argparse
import functools
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from common import command, folders, kept, machine, show
from rows import cut, rows_of, take, written

from acclimate.core.places import cache_folder
from acclimate.data.read import read
from acclimate.verbs.choose import choose
from acclimate.verbs.fit import fit

T = TypeVar("T")
SPLITS = ("train", "val", "test")
RANDOM = {"pictures": "random:efficientnet_lite0", "texts": "random:minilm"}


@dataclass(frozen=True)
class Fitted:
    """A fit of one candidate: accuracy on validation, on test, seconds of the processor."""

    title: str
    val: float
    test: float
    seconds: float


@dataclass(frozen=True)
class Chosen:
    """What `choose` said. `candidates`: by title model, size, quality, the round that it is by, milliseconds a sample; `first`: of the
    static order; `seconds`: of the processor."""

    recommended: str
    first: str
    why: str
    candidates: dict[str, list[Any]]
    seconds: float


def chosen(data: Path, asked: dict[str, Any], named: list[str]) -> dict[str, Any]:
    found, seconds = timed(functools.partial(choose, data, models=named, **asked))
    there = [(one, one.entrant.candidate) for one in found.candidates if one.entrant.candidate is not None]
    candidates = {
        one.entrant.title: [
            candidate.model.name,
            candidate.size,
            one.quality["value"],
            one.entrant.last,
            1000 * one.entrant.costs.each,
        ]
        for one, candidate in there
    }
    first = min(there, key=lambda each: each[0].static)[0].entrant.title
    return asdict(Chosen(found.recommended.entrant.title, first, found.why, candidates, seconds))


def every(data: Path, found: Chosen, asked: dict[str, Any], name: dict[str, Any], keep: Path | None) -> list[Fitted]:
    """A fit of each with pretrained weights; what `keep` holds of `name` is read there."""

    def made(title: str, model: str, size: int) -> Fitted:
        def step() -> dict[str, float]:
            (val, test), seconds = timed(functools.partial(fitted, data, model, size, asked))
            return {"val": val, "test": test, "seconds": seconds}

        return Fitted(title, **kept(keep, {**name, "candidate": title}, step))

    return [
        made(title, model, size)
        for title, (model, size, *_) in found.candidates.items()
        if title == found.recommended or not fresh(title)
    ]


def fresh(title: str) -> bool:
    return title.startswith("random:")


def fitted(data: Path, model: str, size: int, asked: dict[str, Any]) -> tuple[float, float]:
    """(accuracy on validation, on test)."""
    with tempfile.TemporaryDirectory() as place:
        run = fit(data, out=Path(place) / "run", model=model, size=size, **asked)
        return validated(run), run.metrics()["metrics"]["accuracy"]["value"]  # type: ignore[union-attr]


def validated(run: Any) -> float:
    """Of what was chosen: out of fold, where validation samples were learned from in the end."""
    events = run.events()
    name = next(event["name"] for event in events if event["event"] == "chosen")
    trials = [phase for event in events if event["event"] == "trial" for phase in event["phases"]]
    outcomes = [event for event in events if event["event"] == "outcome"]
    return float(next(one["value"] for one in reversed([*outcomes, *trials]) if one["name"] == name))


def thinned(data: Path, most: int, home: Path) -> Path:
    """The splits of a folder as tables in a folder of the same name, the training table with at most so many rows, the same share of each
    class."""
    (home / data.name).mkdir()
    for name, place in splits(data).items():
        samples, labels = rows_of(read(place))
        if name == "train" and len(labels) > most:
            samples, labels = take((samples, labels), cut(labels, most / len(labels), "most"))
        written(home / data.name / f"{name}.parquet", samples, labels)
    return home / data.name


def splits(data: Path) -> dict[str, Path]:
    """By name the table or the class folders."""
    tables = {file.stem: file for file in sorted(data.glob("*.[ct]sv"))}
    return tables or {one.name: one for one in sorted(data.iterdir()) if one.name in SPLITS} or {"train": data}


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


def row(data: Path, found: Chosen, every: list[Fitted]) -> list[str]:
    """The line of one data set."""
    by_title, whole = {one.title: one for one in every}, sum(one.seconds for one in every)
    taken, static = by_title[found.recommended], by_title[found.first]
    brute, best = max(every, key=lambda one: one.val), max(every, key=lambda one: one.test)
    chance = [quality for title, (_, _, quality, *_) in found.candidates.items() if fresh(title)]
    return [
        data.name,
        str(len(every)),
        f"{taken.title}: {taken.test:.3f}",
        f"{brute.title}: {brute.test:.3f}",
        f"{best.title}: {best.test:.3f}",
        f"{100 * (brute.test - taken.test):+.1f} / {100 * (best.test - taken.test):+.1f}",
        f"{static.title}: {100 * (brute.test - static.test):+.1f} / {100 * (best.test - static.test):+.1f}",
        ", ".join(f"{one:.3f}" for one in chance),
        f"{found.seconds:.0f} of {whole:.0f} ({found.seconds / whole:.2f})",
    ]


def line(found: Chosen, one: Fitted) -> list[str]:
    """The line of one candidate."""
    _, _, quality, last, cost = found.candidates[one.title]
    return [one.title, f"{quality:.3f}", last, f"{one.val:.3f}", f"{one.test:.3f}", f"{cost:.2f}", f"{one.seconds:.0f}"]


HEADER = [
    "data",
    "candidates",
    "recommended",
    "brute force",
    "hindsight",
    "regret, points",
    "static order",
    "random network, by choose",
    "core seconds",
]


def measured(data: Path, models: Path, given: argparse.Namespace, home: Path) -> None:
    """Choose, fit every candidate, and show both."""
    asked: dict[str, Any] = {"strategy": given.strategy, "seed": given.seed}
    if "test" not in splits(data):
        asked["test"] = 0.25
    named = [RANDOM["texts" if any(data.glob("*.[ct]sv")) else "pictures"]]
    name = {"data": data.name, "asked": asked, **({"most": given.most} if given.most else {})}
    data = thinned(data, given.most, home) if given.most else data
    with empty_cache(models):
        step = functools.partial(chosen, data, asked, named)
        found = Chosen(**kept(given.keep, {**name, "choose": named}, step))
    print(f"{data.name}: {found.why}", flush=True)
    with empty_cache(models):
        fits = every(data, found, asked, name, given.keep)
    head = ["candidate", "quality by choose", "by", "validation", "test", "ms a sample", "core seconds"]
    show(data.name, head, [line(found, one) for one in fits])
    show(f"regret, --strategy {given.strategy}, seed {given.seed}", HEADER, [row(data, found, fits)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+")
    parser.add_argument("--strategy", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--most", type=int, default=0, help="training samples, at most; 0: all")
    parser.add_argument("--keep", type=Path, default=None)
    given = parser.parse_args()
    print(machine())
    models = (cache_folder() / "models").resolve()
    with tempfile.TemporaryDirectory() as home:
        for data in folders(given.data):
            measured(data, models, given, Path(home))
    print()


if __name__ == "__main__":
    command(main)
