"""How many planted copies are known for what they are, what is joined without cause, and what that takes for 100,000 samples.

    python benchmarks/leaks.py DATA [DATA ...] [--each 100] [--most 6000] [--many 100000] [--seed 0]

DATA: pictures or texts, as `acclimate fit` reads them: flowers (tf_flowers), TrashNet (Thung and Yang 2016), PACS (Li et al. 2017), MNIST,
BCCD, Banking77 (Casanueva et al. 2020), the Multi-Domain Sentiment Dataset. `--each`: copies of each kind, one of a sample, planted
into a test split; all of `--most` samples are training. A copy is found where it counts as one with what it is of: as a fit compares
samples, and as a saved model knows them again, by marks alone. Alarms: samples as they came that count as one with another that is
not byte-equal; the first are named, so that they can be looked at. `--many`: samples made of halves of two of the data's own, as many
copies planted as before, for seconds and memory.
"""

from __future__ import annotations

import argparse
import io
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from common import command, machine, positive, show
from PIL import Image

from acclimate.core.seeds import generator
from acclimate.data import gate
from acclimate.data.decode import decode
from acclimate.data.read import read
from acclimate.data.table import Table
from acclimate.engine.dataset import workers
from acclimate.tasks import resolve

LONG = 300
"""Characters from which a text with a word changed is nearly the same."""
NAMED = 4
TURNED = 6
"""EXIF: to be turned by 90 degrees to the right."""
SIDE = 96
"""Pixels of a picture made of two."""


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def sized(factor: float, sampling: Image.Resampling, **options: Any) -> Callable[[bytes, Any], bytes]:
    """In another size, each side rounded by itself, one of them a pixel longer."""

    def copy(raw: bytes, draw: Any) -> bytes:
        image = decode(raw)
        wide, high = (max(1, round(side * factor)) for side in image.size)
        return encoded(image.resize((wide + 1, high), sampling), **options)

    return copy


def turned(raw: bytes, draw: Any) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = TURNED
    return encoded(decode(raw).transpose(Image.Transpose.ROTATE_90), "JPEG", quality=90, exif=exif)


def reworded(text: str, draw: Any) -> str:
    words = text.split(" ")
    words[int(draw.integers(len(words)))] = "another"
    return " ".join(words)


JPEG = {"form": "JPEG", "quality": 75}
PICTURES: dict[str, Callable[[Any, Any], Any]] = {
    "byte-equal": lambda raw, draw: raw,
    "JPEG 40": lambda raw, draw: encoded(decode(raw), "JPEG", quality=40),
    "JPEG 75": lambda raw, draw: encoded(decode(raw), "JPEG", quality=75),
    "JPEG 95": lambda raw, draw: encoded(decode(raw), "JPEG", quality=95),
    "PNG": lambda raw, draw: encoded(decode(raw), "PNG"),
    "WebP 60": lambda raw, draw: encoded(decode(raw), "WEBP", quality=60),
    "turned, EXIF": turned,
    "grey": lambda raw, draw: encoded(decode(raw).convert("L"), **JPEG),
    "x 0.4": sized(0.4, Image.Resampling.LANCZOS, **JPEG),
    "x 0.5": sized(0.5, Image.Resampling.BILINEAR, form="PNG"),
    "x 0.7": sized(0.7, Image.Resampling.BICUBIC, **JPEG),
    "x 1.5": sized(1.5, Image.Resampling.BICUBIC, **JPEG),
}
TEXTS: dict[str, Callable[[Any, Any], Any]] = {
    "byte-equal": lambda text, draw: text,
    "upper case": lambda text, draw: text.upper(),
    "punctuation": lambda text, draw: "  " + text.replace(" ", "  ").rstrip(".?! ") + " !!",
    f"a word of {LONG} characters": reworded,
}


def able(raw: Any, kind: str) -> bool:
    return isinstance(raw, bytes) or not kind.startswith("a word") or len(raw) >= LONG


def table_of(raws: list[Any]) -> Table:
    """Samples as a fit would have them."""
    form = "bytes" if isinstance(raws[0], bytes) else "text"
    column = pa.array(raws, pa.large_binary() if form == "bytes" else pa.large_string())
    return Table(pa.table({"sample": column}), form, "made", "benchmark")


def numbers(kind: Any, raws: list[Any]) -> tuple[np.ndarray, np.ndarray]:
    """int64 [n]: what counts as one as a fit compares, and by marks alone."""
    marks = kind.marks(raws, workers())
    return kind.same(marks, table_of(raws)), kind.same(marks)


