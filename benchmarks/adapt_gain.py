"""What adapting to a target gains and where it harms: whole fits, judged on test samples of the target that no fit has seen.

    python benchmarks/adapt_gain.py PACS DIGITS AMAZON [FLOWERS] [--seeds 3] [--sets natural,same,shares,made] [--adapt none,auto,...]
        [--pairs 'mnist to usps,...'] [--ask OPTION=VALUE ...] [--keep FILE]

PACS: photo.parquet and sketch.parquet with columns image and label (Li et al. 2017, two of the four domains). DIGITS: mnist.parquet
and usps.parquet, likewise. AMAZON: books.jsonl and dvd.jsonl with text and label (the Multi-Domain Sentiment Dataset of Johns Hopkins
University). FLOWERS: class folders (the Flowers Recognition set), for targets that are made: turned, blurred, noisy, dark, dark with two
of the classes alone, dark among samples of classes that the source does not have.
--ask: an option of every fit, harmonise=none, say. --keep: fits are noted in this file and not made again.

A seed names the source's cut, the target's test samples (30 %) and all else that is random. Labels of the target judge, and nothing
else (ORACLE); --labels N or --each N (of each class) gives some to the fit besides. `same`: halves of one domain. `shares`: targets
with other class shares.
"""

from __future__ import annotations

import argparse
import io
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from common import command, folders, kept, machine, positive, show
from PIL import Image, ImageEnhance, ImageFilter
from rows import cut, rows_of, take, written

from acclimate.core.run import Run
from acclimate.core.seeds import generator
from acclimate.data.decode import decode
from acclimate.data.read import read
from acclimate.engine.watcher import Watcher
from acclimate.strategies.adaptation import known, needs_labels
from acclimate.verbs.evaluate import evaluate
from acclimate.verbs.fit import fit

TEST = 0.3
OF_A_TARGET = ("harmonise", "target_shares", "target_labels", "labels", "each")
"""What says nothing to a fit of the source alone."""
PICTURES, DIGITS, TEXTS = {"size": 160}, {"size": 96}, {"model": "minilm", "size": 128}
DOMAINS: dict[str, tuple[int, str, dict[str, Any]]] = {
    "photo": (0, "photo.parquet", PICTURES),
    "sketch": (0, "sketch.parquet", PICTURES),
    "mnist": (1, "mnist.parquet", DIGITS),
    "usps": (1, "usps.parquet", DIGITS),
    "books": (2, "books.jsonl", TEXTS),
    "dvd": (2, "dvd.jsonl", TEXTS),
    "flowers": (3, "", PICTURES),
}
NATURAL = (
    ("photo", "sketch"),
    ("sketch", "photo"),
    ("mnist", "usps"),
    ("usps", "mnist"),
    ("books", "dvd"),
    ("dvd", "books"),
)
SKEWED: dict[tuple[str, str], Callable[[int], np.ndarray]] = {
    ("mnist", "usps"): lambda classes: np.array([1.0] * 3 + [0.06] * (classes - 3)),
    ("photo", "sketch"): lambda classes: np.array([1.0] * 3 + [0.0] * (classes - 3)),
    ("books", "dvd"): lambda classes: np.array([0.136, 1.0]),
}
"""How many of each class are kept of a target, as a share of what there is."""
MADE: dict[str, Callable[[Image.Image, np.random.Generator], Image.Image]] = {
    "turned": lambda image, draw: image.rotate(180),
    "blurred": lambda image, draw: image.filter(ImageFilter.GaussianBlur(3)),
    "dark": lambda image, draw: ImageEnhance.Brightness(image).enhance(0.25),
    "noisy": lambda image, draw: Image.fromarray(
        (np.asarray(image) + draw.normal(0, 45, (*image.size[::-1], 3))).clip(0, 255).astype(np.uint8)
    ),
}


@dataclass(frozen=True)
class Pair:
    """Two sets of samples as files; the target's names its split."""

    name: str
    source: Path
    target: Path
    asked: dict[str, Any]


