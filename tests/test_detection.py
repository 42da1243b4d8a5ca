"""Detection through the public verbs, and what every family of detectors has to keep."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from PIL import Image
from scenes import annotation, boxes_of, picture, write_voc
from test_detr import made
from torch import nn
from torchvision.models import vgg

import acclimate
from acclimate.cli.terminal import print_metrics
from acclimate.core.errors import UserError
from acclimate.core.recipe import Options
from acclimate.core.run import Run
from acclimate.core.tree import leaves
from acclimate.data.read import read
from acclimate.data.table import Table
from acclimate.engine.batches import Batches
from acclimate.engine.phase import Phase
from acclimate.engine.watcher import Watcher
from acclimate.metrics.detection import best_threshold
from acclimate.metrics.matching import match
from acclimate.models.backbone import Net
from acclimate.models.detection.frames import frame
from acclimate.models.frozen import fingerprint, freeze
from acclimate.models.load import describe, load
from acclimate.models.norms import restate
from acclimate.models.sources.torchvision_detection import DETECTORS
from acclimate.tasks.detection import Detection
from acclimate.verbs.job import Job, prepare

YOLOX = "random:yolox:nano"
SSDLITE, SSD = "random:ssdlite320_mobilenet_v3_large", "random:ssd300_vgg16"
SIZE = 64
SSD_SIZE = 268
"""The least that leaves its last map a pixel."""


@pytest.fixture(scope="session")
def voc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 training, 10 validation and 8 test pictures of blue and red squares, one of each split empty."""
    return write_voc(tmp_path_factory.mktemp("scenes") / "voc", {"train": 24, "val": 10, "test": 8}, empty=1)


def fit(data: Path, out: Path, **asked: Any) -> Run:
    kept = {"model": YOLOX, "size": SIZE, "precision": "fp32", **asked}
    return acclimate.fit(str(data), out=out, **kept)