def planted(kind: Any, raws: list[Any], each: int, seed: int) -> None:
    ways = PICTURES if isinstance(raws[0], bytes) else TEXTS
    draw, of, copies = generator("leaks", seed), {}, []
    for name, copy in ways.items():
        rows = np.array([row for row in draw.permutation(len(raws)) if able(raws[row], name)][:each], dtype=int)
        of[name] = rows, len(raws) + len(copies) + np.arange(len(rows))
        copies += [copy(raws[row], draw) for row in rows]
    found = numbers(kind, raws + copies)
    shares = [
        (name, len(rows), *(f"{100 * (number[rows] == number[places]).mean():.1f} %" for number in found))
        for name, (rows, places) in of.items()
        if len(rows)
    ]
    show("planted copies", ("copies", "planted", "found in a fit", "known by a model"), shares)


def alarms(kind: Any, raws: list[Any], table: Table, rows: np.ndarray) -> None:
    equal = gate.identical(gate.digests(one.hash for one in gate.scan(table_of(raws))))
    first = np.sort(np.unique(equal, return_index=True)[1])
    told = []
    for name, number in zip(("in a fit", "by a model"), numbers(kind, raws), strict=True):
        sets = gate.twins(number, np.isin(np.arange(len(raws)), first))
        named = ["=".join(table.name(int(rows[row])) for row in one[:3]) for one in sets[:NAMED]]
        joined = sum(map(len, sets))
        told.append((name, len(first), joined, f"{100 * joined / len(first):.2f} %", "; ".join(named)))
    show(
        "false alarms, but for copies that are there",
        ("as they came", "different samples", "joined", "share", "which"),
        told,
    )


def halves(raws: list[Any], many: int, seed: int) -> list[Any]:
    """Different samples, each of two halves."""
    draw = generator("halves", seed)
    if isinstance(raws[0], str):
        words = [text.split() for text in raws]
        pairs = draw.integers(len(raws), size=(many, 2))
        return [" ".join(words[a][: len(words[a]) // 2 + 1] + words[b][len(words[b]) // 2 :]) for a, b in pairs]
    small = [np.asarray(decode(raw, SIDE).resize((SIDE, SIDE))) for raw in raws]
    found = []
    for a, b in draw.integers(len(raws), size=(many, 2)):
        both = np.concatenate([small[a][: SIDE // 2], small[b][SIDE // 2 :]])
        found.append(encoded(Image.fromarray(both), "JPEG", quality=85))
    return found


def cost(kind: Any, raws: list[Any], many: int, each: int, seed: int) -> None:
    made = list(dict.fromkeys(halves(raws, many, seed)))
    name, copy = ("x 0.7", PICTURES["x 0.7"]) if isinstance(raws[0], bytes) else ("upper case", TEXTS["upper case"])
    draw = generator("cost", seed)
    rows = draw.permutation(len(made))[:each]
    made += [copy(made[row], draw) for row in rows]
    table = table_of(made)
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    marks = kind.marks(made, workers())
    marked = time.perf_counter()
    number = kind.same(marks, table)
    ended = time.perf_counter()
    taken = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    found = (number[rows] == number[len(made) - len(rows) :]).mean()
    header = ("samples", "marks", "comparing", "memory", f"{len(rows)} copies ({name}) found")
    told = (f"{marked - began:.1f} s", f"{ended - marked:.1f} s", f"{taken:.0f} MB", f"{100 * found:.1f} %")
    show("many", header, [(f"{len(made):,}", *told)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+")
    parser.add_argument("--each", type=positive, default=100)
    parser.add_argument("--most", type=positive, default=6000)
    parser.add_argument("--many", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    print(machine())
    for path in given.data:
        if not Path(path).exists():
            print(
                f"skipped: {path} is not there; the docstring of this benchmark says where the public can get the data"
            )
            continue
        table = read(path)
        kind = resolve(table)
        rows = np.sort(generator("rows", given.seed).permutation(len(table))[: given.most])
        raws: list[Any] = [table.raw(int(row)) for row in rows]
        began = time.perf_counter()
        kind.marks(raws, workers())
        pace = (time.perf_counter() - began) / len(raws)
        print(f"\n## {path}: {len(raws):,} samples, {1000 * pace:.2f} ms a mark on {workers()} threads", flush=True)
        planted(kind, raws, given.each, given.seed)
        alarms(kind, raws, table, rows)
        if given.many:
            cost(kind, raws, given.many, given.each, given.seed)


if __name__ == "__main__":
    command(main)