def pair(home: Path, name: str, ours: Any, theirs: Any, asked: dict[str, Any], seed: int) -> Pair:
    (mine, labels), (others, truth) = ours, theirs
    split = np.where(cut(truth, TEST, "test", seed), "test", "train")
    stem = f"{name.replace(' ', '-')}-{seed}"
    source = written(home / f"{stem}-source.parquet", mine, labels)
    return Pair(name, source, written(home / f"{stem}-target.parquet", others, truth, split), asked)


def domain(path: Path, most: int, seed: int) -> tuple[list[Any], np.ndarray]:
    """(samples, labels) of a domain, at most so many of them."""
    rows = rows_of(read(path))
    return take(rows, cut(rows[1], min(1.0, most / len(rows[1])), "most", seed)) if most else rows


def pairs(home: Path, homes: dict[int, Path], sets: list[str], seed: int, most: int) -> Iterator[Pair]:
    there = {name: domain(homes[n] / file, most, seed) for name, (n, file, _) in DOMAINS.items() if n in homes}
    asked = {name: how for name, (_, _, how) in DOMAINS.items()}
    for a, b in NATURAL if "natural" in sets else ():
        if a in there and b in there:
            yield pair(home, f"{a} to {b}", there[a], there[b], asked[a], seed)
    for name, rows in there.items() if "same" in sets else ():
        half = cut(rows[1], 0.5, "half", seed)
        yield pair(home, f"{name} to {name}", take(rows, half), take(rows, ~half), asked[name], seed)
    for (a, b), of in SKEWED.items() if "shares" in sets else ():
        if a in there and b in there:
            classes = sorted(set(there[b][1]))
            shares = dict(zip(classes, of(len(classes)), strict=True))
            drawn = generator("skew", seed).random(len(there[b][1]))
            kept = drawn < np.array([shares[label] for label in there[b][1]])
            yield pair(home, f"{a} to skewed {b}", there[a], take(there[b], kept), asked[a], seed)
    for name, change in MADE.items() if "made" in sets and "flowers" in there else ():
        half = cut(there["flowers"][1], 0.5, "made", seed)
        others, truth = take(there["flowers"], half)
        changed = [encoded(change(decode(raw), generator("made", seed, i))) for i, raw in enumerate(others)]
        yield pair(
            home, f"flowers to {name} ones", take(there["flowers"], ~half), (changed, truth), asked["flowers"], seed
        )
        if name == "dark":
            yield from other_classes(home, take(there["flowers"], ~half), (changed, truth), asked["flowers"], seed)


def other_classes(home: Path, ours: Any, theirs: Any, asked: dict[str, Any], seed: int) -> Iterator[Pair]:
    """A target with two of the classes, and a source with two of them, whose target has the others too, without labels."""
    two = sorted(set(ours[1]))[:2]
    yield pair(home, "flowers to dark ones of two classes", ours, take(theirs, np.isin(theirs[1], two)), asked, seed)
    labels = np.where(np.isin(theirs[1], two), theirs[1], None)
    fewer = take(ours, np.isin(ours[1], two))
    yield pair(home, "two flowers to dark ones among others", fewer, (theirs[0], labels), asked, seed)