@pytest.fixture(scope="module")
def run(voc: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("run") / "run"
    return fit(voc, out, strategy="full", epochs=2, lr=3e-3)


# --- what every family keeps


@dataclass
class Case:
    """A family on eight pictures (SSD300: four, they are larger): the net with a fresh class output, an input batch, targets."""

    net: Net
    task: Detection
    inputs: Any
    encoded: np.ndarray
    targets: Any


LEARNED = {
    YOLOX: (5e-3, 260),
    "random:fasterrcnn:test_efficientnet": (2e-3, 65),
    "random:retinanet:test_efficientnet": (2e-3, 100),
    "random:fcos:test_efficientnet": (2e-3, 110),
    SSDLITE: (3e-3, 45),
    "rt_detr_v2": (2e-3, 320),
}
"""Name -> (learning rate, steps) in which eight pictures are learned by heart. RT-DETR is a folder of a tiny model."""
FAMILIES = (*LEARNED, SSD)
"""SSD300 is not asked to learn by heart: of canvases below 268 pixels nothing would be left for its last map, and however narrow the
network below, layers of 1,024 channels make a step take seconds. Its head is that of SSDlite, which is asked."""


def case(name: str, folder: Path) -> Case:
    table, _ = Detection.mend(read(str(write_voc(folder, {"train": 4 if name == SSD else 8}))))
    if name == "rt_detr_v2":
        name = str(write_detr(folder.with_name("detr"), name))
    return of_table(name, table)


def write_detr(folder: Path, kind: str) -> Path:
    """A tiny model as transformers saves it."""
    made(kind).save_pretrained(folder)
    told = {"size": {"height": SIZE, "width": SIZE}, "resample": 2, "do_normalize": False}
    (folder / "preprocessor_config.json").write_text(json.dumps(told))
    return folder


def of_table(name: str, table: Table) -> Case:
    task = Detection(Detection.from_table(table))
    size = SSD_SIZE if name == SSD else SIZE
    shown = Detection.suit(describe(name)[1].preprocessing.sized(size), table, Options())
    with small(name.removeprefix("random:"), shown):
        backbone, _ = load(name, shown=shown)
    inputs = task.inputs(shown)
    batch = inputs.collate([inputs.prepare(table.raw(i)) for i in range(len(table))])  # type: ignore[arg-type]
    with torch.no_grad():
        features = backbone(batch)
    torch.manual_seed(0)
    net = Net(backbone, task.head(features, backbone))
    encoded = task.encode(table.column("target"))
    return Case(net, task, batch, encoded, task.targets(encoded))


@contextmanager
def small(name: str, shown: Any) -> Iterator[None]:
    """Inside, torchvision's SSDs are built for another size than the one that they were made for, over a narrow VGG."""
    sized = {name: replace(DETECTORS[name], shown=shown)} if name in DETECTORS else {}
    with patch.dict(DETECTORS, sized), patch("torchvision.models.detection.ssd.vgg16", narrow_vgg):
        yield


def narrow_vgg(**_: Any) -> Any:
    """What SSD takes of VGG16: of 512 channels where it reads them, of few elsewhere."""
    narrow: list[Any] = [8, 8, "M", 16, 16, "M", 32, 32, 32, "M", 32, 32, 512, "M", 32, 32, 512, "M"]
    features = vgg.make_layers(narrow)
    for layer in features:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return SimpleNamespace(features=features)


def learn(one: Case, rate: float, steps: int) -> None:
    parameters = [value for value in one.net.parameters() if value.requires_grad]
    optimizer = torch.optim.AdamW(parameters, rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps, pct_start=0.1)
    one.net.train()
    for step in range(steps):
        torch.manual_seed(step)
        loss, count = one.task.loss(one.net(one.inputs, 0, one.targets), one.targets)
        (loss / max(1, count)).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 10.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    one.net.eval()


@pytest.mark.parametrize("name", LEARNED)
def test_eight_pictures_are_learned_by_heart_class_0_among_them(name: str, tmp_path: Path) -> None:
    one = case(name, tmp_path / "voc")
    learn(one, *LEARNED[name])
    if name == SSDLITE:  # its running averages, of momentum .03, are far behind after so few steps
        restate(one.net, one.net.modules(), [one.inputs], 0)
    with torch.no_grad():
        predictions = one.task.predictions(one.net(one.inputs))
    figures = one.task.metrics(predictions, one.encoded)
    assert figures["map50"]["value"] > 0.9
    each = one.task.by_class(predictions, one.encoded)
    assert all(each[label]["ap50"]["value"] > 0.85 for label in ("blue", "red"))


@pytest.mark.parametrize("name", FAMILIES)
def test_no_box_one_box_and_two_hundred_boxes_can_be_learned_from(name: str, tmp_path: Path) -> None:
    one = case(name, tmp_path / "voc")
    random = np.random.default_rng(0)
    corners = random.uniform(0, 60, (200, 2))
    many = np.column_stack([corners, corners + random.uniform(3, 30, (200, 2)), np.zeros((200, 2)), np.ones(200)])
    encoded, nothing = np.empty((2, len(one.encoded)), dtype=object)
    for i, count in enumerate((0, 1, 200, 3, 0, 0, 0, 0)[: len(encoded)]):
        encoded[i], nothing[i] = many[:count], many[:0]
    one.net.train()
    for part in (encoded, nothing):
        targets = one.task.targets(part)
        loss, count = one.task.loss(one.net(one.inputs, 0, targets), targets)
        (loss / max(1, count)).backward()
        assert torch.isfinite(loss)
        slopes = [value.grad for value in one.net.parameters() if value.grad is not None]
        assert all(bool(slope.isfinite().all()) for slope in slopes)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_batch_of_one_equals_the_batched_output(name: str, tmp_path: Path) -> None:
    one = case(name, tmp_path / "voc")
    one.net.eval()
    with torch.no_grad():
        together = one.task.predictions(one.net(one.inputs))
        alone = one.task.predictions(one.net({key: leaf[3:4] for key, leaf in one.inputs.items()}))
    assert Detection.apart(together[3:4], alone) < 1e-3


@pytest.mark.parametrize("name", FAMILIES)
def test_prefix_and_suffix_equal_the_whole_at_every_boundary(name: str, tmp_path: Path) -> None:
    one = case(name, tmp_path / "voc")
    one.net.eval()
    backbone = one.net.backbone
    with torch.no_grad():
        whole = backbone(one.inputs)
        for k in range(1, len(backbone.stages) + 1):
            state = backbone.join(backbone.split(backbone.run(one.inputs, 0, k)))
            for mine, other in zip(backbone.run(state, k)["maps"], whole["maps"], strict=True):
                torch.testing.assert_close(mine, other, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", FAMILIES)
def test_frozen_means_frozen(name: str, tmp_path: Path) -> None:
    one = case(name, tmp_path / "voc")
    stages = [stage.name for stage in one.net.backbone.stages]
    freeze(one.net.backbone, {stages[-1]})
    before = fingerprint(one.net.backbone, stages[:-1])
    moved = fingerprint(one.net.backbone, stages[-1:])
    one.targets["boxes"][:, 0] = torch.tensor([0.0, 0.0, 96.0, 64.0])  # large enough for the last stage of SSD
    learn(one, 1e-2, 2)
    assert fingerprint(one.net.backbone, stages[:-1]) == before
    assert fingerprint(one.net.backbone, stages[-1:]) != moved


# --- through the verbs


def test_a_fit_leaves_figures_of_boxes(run: Run) -> None:
    result = run.metrics()
    assert result["split"] == "test"
    assert {"map", "map50", "map75", "recall100", "f1"} <= set(result["metrics"])
    for figure in result["metrics"].values():
        assert figure["low"] <= figure["value"] <= figure["high"]
    manifest = run.read_json("model.json")
    assert manifest["task"]["spec"]["classes"] == ["blue", "red"]
    assert 0 < manifest["task"]["spec"]["threshold"] < 1


def test_evaluate_gives_the_figures_of_the_fit(run: Run, voc: Path) -> None:
    found = acclimate.evaluate(run.path, str(voc))
    assert all(found[part] == run.metrics()[part] for part in ("metrics", "errors"))


def test_what_is_mended_for_a_fit_is_mended_for_its_evaluation(tmp_path: Path) -> None:
    data = write_voc(tmp_path / "voc", {"train": 6, "val": 3})
    random = np.random.default_rng(0)
    many = [boxes_of(random, ["blue", "red"], 3) for _ in range(15)]  # so that one in twenty-one is no more than 5 %
    for number, boxes in enumerate(many):
        picture(random, boxes).save(data / f"JPEGImages/more_{number}.png")
        annotation(data / f"Annotations/more_{number}.xml", f"more_{number}.png", boxes)
    sets = data / "ImageSets/Main/train.txt"
    sets.write_text(sets.read_text() + "".join(f"more_{number}\n" for number in range(15)))
    annotation(data / "Annotations/val_000.xml", "val_000.png", [("blue", 50, 20, 50, 20), ("red", 10, 10, 40, 40)])
    done = fit(data, tmp_path / "run", strategy="full", epochs=1)
    assert done.metrics()["split"] == "val"
    assert acclimate.evaluate(done.path, str(data), split="val")["metrics"] == done.metrics()["metrics"]


def test_training_learns(voc: Path, tmp_path: Path) -> None:
    done = fit(voc, tmp_path / "run", strategy="full", epochs=30, lr=6e-3, augment="flip", batch_size=4)
    values = [event["value"] for event in done.events() if event["event"] == "epoch"]
    losses = [event["loss"] for event in done.events() if event["event"] == "epoch"]
    assert losses[-1] < losses[0] / 1.5
    assert max(values) > 0


@pytest.fixture(scope="module")
def job(voc: Path) -> Job:
    return prepare(voc, Options.check({"model": YOLOX, "size": SIZE, "strategy": "full"}), Watcher())


def stream(job: Job, *cached: Any, **asked: Any) -> Batches:
    """Batches of the job's training pictures, or of cached views of them; the last half of four epochs are the closing steps."""
    phase = Phase("all", "test", ("head",), (1e-3,), epochs=4, batch_size=12, closing=0.5, **asked)
    return Batches(job.task, job.dataset, job.rows("train"), phase, list(cached))


@pytest.mark.parametrize("augment", ["flip", "mosaic", "crop"])
def test_batches_are_the_same_whoever_builds_them_and_know_the_last_steps(augment: str, job: Job) -> None:
    whole = stream(job, augment=augment)
    with ThreadPoolExecutor(4) as many, ThreadPoolExecutor(1) as one:
        for step in range(whole.steps):
            first, second = whole.build(step, many), whole.build(step, one)
            for mine, other in zip(
                leaves((first.inputs, first.targets)), leaves((second.inputs, second.targets)), strict=True
            ):
                assert torch.equal(mine, other)
            assert first.targets["closing"].tolist() == [step >= whole.steps / 2] * len(first.rows)


def test_batches_of_cached_samples_know_the_last_steps(job: Job) -> None:
    cached = SimpleNamespace(sample=lambda row: row, join=torch.tensor)
    whole = stream(job, cached, views=1)
    with ThreadPoolExecutor(1) as pool:
        closing = [bool(whole.build(step, pool).targets["closing"].all()) for step in range(whole.steps)]
    assert closing == [step >= whole.steps / 2 for step in range(whole.steps)]


@pytest.mark.parametrize(("size", "batch"), [(64, 8), (416, 8), (640, 3), (1333, 2)])
def test_batches_hold_as_many_pixels_on_a_larger_canvas(size: int, batch: int) -> None:
    task = Detection({"classes": ["a"], "threshold": 0.5})
    backbone, card = load(YOLOX)
    shown = card.preprocessing.sized(size)
    assert task.tuning(backbone.kept[0], shown).defaults["batch_size"] == batch


def test_auto_begins_with_the_head_on_cached_maps_then_all_layers(voc: Path) -> None:
    plan = acclimate.fit(str(voc), model=YOLOX, size=SIZE, precision="fp32", dry_run=True)
    learned = [(phase.first, len(phase.stages)) for phase in plan.phases]  # type: ignore[union-attr]
    assert learned == [(6, 1), (0, 7)]


@pytest.mark.parametrize("strategy", ["auto", "probe", "last:1", "lp-ft", "gradual", "bitfit", "lora"])
def test_strategies_reach_their_end(strategy: str, voc: Path, tmp_path: Path) -> None:
    asked = {} if strategy == "probe" else {"epochs": 1}
    done = fit(voc, tmp_path / "run", strategy=strategy, **asked)
    assert done.metrics()["chosen"]
    assert acclimate.load(done.path).predict(str(voc / "JPEGImages/test_001.png")).keys() == {
        "boxes",
        "classes",
        "scores",
    }


def test_the_threshold_that_validation_chose_is_told(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    result = run.metrics()
    print_metrics({**result, "settled": {**result["settled"], "threshold": 0.1344}})
    assert "threshold 0.134, chosen on validation" in capsys.readouterr().out


def shy(pictures: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Eight boxes found in each picture, of which those of score p are right with chance p^(1/3); what is there is what is right."""
    random = np.random.default_rng(0)
    corner = 20.0 * np.arange(8)
    predictions, targets = np.zeros((pictures, 10, 6), dtype=np.float32), np.empty(pictures, dtype=object)
    predictions[..., 5] = -1
    for number, rows in enumerate(predictions):
        scores = np.sort(random.uniform(0.06, 0.9, 8))[::-1]
        rows[:8] = np.column_stack([corner, corner, corner + 10, corner + 10, scores, np.zeros(8)])
        right = rows[:8][random.random(8) < scores ** (1 / 3)]
        targets[number] = np.column_stack([right[:, :4], np.zeros((len(right), 2)), np.full(len(right), 100.0)])
    return predictions, targets


def test_scores_come_to_say_how_often_boxes_are_right() -> None:
    predictions, targets = shy()
    plain = Detection({"classes": ["blue"], "threshold": 0.3})
    settled = plain.settled(lambda: (predictions, targets, False))
    assert settled.spec.keys() == {"classes", "threshold", "temperature", "offset"}
    outputs = {
        "boxes": torch.from_numpy(predictions[..., :4]),
        "scores": torch.from_numpy(predictions[..., 4]),
        "labels": torch.from_numpy(predictions[..., 5]).long(),
        "frame": frame(1, 1, 200, 200)[None].repeat(len(predictions), 1, 1),
    }
    scaled = settled.predictions(outputs)
    assert plain.predictions(outputs) == pytest.approx(predictions, abs=1e-4)
    assert (scaled[:, 8:, 4] == 0).all(), "where there is no box there is no score"
    before, after = plain.calibration(predictions, targets), settled.calibration(scaled, targets)
    assert before["temperature"] == 1 and before["offset"] == 0
    for figure in ("ece", "log_loss"):
        assert after["before"][figure]["value"] == pytest.approx(before["after"][figure]["value"], abs=1e-5)
        assert after["after"][figure]["high"] < after["before"][figure]["low"]
    assert sum(one["accuracy"]["n"] for one in after["after"]["bins"]) == 8 * len(predictions)
    figures = [task.metrics(made, targets, ["map"]) for task, made in ((plain, predictions), (settled, scaled))]
    assert figures[0] == figures[1], "the order is the same"
    best = Detection({**plain.spec, "threshold": best_threshold(match(predictions, targets, 1))[0]})
    given = [task.metrics(made, targets, ["f1"]) for task, made in ((best, predictions), (settled, scaled))]
    assert given[0] == given[1], "the threshold has moved with the scores"


def test_scores_stay_where_validation_was_learned_from() -> None:
    predictions, targets = shy()
    settled = Detection({"classes": ["blue"], "threshold": 0.3}).settled(lambda: (predictions, targets, True))
    assert settled.spec.keys() == {"classes", "threshold"}


def test_a_run_can_be_started_from(run: Run, voc: Path, tmp_path: Path) -> None:
    """Its head comes along: without a step the figures are those of the run."""
    done = fit(voc, tmp_path / "again", model=str(run.path), strategy="full", epochs=1, lr=1e-12)
    before, after = run.metrics()["metrics"]["map"], done.metrics()["metrics"]["map"]
    assert after["value"] == pytest.approx(before["value"], abs=0.02)
    backbone, _ = load(str(run.path))
    assert backbone.kept[0].classes == ["blue", "red"]


def test_what_has_no_area_is_no_answer() -> None:
    task = Detection({"classes": ["blue"], "threshold": 0.5})
    rows = np.float32(
        [(0, 328, 512, 328, 0.9, 0), (7, 7, 7.004, 30, 0.8, 0), (1, 2, 3, 4, 0.7, 0), (0, 0, 9, 9, 0.1, 0)]
    )
    assert task.answer(rows)["boxes"] == [[1, 2, 3, 4]]


def test_a_bad_file_is_a_row_and_the_order_is_kept(run: Run, voc: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no picture")
    good = str(voc / "JPEGImages/test_001.png")
    rows = acclimate.load(run.path).predict([good, str(tmp_path / "bad.png"), good])
    assert [sorted(row) for row in rows] == [["boxes", "classes", "scores"], ["error"], ["boxes", "classes", "scores"]]
    assert rows[0] == rows[2]


# --- wrong input


def refused(match: str, data: Path, **asked: Any) -> None:
    with pytest.raises(UserError, match=match):
        acclimate.fit(str(data), **{"model": YOLOX, "size": SIZE, "dry_run": True, **asked})


def test_a_detector_and_a_classifier_are_not_mixed_up(voc: Path, digits: Path) -> None:
    refused("reads pictures with boxes, and the samples are pictures", digits)
    refused("reads pictures, and the samples are pictures with boxes", voc, model="random:timm:test_efficientnet")
    refused("build on it: --model fasterrcnn:resnet18, retinanet:resnet18, fcos:resnet18", voc, model="resnet18")


@pytest.mark.parametrize(
    ("asked", "match"),
    [
        ({"label_smoothing": 0.1}, "has no effect on detection"),
        ({"objective": "rdrop"}, "is not for detection"),
        ({"strategy": "contrastive"}, "is not for detection"),
        ({"augment": "cutmix"}, "has no effect on pictures with boxes"),
        ({"balance": "weights"}, "--balance weights: has no effect on detection"),
        ({"size": 70}, "--size 70: is no multiple of 32.*\n.*64 or 96"),
        ({"augment": "crop", "strategy": "last:1"}, "trains on cached views"),
    ],
)
def test_what_would_have_no_effect_is_an_error(asked: dict[str, Any], match: str, voc: Path) -> None:
    refused(match, voc, **asked)


def test_a_class_that_training_lacks_is_named(voc: Path, tmp_path: Path) -> None:
    data = write_voc(tmp_path / "voc", {"train": 4, "val": 3})
    random = np.random.default_rng(0)
    boxes = [("green", 5, 5, 30, 30)]
    picture(random, boxes).save(data / "JPEGImages/val_000.png")
    annotation(data / "Annotations/val_000.xml", "val_000.png", boxes)
    refused("green in val", data)


def test_the_size_of_the_annotation_is_not_trusted(tmp_path: Path) -> None:
    data = write_voc(tmp_path / "voc", {"train": 4, "val": 2})
    Image.new("RGB", (96, 64)).resize((120, 64)).save(data / "JPEGImages/train_000.png")
    plan = acclimate.fit(str(data), model=YOLOX, size=SIZE, precision="fp32", dry_run=True)
    assert any("size" in note and "train_000" in note for note in plan.notes)  # type: ignore[union-attr]


def test_json_of_a_run_can_be_read_without_the_library(run: Run) -> None:
    kept = json.loads((run.path / "model.json").read_text())
    assert kept["preprocessing"]["kind"] == "pictures with boxes"
    assert tuple(kept["preprocessing"]["shape"]) == (64, 64)
