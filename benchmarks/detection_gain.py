"""Average precision and time of detectors on a folder of boxes: whole processes, several seeds, beside the detector as it came.

    python benchmarks/detection_gain.py BCCD [--weights FILE] [--seeds 3] [--only 'auto;auto, 1 minute'] [--no-test]

BCCD: blood cells (github.com/Shenggan/BCCD_Dataset), Pascal VOC with image sets. RACCOON: github.com/datitran/raccoon_dataset, VOC
without; pictures that are there twice in another size are kept on one side of the cut by the groups below. FILE: weights of
yolox:nano (github.com/Megvii-BaseDetection/YOLOX, any form that `--weights` takes); without them only the other sides are run.
Every fit is a process of its own with an empty cache, timed from start to finish; its training is timed by its log. `--no-test`
prints validation: to be used while defaults are chosen.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import command, folders, machine, meant, positive, show

from acclimate.core.run import Run
from acclimate.data.read import read

SIDES: dict[str, list[str]] = {
    "yolox:nano, auto": ["--model", "yolox:nano"],
    "yolox:nano, auto, flips": ["--model", "yolox:nano", "--augment", "flips"],
    "yolox:nano, auto, 1 minute": ["--model", "yolox:nano", "--minutes", "1"],
    "yolox:nano, auto, 90 seconds": ["--model", "yolox:nano", "--minutes", "1.5"],
    "yolox:nano, auto, flips, 90 seconds": ["--model", "yolox:nano", "--augment", "flips", "--minutes", "1.5"],
    "yolox:nano, auto, 10 minutes": ["--model", "yolox:nano", "--minutes", "10"],
    "yolox:nano, head only": ["--model", "yolox:nano", "--strategy", "probe"],
    "yolox:nano, neck and head, cached": ["--model", "yolox:nano", "--strategy", "last:1", "--epochs", "8"],
    "yolox:nano, neck and head, uncached": ["--model", "yolox:nano", "--strategy", "last:1", "--epochs", "8"],
    "fasterrcnn:tf_efficientnet_lite0, auto": ["--model", "fasterrcnn:tf_efficientnet_lite0"],
    "fasterrcnn:tf_efficientnet_lite0, 8 minutes": ["--model", "fasterrcnn:tf_efficientnet_lite0", "--minutes", "8"],
    "fasterrcnn:tf_efficientnet_lite0, flips, 8 minutes": [
        *("--model", "fasterrcnn:tf_efficientnet_lite0", "--augment", "flips", "--minutes", "8")
    ],
}
UNCACHED = {"ACCLIMATE_CACHE_GB": "0.001"}
"""The environment of the sides called so: no view fits, so that every epoch augments and computes afresh."""
USUAL = "yolox:nano, auto;yolox:nano, auto, 1 minute"
"""`flips`: top to bottom as well as left to right, for pictures that have no up, as under a microscope."""
GROUPS = ((11, 116), (83, 120), (50, 52, 74), (65, 98), (21, 45))
"""Raccoons that are one picture, by the numbers in their names."""


def grouped(data: Path, place: Path) -> Path:
    """A table of the boxes of raccoon with a column of groups; any other folder as it is."""
    if not list(data.glob("images/raccoon-*.jpg")):
        return data
    table = read(str(data))
    lines = []
    for sample, boxes in zip(table.column("sample").to_pylist(), table.column("target").to_pylist(), strict=True):
        number = int(Path(sample).stem.rpartition("-")[2])
        group = next((min(one) for one in GROUPS if number in one), number)
        objects = [
            {"bbox": [box[side] for side in ("x1", "y1", "x2", "y2")], "category": box["label"]} for box in boxes
        ]
        corners = {"boxes": [one["bbox"] for one in objects], "labels": [one["category"] for one in objects]}
        lines.append(json.dumps({"image": str((data / sample).absolute()), "group": str(group), **corners}))
    path = place / "raccoon.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


def fit(
    data: Path, asked: list[str], seed: int, weights: str | None, cut: bool, limits: dict[str, str] | None = None
) -> tuple[float, float, dict[str, Any]]:
    """(seconds of the process, seconds of its training, its figures and the value that validation gave).

    `limits`: what else its environment says.
    """
    with tempfile.TemporaryDirectory() as place:
        source = grouped(data, Path(place))
        line = [sys.executable, "-m", "acclimate", "fit", str(source), "--out", f"{place}/run", "--seed", str(seed)]
        line += asked + (["--weights", weights] if weights and "yolox:nano" in asked else [])
        line += ["--test", "0.2", "--group", "group"] if source != data else (["--test", "0.2"] if cut else [])
        began = time.monotonic()
        environment = {**os.environ, "ACCLIMATE_CACHE": f"{place}/cache", **(limits or {})}
        models = Path(os.environ.get("ACCLIMATE_CACHE", Path.home() / ".cache/acclimate")) / "models"
        if models.is_dir():  # fetched weights are no part of what is timed
            (Path(place) / "cache").mkdir()
            (Path(place) / "cache" / "models").symlink_to(models.absolute())
        subprocess.run([*line, "--quiet", "--json"], check=True, env=environment, stdout=subprocess.DEVNULL)
        seconds = time.monotonic() - began
        run = Run(Path(place) / "run")
        outcomes = [event for event in run.events() if event["event"] == "outcome"]
        result = run.metrics()
        value = next(one["value"] for one in outcomes if one["name"] == result["chosen"])
        return seconds, sum(one["seconds"] for one in outcomes), {**result, "validation": value}


def row(name: str, found: list[tuple[float, float, dict[str, Any]]], test: bool) -> list[str]:
    whole, training = (statistics.mean(one[i] for one in found) for i in (0, 1))
    seen = [name, f"{whole:.0f}", f"{training:.0f}", spread([one[2]["validation"] for one in found])]
    if not test:
        return [*seen, "", "", found[-1][2]["chosen"]]
    figures = [one[2]["metrics"] for one in found]
    seen += [spread([one[name]["value"] for one in figures]) for name in ("map", "map50")]
    beside = [other["better by"] for one in found for other in one[2]["baselines"]]
    told = "; ".join(f"{one['value']:+.3f} [{one['low']:+.3f}, {one['high']:+.3f}]" for one in beside)
    return [*seen, told or found[-1][2]["chosen"]]


def spread(values: list[float]) -> str:
    each = f" ({' '.join(f'{value:.3f}' for value in values)})" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{each}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+")
    parser.add_argument("--weights", help="of yolox:nano")
    parser.add_argument("--seeds", type=positive, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--only", default=USUAL, help="sides, separated by semicolons")
    parser.add_argument("--no-test", action="store_true")
    given = parser.parse_args()
    print(machine())
    seeds = range(given.first_seed, given.first_seed + given.seeds)
    for data in folders(given.data):
        header = [
            "side",
            "s, process",
            "s, training",
            "AP, validation",
            "AP",
            "AP50",
            "better than as it came, by seed",
        ]
        show(data.name, header, [])
        cut = not (data / "ImageSets").is_dir()
        for name in meant(given.only, SIDES):
            limits = UNCACHED if name.endswith("uncached") else None
            found = [fit(data, SIDES[name], seed, given.weights, cut, limits) for seed in seeds]
            show("", [], [row(name, found, not given.no_test)], begin=False)


if __name__ == "__main__":
    command(main)
