"""What of a sample an answer rests on: planted evidence is found, the net stays as it was, and what cannot be asked is not made up."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from conftest import FILLER, TINY, sentences
from PIL import Image
from torch import nn

from acclimate.core.recipe import Options
from acclimate.core.seeds import generator
from acclimate.data.table import Table
from acclimate.engine import evaluate
from acclimate.engine.attribution import evidence, ground
from acclimate.engine.dataset import Dataset
from acclimate.engine.precision import Precision
from acclimate.engine.watcher import Watcher
from acclimate.models.backbone import Net
from acclimate.models.detection.canvas import Canvas
from acclimate.models.static import StaticVectors, cut
from acclimate.models.texts import Texts
from acclimate.tasks.canvas_inputs import CanvasInputs
from acclimate.tasks.image_classification import ImageClassification
from acclimate.tasks.text_inputs import TextInputs
from acclimate.verbs.fit import fit
from acclimate.verbs.job import Job, prepare
from acclimate.verbs.predict import Model, load

CPU = torch.device("cpu")
SIDE, PATCH = 96, slice(64, 88)


def planted(folder: Path, each: int) -> Path:
    """Grey pictures of two classes that differ in the colour of one patch near a corner, and in nothing else."""
    draw = generator("planted")
    for split, count in (("train", each), ("test", 8)):
        for name, colour in (("red", (250, 30, 30)), ("blue", (30, 60, 250))):
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                coarse = Image.fromarray(draw.integers(90, 160, (12, 12, 3)).astype(np.uint8))
                pixels = np.array(coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC))
                pixels[PATCH, PATCH] = colour
                Image.fromarray(pixels).save(folder / split / name / f"{number}.png")
    return folder


def keywords(each: int) -> Table:
    """Texts of which one word says the class, among words that say nothing."""
    draw, rows = generator("keywords"), []
    for place in range(each):
        for word in ("wave", "oak"):
            text = " ".join(draw.permutation([word, *draw.choice(FILLER, 7)]))
            split = "test" if place % 4 == 0 else "val" if place % 4 == 1 else "train"
            rows.append({"sample": text, "target": word, "split": split})
    return Table(pa.Table.from_pylist(rows), "text", "made up", "keywords")


def answers(model: Model, dataset: Dataset, rows: np.ndarray) -> np.ndarray:
    saved = model.saved
    return evaluate.predict(saved.net, saved.task, evaluate.over_samples(dataset, rows), saved.precision, CPU)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Model, Dataset, np.ndarray]]:
    home = tmp_path_factory.mktemp("planted")
    data, run = planted(home / "data", 16), home / "run"
    fit(data, model=TINY, strategy="probe", out=run)
    job = prepare(data, Options.check({"model": TINY}), Watcher())
    yield load(run), job.dataset, job.dataset.split("test")


def test_the_map_of_a_picture_lies_on_the_planted_patch(pictures: Any) -> None:
    model, dataset, rows = pictures
    predictions = answers(model, dataset, rows)
    assert (predictions.argmax(1) == dataset.targets[rows]).all()
    maps = np.maximum(np.stack(evidence(model.saved.net, model.saved.task, dataset, rows, predictions, CPU)), 0)
    places = slice(PATCH.start * maps.shape[1] // SIDE, PATCH.stop * maps.shape[1] // SIDE)
    inside = maps[:, places, places].sum((1, 2)) / maps.sum((1, 2))
    share = ((PATCH.stop - PATCH.start) / SIDE) ** 2
    assert inside.mean() > 4 * share
    best = maps.reshape(len(maps), -1).argmax(1)
    within = [all(places.start <= side < places.stop for side in divmod(place, maps.shape[1])) for place in best]
    assert np.mean(within) >= 0.9


def test_the_net_stays_as_it_was_and_the_maps_too(pictures: Any) -> None:
    model, dataset, rows = pictures
    net, predictions = model.saved.net, answers(model, dataset, rows)
    net.train()
    net.backbone.trunk.conv_stem.eval()
    before, modes = copy.deepcopy(net.state_dict()), [part.training for part in net.modules()]
    asked = [parameter.requires_grad for parameter in net.parameters()]
    first, again = (evidence(net, model.saved.task, dataset, rows, predictions, CPU) for _ in range(2))
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in before.items())
    assert [part.training for part in net.modules()] == modes
    assert [parameter.requires_grad for parameter in net.parameters()] == asked
    assert all(parameter.grad is None for parameter in net.parameters())
    assert np.array_equal(np.stack(first), np.stack(again))
    some = evidence(net, model.saved.task, dataset, rows[::-1][:3], predictions[::-1][:3], CPU)
    assert np.allclose(np.stack(some), np.stack(first)[::-1][:3], atol=1e-5)
    net.eval()


def test_the_keyword_of_a_text_weighs_most(text_models: dict[str, str], tmp_path: Path, monkeypatch: Any) -> None:
    table = keywords(40)
    monkeypatch.setattr("acclimate.verbs.job.read_data", lambda data, options: table)
    fit(tmp_path, model=text_models["bert"], strategy="probe", out=tmp_path / "run")
    dataset = prepare(tmp_path, Options.check({"model": text_models["bert"]}), Watcher()).dataset
    model, rows = load(tmp_path / "run"), dataset.split("test")
    predictions = answers(model, dataset, rows)
    assert (predictions.argmax(1) == dataset.targets[rows]).all()
    found = evidence(model.saved.net, model.saved.task, dataset, rows, predictions, CPU)
    for row, weights in zip(rows, found, strict=True):
        assert weights is not None
        told = dataset.inputs.shown(dataset.table.raw(int(row)), weights).strongest()
        assert told[0] == dataset.table.column("target")[int(row)].as_py()


@pytest.mark.parametrize("kind", ["bert", "llama"])
@pytest.mark.parametrize("long", ["truncate", "head+tail", "window"])
def test_texts_of_every_length_have_one_number_a_token(
    kind: str, long: str, text_models: dict[str, str], monkeypatch: Any
) -> None:
    table = sentences(4)
    texts = [" ".join([text] * (1 + place % 4)) for place, text in enumerate(table.column("sample").to_pylist())]
    table = table.with_column("sample", pa.array(texts))
    monkeypatch.setattr("acclimate.verbs.job.read_data", lambda data, options: table)
    job = prepare("made up", Options.check({"model": text_models[kind], "long": long, "size": 16}), Watcher())
    rows = np.arange(len(job.dataset))
    found = _evidence(job, rows)
    for row, weights in zip(rows, found, strict=True):
        assert weights is not None
        assert weights.shape == (len(job.dataset.sample(int(row))["ids"]),)
        assert np.isfinite(weights).all()
        assert weights.any()


@pytest.mark.parametrize("name", ["test_vit", "test_efficientnet", "test_resnet", "test_convnext"])
def test_networks_of_pictures_have_a_square_map(name: str, digits: Path) -> None:
    job = prepare(digits, Options.check({"model": f"random:timm:{name}"}), Watcher())
    rows = job.dataset.split("test")[:3]
    for found in _evidence(job, rows):
        assert found is not None
        assert found.shape[0] == found.shape[1] >= 8
        assert found.any()


def test_several_labels_and_no_label_have_a_score_that_gradients_flow_through() -> None:
    task = ImageClassification({"classes": ["a", "b", "c"], "several": True})
    outputs = torch.tensor([[2.0, -1.0, 1.0], [-3.0, -1.0, -2.0]], requires_grad=True)
    sure = task.certainty(outputs, task.predictions(outputs))
    assert torch.allclose(sure, torch.tensor([3.0, -1.0]))
    (slopes,) = torch.autograd.grad(sure.sum(), outputs)
    assert slopes.tolist() == [[1, 0, 1], [0, 1, 0]]


def test_certainty_is_the_log_odds_of_the_answer() -> None:
    task = ImageClassification({"classes": ["a", "b", "c"], "several": False})
    outputs = torch.tensor([[2.0, -1.0, 1.0], [0.0, 80.0, 1.0]])
    predictions = task.predictions(outputs)
    sure = task.certainty(outputs, predictions)
    odds = np.log(predictions[0].max() / (1 - predictions[0].max()))
    assert sure[0].item() == pytest.approx(odds, abs=1e-5)
    assert sure[1].item() == pytest.approx(79 - np.log1p(np.exp(-1)), abs=1e-4)  # where the probability rounds to 1


def test_token_vectors_and_detectors_have_no_place_to_ask_at() -> None:
    shown = Texts(16, 16, 100, family="static")
    backbone = cut(StaticVectors(100, 8), shown.example(2))
    net, task = Net(backbone, nn.Identity()), ImageClassification({"classes": ["a", "b"], "several": False})
    assert ground(net, task, TextInputs(shown), shown.example(2), np.zeros((2, 2))) is None
    assert list(CanvasInputs(Canvas()).grounds(5)) == []


def _evidence(job: Job, rows: np.ndarray) -> list[np.ndarray | None]:
    """Of an untrained head."""
    net, task = job.net, job.task
    assert isinstance(net, Net)
    nn.init.normal_(net.head.linear.weight)
    batches = evaluate.over_samples(job.dataset, rows)
    predictions = evaluate.predict(net, task, batches, Precision(), CPU)
    return evidence(net, task, job.dataset, rows, predictions, CPU)