def encoded(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def few_labels(made: Pair, home: Path, count: int, each: int, seed: int) -> dict[str, Any]:
    """Labels of so many of the target's samples, drawn at random, or of so many `each` class, as an option of a fit."""
    if not count and not each:
        return {}
    table = pq.read_table(made.target)
    rows = generator("labels", seed).permutation(np.flatnonzero(np.array(table.column("split").to_pylist()) == "train"))
    labels = np.array(table.column("label").to_pylist())[rows]
    drawn = np.sort(
        rows[:count] if count else np.concatenate([rows[labels == one][:each] for one in np.unique(labels)])
    )
    pq.write_table(table.take(drawn).drop_columns(["split"]), home / "labels.parquet")
    return {"target_labels": str(home / "labels.parquet")}


@dataclass(frozen=True)
class Reached:
    """`accuracy`: on the target's test samples. `seconds`: of the whole fit."""

    accuracy: float
    chosen: str
    filter: str
    seconds: float


def reached(made: Pair, adapt: str, seed: int, home: Path, asked: dict[str, Any]) -> dict[str, Any]:
    began = time.monotonic()
    target: dict[str, Any] = {"target": str(made.target), "adapt": adapt} if adapt != "none" else {}
    given = {name: value for name, value in asked.items() if target or name not in OF_A_TARGET}
    out = home / f"run-{made.name}-{adapt}-{seed}".replace(" ", "-")
    run = fit(made.source, seed=seed, val=0.2, out=out, fresh=True, **target, **{**made.asked, **given})
    assert isinstance(run, Run)
    seconds = time.monotonic() - began
    found = evaluate(run.path, made.target, watcher=Watcher())["metrics"]["accuracy"]["value"]
    told = run.metrics()
    harmony = told.get("target", {}).get("harmonised") or {"filter": ""}
    shutil.rmtree(run.path)
    return {"accuracy": found, "chosen": told["chosen"], "filter": harmony["filter"], "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", metavar="FOLDER", help="PACS, DIGITS, AMAZON and FLOWERS, in this order")
    parser.add_argument("--seeds", type=positive, default=3)
    parser.add_argument("--first", type=int, default=100, help="the first seed")
    parser.add_argument("--sets", default="natural,same,shares")
    parser.add_argument(
        "--adapt", default="none,auto", help="what to try, the first to compare with: none, auto or names"
    )
    parser.add_argument("--pairs", default="", help="these of the sets alone, by name")
    parser.add_argument("--most", type=int, default=0, help="samples of a domain, at most; 0: all")
    parser.add_argument("--strategy", default="probe")
    parser.add_argument("--labels", type=int, default=0, help="labels of the target that fits get")
    parser.add_argument("--each", type=int, default=0, help="labels of each class of the target that fits get")
    parser.add_argument("--ask", action="append", default=[], metavar="OPTION=VALUE", help="of every fit")
    parser.add_argument("--keep", type=Path, default=None)
    given = parser.parse_args()
    numbers = {path: number for number, path in enumerate(map(Path, given.folders))}
    homes = {numbers[path]: path for path in folders(given.folders)}
    ways = [name for name in known() if not needs_labels(name)] if given.adapt == "all" else given.adapt.split(",")
    asked = {"strategy": given.strategy, **dict(one.split("=", 1) for one in given.ask)}
    print(machine())
    title = f"accuracy on the target's test samples, {' '.join(f'--{name} {value}' for name, value in asked.items())}"
    show(title, ("pair", "seed", *ways, "filter", "chosen", "seconds"), [])
    gains: dict[str, list[float]] = {way: [] for way in ways[1:]}
    for seed in range(given.first, given.first + given.seeds):
        with tempfile.TemporaryDirectory() as folder:
            home = Path(folder)
            for made in pairs(home, homes, given.sets.split(","), seed, given.most):
                if given.pairs and made.name not in given.pairs.split(","):
                    continue
                more = asked | few_labels(made, home, given.labels, given.each, seed)
                said = {**asked, "most": given.most, "labels": given.labels, "each": given.each}

                def one(
                    way: str, made: Pair = made, more: dict[str, Any] = more, said: dict[str, Any] = said
                ) -> Reached:
                    own = {name: value for name, value in said.items() if way != "none" or name not in OF_A_TARGET}
                    name = {"pair": made.name, "way": way, "seed": seed, "asked": own}  # noqa: B023
                    return Reached(**kept(given.keep, name, lambda: reached(made, way, seed, home, more)))  # noqa: B023

                found = [one(way) for way in ways]
                for way, each in zip(ways[1:], found[1:], strict=True):
                    gains[way].append(100 * (each.accuracy - found[0].accuracy))
                last = found[-1]
                cells = (*(f"{each.accuracy:.3f}" for each in found), last.filter, last.chosen, f"{last.seconds:.0f}")
                show("", (), [(made.name, seed, *cells)], begin=False)
    rows = [(way, len(found), f"{np.mean(found):+.1f}", f"{min(found):+.1f}") for way, found in gains.items() if found]
    show(f"points against {ways[0]}", ("way", "fits", "mean", "worst"), rows)


if __name__ == "__main__":
    command(main)
