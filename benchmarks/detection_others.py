"""Detectors fitted by ours and by what people fit them with: same pictures, splits and starting weights, whole processes on the CPU.

    python benchmarks/detection_others.py BCCD --weights FILE --yolox FOLDER --torchvision FOLDER [--only 'fasterrcnn'] [--seeds 3]

BCCD: blood cells (github.com/Shenggan/BCCD_Dataset), or any folder of boxes that names its train, val and test pictures. FILE: weights of
yolox:nano (github.com/Megvii-BaseDetection/YOLOX, any form that `acclimate fit --weights` takes).

"yolox:nano, YOLOX": tools/train.py of YOLOX's repository (`--yolox`, a checkout of it), since it has the recipe that these weights were
made with; libreyolo, the package that trains YOLOX on the CPU as it comes, has another (mixup, one size). It is run as it is but for the
places where it asks for CUDA, which detection_sides.py replaces: `-n yolox-nano` with its SGD, mosaic, multi-scale, averaged weights, 5
epochs of warm-up and 15 without mosaic at the end, batch 8 (its README's for one device), pictures cached. It begins with the weights that
ours begins with, batch norm brought to the training pictures as ours brings it. The epoch that was best on validation counts, as it keeps
it. It judges every tenth epoch by itself; the others are judged for the curve while its clock stands still.

"fasterrcnn, torchvision": train.py of torchvision (`--torchvision`, the folder references/detection of a checkout of
github.com/pytorch/vision), unchanged, with its fasterrcnn_mobilenet_v3_large_320_fpn over the pretrained EfficientNet-Lite0 that ours
stands on: flips, batch 2, SGD at .0025 (its .02 for 8 devices), which falls after 16/26 and 22/26 of the epochs, as in its README. It keeps
no best epoch: the last one counts.

Seconds are of the process, imports included; ours begins with an empty cache, and its seconds hold the test as well. "To its own": until
validation was first within .005 of what the side ended with. "Past the other's": until it was first what the other ended with. Test is
opened once a run, and judged for all by acclimate.metrics.detection; thresholds of scores and suppression are those of each side.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import shlex
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from common import command, folders, machine, meant, positive, show
from detection_sides import Ask
from text_sides import fresh_cache

from acclimate.core.errors import fail
from acclimate.core.recipe import Options
from acclimate.core.run import Run
from acclimate.data.read import read
from acclimate.data.table import SPLITS
from acclimate.engine.phase import LEARNED
from acclimate.engine.trainer import RECENTRED
from acclimate.engine.watcher import Watcher
from acclimate.metrics.detection import figures
from acclimate.models.norms import recentre
from acclimate.models.sources.yolox import BODY
from acclimate.verbs.job import Job, prepare

NANO, LITE0 = "yolox:nano", "fasterrcnn:tf_efficientnet_lite0"
NEAR = 0.005
"""Average precision within which a side has what it ends with."""
SCRIPTS = {"yolox": "tools/train.py", "torchvision": "train.py"}
"""Of each trainer, inside its folder."""
NEEDS = {
    "yolox": {
        "cv2": "opencv-python",
        "loguru": "loguru",
        "psutil": "psutil",
        "pycocotools": "pycocotools",
        "tabulate": "tabulate",
        "tensorboard": "tensorboard",
        "thop": "thop",
    },
    "torchvision": {"pycocotools": "pycocotools"},
}
"""What each trainer imports, and the packages that it comes in."""
HEADER = ["side", "seed", "s, process", "AP, validation", "s to its own", "s past the other's", "AP", "AP50"]


@dataclass(frozen=True)
class Side:
    """`model`: what is fitted, by name of ours; `trainer`: a key of `detection_sides.SIDES`, empty for ours; `epochs`: its default."""

    model: str
    trainer: str = ""
    epochs: int = 0


SIDES = {
    "yolox:nano, ours": Side(NANO),
    "yolox:nano, YOLOX": Side(NANO, "yolox", 30),
    "fasterrcnn, ours": Side(LITE0),
    "fasterrcnn, torchvision": Side(LITE0, "torchvision", 4),
}


@dataclass(frozen=True)
class Found:
    """`value`: average precision on validation of the weights that count, NaN where they learned from it; `curve`: (seconds since the
    process began, the same at that time); `ap`, `ap50`: on test."""

    seconds: float
    value: float
    curve: list[tuple[float, float]]
    ap: float
    ap50: float

    def until(self, aim: float) -> float:
        """Seconds until validation was as good; infinite where it never was, NaN where the aim is not known."""
        return math.nan if math.isnan(aim) else next((at for at, value in self.curve if value >= aim), math.inf)


# --- what others read


@dataclass(frozen=True)
class Written:
    """A data set in COCO's layout, `weights` (empty where there are none) in the form of YOLOX's checkpoints, and the boxes of the test
    pictures, by their ids, as the metrics take them."""

    folder: Path
    weights: str
    classes: list[str]
    truth: dict[int, np.ndarray]


def written(data: Path, weights: str | None, place: Path) -> Written:
    """Raises `UserError` for data that name no splits."""
    table = read(str(data))
    named = set(table.column("split").to_pylist()) if "split" in table else set()
    if not set(SPLITS) <= named:
        rule = f"names no pictures for {', '.join(name for name in SPLITS if name not in named)}"
        raise fail(str(data), rule, "give data that do: all sides are to have the same splits")
    start = {"model": NANO, "weights": weights} if weights else {"model": LITE0}
    job = prepare(str(data), Options.check(start), Watcher())
    for split in SPLITS:
        write_split(job, split, place)
    kept = place / "yolox_nano.pth"
    if weights:
        torch.save({"model": official(job)}, kept)
    truth = {int(row): job.dataset.targets[row] for row in job.rows("test")}
    return Written(place, str(kept) if weights else "", job.task.classes, truth)


def write_split(job: Job, split: str, place: Path) -> None:
    """Pictures and boxes of a split, without what ours found to be no boxes; the id of a picture is its row."""
    table, images, boxes = job.dataset.table, [], []
    (place / f"{split}2017").mkdir()
    (place / "annotations").mkdir(exist_ok=True)
    for row in map(int, job.rows(split)):
        name = f"{row:06}{Path(table.name(row)).suffix}"
        (place / f"{split}2017" / name).write_bytes(table.raw(row))
        width, height = (int(table.column(side)[row].as_py()) for side in ("width", "height"))
        images.append({"id": row, "file_name": name, "width": width, "height": height})
        for x1, y1, x2, y2, label, crowd, area in job.dataset.targets[row].tolist():
            outline = [[x1, y1, x2, y1, x2, y2, x1, y2]]  # torchvision's script reads masks, whatever it trains
            box = {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": area, "iscrowd": int(crowd), "segmentation": outline}
            boxes.append({"id": len(boxes) + 1, "image_id": row, "category_id": int(label) + 1, **box})
    categories = [{"id": number, "name": name} for number, name in enumerate(job.task.classes, 1)]
    content = {"images": images, "annotations": boxes, "categories": categories}
    (place / "annotations" / f"instances_{split}2017.json").write_text(json.dumps(content))


def official(job: Job) -> dict[str, torch.Tensor]:
    """The weights that ours begins with, by the names of official checkpoints; class outputs, which are new to both, are left out.

    What was folded has no statistics that batch norm could train with: it is given those of training pictures, as ours gives them. The
    scale that its convolutions had before is lost to both.
    """
    rows = np.random.default_rng(0).permutation(job.rows("train"))[:RECENTRED]
    parts = np.array_split(rows, math.ceil(len(rows) / 16))
    recentre(job.net, job.net.modules(), map(job.dataset.batch, parts), 0)
    names = {"backbone.trunk.": BODY, "backbone.neck.": "backbone.", "head.": "head."}
    state = {}
    for name, tensor in job.net.state_dict().items():
        begin = next(one for one in names if name.startswith(one))
        state[names[begin] + name.removeprefix(begin)] = tensor.clone()
    return {name: tensor for name, tensor in state.items() if not name.startswith("head.cls_preds.")}


# --- the sides


def ours(model: str, data: Path, place: Path, seed: int, weights: str | None, options: str) -> Found:
    line = [sys.executable, "-m", "acclimate", "fit", str(data.absolute()), "--model", model, "--out", f"{place}/run"]
    line += ["--seed", str(seed), "--quiet", "--json", *shlex.split(options)]
    line += ["--weights", str(Path(weights).absolute())] if weights and model == NANO else []
    began = time.monotonic()
    finish(line, place)
    seconds = time.monotonic() - began
    run = Run(place / "run")
    result = run.metrics()
    value, curve = history(run, seconds - result["seconds"])
    return Found(seconds, value, curve, *(result["metrics"][name]["value"] for name in ("map", "map50")))


def history(run: Run, before: float) -> tuple[float, list[tuple[float, float]]]:
    """Value and curve of a run. `before`: seconds until its clock began."""
    events = run.events()
    outcomes = {one["index"]: one for one in events if one["event"] == "outcome" and not one["notes"].get(LEARNED)}
    chosen = next(one["index"] for one in events if one["event"] == "chosen")
    epochs = [one for one in events if one["event"] == "epoch" and "value" in one]
    curve = sorted((one["at"] + before, one["value"]) for one in (*epochs, *outcomes.values()))
    return outcomes[chosen]["value"] if chosen in outcomes else math.nan, curve


def theirs(side: Side, code: str, data: Written, place: Path, seed: int) -> Found:
    began = time.time()
    folder = str(Path(code).absolute())
    question = Ask(
        side.trainer, folder, str(data.folder), data.weights, data.classes, side.epochs, seed, str(place), began
    )
    file = place / "ask.json"
    file.write_text(json.dumps(vars(question)))
    finish([sys.executable, str(Path(__file__).with_name("detection_sides.py")), str(file)], place)
    answer = json.loads((place / "answer.json").read_text())
    test = judged({int(number): rows for number, rows in answer["boxes"].items()}, data)
    return Found(answer["seconds"], answer["value"], answer["curve"], *test)


def finish(line: list[str], place: Path) -> None:
    """Run a process in its own folder, with an empty cache and no GPU; leaves with its last words where it fails."""
    environment = {**fresh_cache(place / "cache"), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(line, cwd=place, env=environment, capture_output=True, text=True)
    if done.returncode:
        print(f"{' '.join(line[1:4])} failed:\n{done.stdout[-1000:]}\n{done.stderr[-4000:]}", file=sys.stderr)
        sys.exit(done.returncode)


def judged(boxes: dict[int, list[list[float]]], data: Written) -> tuple[float, float]:
    """(average precision, that at IoU .5) on test."""
    found = np.zeros((len(data.truth), max([1, *map(len, boxes.values())]), 6), dtype=np.float32)
    found[..., 5] = -1
    targets = np.empty(len(data.truth), dtype=object)
    for place, (number, truth) in enumerate(data.truth.items()):
        targets[place] = truth
        if rows := boxes.get(number):
            found[place, : len(rows)] = rows
    told = figures(found, targets, len(data.classes), only=("map", "map50"))
    return told["map"]["value"], told["map50"]["value"]


# --- the table


def row(name: str, seed: str, numbers: list[float]) -> list[str]:
    return [name, seed, *(told(number, 0 if place in (0, 2, 3) else 3) for place, number in enumerate(numbers))]


def told(number: float, digits: int) -> str:
    if math.isnan(number):
        return "-"
    return "never" if math.isinf(number) else f"{number:.{digits}f}"


def columns(found: Found, other: Found | None) -> list[float]:
    """The columns of a row from the third on."""
    past = found.until(other.value if other else math.nan)
    return [found.seconds, found.value, found.until(found.value - NEAR), past, found.ap, found.ap50]


def compare(names: list[str], given: argparse.Namespace, data: Path, place: Path) -> None:
    """The rows of the sides that fit one model, as they come; with several seeds their means."""
    coco = place / "coco"
    coco.mkdir()
    prepared = written(data, given.weights, coco)
    for model in dict.fromkeys(SIDES[name].model for name in names):
        pair = [name for name in names if SIDES[name].model == model]
        show(f"{data.name}, {model}", HEADER, [])
        rows: dict[str, list[list[float]]] = {name: [] for name in pair}
        for seed in range(given.first_seed, given.first_seed + given.seeds):
            found = {name: one(name, given, data, prepared, seed) for name in pair}
            for name in pair:
                other = next((found[rival] for rival in pair if rival != name), None)
                rows[name].append(columns(found[name], other))
                show("", [], [row(name, str(seed), rows[name][-1])], begin=False)
        if given.seeds > 1:
            show("", [], [row(name, "mean", np.mean(rows[name], axis=0).tolist()) for name in pair], begin=False)


def one(name: str, given: argparse.Namespace, data: Path, prepared: Written, seed: int) -> Found:
    side = SIDES[name]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        if not side.trainer:
            return ours(side.model, data, place, seed, given.weights, given.ours)
        side = replace(side, epochs=given.epochs or side.epochs)
        return theirs(side, getattr(given, side.trainer), prepared, place, seed)


def ready(names: list[str], given: argparse.Namespace) -> list[str]:
    """Without the sides that lack something, which is said."""
    needed = {name: lacking(SIDES[name], given) for name in names}
    for name, words in needed.items():
        if words:
            print(f"left out: {name}, which needs {', '.join(words)}")
    return [name for name in names if not needed[name]]


def lacking(side: Side, given: argparse.Namespace) -> list[str]:
    """What a side lacks. Raises `UserError` for a folder that holds no such trainer."""
    words = ["--weights FILE"] if side.model == NANO and not given.weights else []
    if not side.trainer:
        return words
    folder, script = getattr(given, side.trainer), SCRIPTS[side.trainer]
    if folder and not (Path(folder) / script).is_file():
        raise fail(f"--{side.trainer} {folder}", f"holds no {script}", "give the folder that --help tells of")
    words += [] if folder else [f"--{side.trainer} FOLDER"]
    missing = [package for module, package in NEEDS[side.trainer].items() if not importlib.util.find_spec(module)]
    return words + ([f"pip install {' '.join(missing)}"] if missing else [])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+")
    parser.add_argument("--weights", metavar="FILE", help="of yolox:nano")
    parser.add_argument("--yolox", metavar="FOLDER", help="a checkout of github.com/Megvii-BaseDetection/YOLOX")
    parser.add_argument(
        "--torchvision", metavar="FOLDER", help="references/detection of one of github.com/pytorch/vision"
    )
    parser.add_argument("--only", default="", help=f"sides, separated by semicolons: {'; '.join(SIDES)}")
    parser.add_argument("--seeds", type=positive, default=1)
    parser.add_argument("--first-seed", type=int, default=0)
    defaults = ", ".join(f"{side.epochs} for {side.trainer}" for side in SIDES.values() if side.trainer)
    parser.add_argument(
        "--epochs",
        type=positive,
        help=f"of the others; by default {defaults}, for about 15 minutes of two cores on BCCD",
    )
    parser.add_argument(
        "--ours", default="", metavar="OPTIONS", help="more for acclimate fit: '--minutes 1 --augment flips'"
    )
    given = parser.parse_args()
    print(machine())
    names = ready(meant(given.only, SIDES), given)
    for data in folders(given.data):
        with tempfile.TemporaryDirectory() as place:
            compare(names, given, data, Path(place))
    print()


if __name__ == "__main__":
    command(main)
