"""The second look: doubts about classes against a reference, about boxes, and out of fold, where nothing judges what it learned."""

from __future__ import annotations

import csv
import io
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from conftest import TINY, write_digits
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes import write_voc

from acclimate.core.recipe import Options
from acclimate.core.run import Run
from acclimate.core.seeds import generator
from acclimate.engine.precision import Precision
from acclimate.engine.second_look import FOLDS, out_of_fold, second_look, table
from acclimate.engine.trainer import Trainer
from acclimate.engine.trial import folds
from acclimate.engine.watcher import Watcher
from acclimate.metrics.doubt import LACKING, OTHER, VAIN, doubtful, wrong
from acclimate.tasks.detection import Detection
from acclimate.tasks.head import LinearHead
from acclimate.tasks.text_classification import TextClassification
from acclimate.verbs.job import prepare

NOBODY = np.zeros(0, dtype=np.int64)


# --- classes


def reference(chances: np.ndarray, given: np.ndarray) -> float:
    """Confident learning as its paper writes it: the confident joint, its rows calibrated, what is off its diagonal."""
    n, classes = chances.shape
    least = [np.mean([chances[x, j] for x in range(n) if given[x] == j]) for j in range(classes)]
    joint = np.zeros((classes, classes))
    for x in range(n):
        likely = [j for j in range(classes) if chances[x, j] >= least[j]]
        if likely:
            joint[given[x], max(likely, key=lambda j: chances[x, j])] += 1
    calibrated = [joint[i] / joint[i].sum() * sum(given == i) for i in range(classes)]
    return float(sum(row.sum() - row[i] for i, row in enumerate(calibrated)))


@pytest.mark.parametrize("seed", range(5))
def test_as_many_are_wrong_as_the_paper_says(seed: int) -> None:
    draw = generator("doubt", seed)
    given_ = np.arange(60) % 3
    chances = draw.dirichlet(np.ones(3), 60) + 0.3 * np.eye(3)[given_]
    chances /= chances.sum(axis=1, keepdims=True)
    assert wrong(chances, given_) == pytest.approx(reference(chances, given_))
    assert wrong(chances, given_) > 0


def test_small_numbers_by_hand() -> None:
    chances = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.2, 0.8], [0.05, 0.95], [0.36, 0.64]])
    given_ = np.array([0, 0, 1, 1, 0, 0])
    # likely from .5275 for class 0 and .85 for class 1: of three told zeros one is a one, so 4/3 of the four; none of the ones
    assert wrong(chances, given_) == pytest.approx(4 / 3)
    found = doubtful(chances, given_)
    assert found.place.tolist() == [4] and found.suggested.tolist() == [1]
    assert found.sure[0] == pytest.approx((1 + 0.95**0.5 - 0.05**0.5) / 2)


def test_a_class_that_nobody_else_has_is_not_doubted() -> None:
    chances = np.tile([0.05, 0.9, 0.05], (7, 1))
    given_ = np.array([0, 1, 1, 1, 1, 2, 2])
    fold = np.array([0, 1, 2, 3, 4, 5, 5])
    assert 0 not in doubtful(chances, given_).place and {5, 6} <= set(doubtful(chances, given_).place.tolist())
    assert doubtful(chances, given_, fold).place.tolist() == []  # the twos are all in one fold


@settings(max_examples=50)
@given(st.integers(1, 30), st.integers(2, 5), st.integers(0, 10**6))
def test_whatever_comes_is_ranked(n: int, classes: int, seed: int) -> None:
    draw = generator("wild", seed)
    chances = np.where(draw.random((n, classes)) < 0.3, 0.0, draw.random((n, classes)))
    given_ = draw.integers(0, classes, n)
    found = doubtful(chances, given_, draw.integers(0, 3, n))
    assert (np.diff(found.sure) <= 0).all() and (found.sure > 0.5).all() and (found.sure <= 1).all()
    assert len(set(found.place.tolist())) == len(found.place) <= n
    assert (found.suggested != given_[found.place]).all()


def test_several_labels_are_doubted_one_by_one() -> None:
    task = TextClassification({"classes": ["a", "b"], "several": True})
    targets = np.tile(np.array([[1, 0], [0, 1], [1, 1], [0, 0]], dtype=np.float32), (5, 1))
    predictions = np.clip(targets, 0.02, 0.98)
    predictions[0, 0], predictions[1, 0] = 0.01, 0.97
    first, second = task.doubts(predictions, targets)
    assert (first.place, first.kind, first.label, first.suggested) == (0, VAIN, "a", "")
    assert (second.place, second.kind, second.label, second.suggested) == (1, LACKING, "", "a")
    assert first.sure > second.sure > 0.5


# --- out of fold


def blobs(several: bool) -> tuple[TextClassification, torch.Tensor, np.ndarray]:
    """A task, features [90, 6] and targets that they tell."""
    task = TextClassification({"classes": ["a", "b", "c"], "several": several})
    names, draw = np.arange(90) % 3, generator("blobs")
    features = draw.normal(size=(90, 6)) + 4 * np.eye(6)[names]
    targets = np.eye(3, dtype=np.float32)[names] if several else names
    return task, torch.from_numpy(features).float(), targets


def answers(task: TextClassification, features: torch.Tensor, targets: np.ndarray) -> np.ndarray:
    rows = np.arange(90)
    head = LinearHead(6, 3)
    return out_of_fold(task, head, lambda some: features[torch.from_numpy(some)], targets, rows, rows // 3 % FOLDS)


@pytest.mark.parametrize("several", [False, True])
def test_nobody_judges_a_label_that_it_learned(several: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "acclimate.engine.second_look.PENALTIES", (0.1,)
    )  # the one thing that all folds choose together
    task, features, targets = blobs(several)
    before = answers(task, features, targets)
    changed = targets.copy()
    changed[7] = targets[8]
    after = answers(task, features, changed)
    fold = np.arange(90) // 3 % FOLDS
    same = np.abs(after - before).max(axis=1) == 0
    assert same[fold == fold[7]].all() and not same[fold != fold[7]].any()


def looked_at(data: Path, place: Path, **asked: Any) -> Trainer:
    job = prepare(data, Options.check({"model": TINY, "size": 32, **asked}), Watcher())
    return job.trainer(Run(place), Precision("cpu"), Watcher())


def with_targets(trainer: Trainer, targets: np.ndarray) -> Trainer:
    classes = trainer.task.spec["classes"]
    names = pa.chunked_array([pa.array([classes[code] for code in targets])])
    dataset = replace(trainer.dataset, targets=targets, table=trainer.dataset.table.with_column("target", names))
    return replace(trainer, dataset=dataset)


def test_labels_that_were_changed_come_first_and_weights_stay(digits: Path, tmp_path: Path) -> None:
    trainer = looked_at(digits, tmp_path)
    targets = trainer.dataset.targets
    rows = generator("changed").permutation(len(targets))[:6]
    changed = targets.copy()
    changed[rows] = (targets[rows] + 1) % 4
    with torch.no_grad():
        trainer.net.backbone.get_parameter(trainer.net.backbone.stages[0].parameters[0]).mul_(2)  # as training would
    weights = {name: value.clone() for name, value in trainer.net.state_dict().items()}
    found = second_look(with_targets(trainer, changed), trainer.task, NOBODY)
    assert {one["row"] for one in found[:4]} <= set(rows.tolist())
    for one in found[:4]:
        assert one["kind"] == OTHER and one["label"] == str(changed[one["row"]]) and not one["learned"]
        assert one["suggested"] == str(targets[one["row"]])
        assert one["sample"] == trainer.dataset.table.name(one["row"])
        assert one["split"] == trainer.dataset.table.column("split")[one["row"]].as_py()
    assert all(torch.equal(value, weights[name]) for name, value in trainer.net.state_dict().items())


def test_what_is_there_twice_is_judged_by_others(tmp_path: Path) -> None:
    """A picture that lies in two classes: each of its labels would be the other's witness."""
    data = write_digits(tmp_path / "data", 3, 12)
    first = next(iter(sorted((data / "0").iterdir())))
    shutil.copy(first, data / "1" / "again.png")
    trainer = looked_at(data, tmp_path / "run")
    rows = np.arange(len(trainer.dataset))
    names = [Path(trainer.dataset.table.name(row)).name for row in rows]
    own, other = names.index(first.name), names.index("again.png")
    fold = folds(trainer, rows, FOLDS)
    assert fold[own] == fold[other]
    (told,) = np.unique(trainer.dataset.targets[[own, other]] == [0, 1])
    assert told and first.name not in {Path(one["sample"]).name for one in second_look(trainer, trainer.task, NOBODY)}


# --- boxes

BOX = (10.0, 10.0, 30.0, 30.0)


def picture(*boxes: tuple[Any, ...]) -> np.ndarray:
    """float64 [m, 7] of (corners, class[, crowd])."""
    rows = [[*corners, label, *(crowd or [0]), 400.0] for corners, label, *crowd in boxes]
    return np.array(rows, dtype=np.float64).reshape(-1, 7)


def seen(*boxes: tuple[Any, ...]) -> np.ndarray:
    """float32 [3, 6] of (corners, score, class), the rest padding."""
    rows = [[*corners, score, label] for corners, score, label in boxes] + [[0, 0, 0, 0, 0, -1]] * (3 - len(boxes))
    return np.array(rows, dtype=np.float32)


def doubts_of(*pictures: tuple[np.ndarray, np.ndarray]) -> list[Any]:
    targets = np.empty(len(pictures), dtype=object)
    for place, (_, given_) in enumerate(pictures):
        targets[place] = given_
    task = Detection({"classes": ["cat", "dog"], "threshold": 0.4})
    return task.doubts(np.stack([found for found, _ in pictures]), targets)


def test_boxes_are_doubted_in_three_ways() -> None:
    right = [(seen((BOX, 0.9, 0)), picture((BOX, 0)))] * 4
    away = (60.0, 60.0, 80.0, 80.0)
    lacking = (seen((BOX, 0.9, 0), (away, 0.8, 1)), picture((BOX, 0)))
    other = (seen((BOX, 0.85, 1), (BOX, 0.1, 0)), picture((BOX, 0)))
    vain = (seen((BOX, 0.9, 0)), picture((BOX, 0), (away, 0)))
    found = {one.kind: one for one in doubts_of(*right, lacking, other, vain)}
    assert len(found) == 3
    assert (found[LACKING].place, found[LACKING].label, found[LACKING].suggested) == (4, "", "dog")
    assert found[LACKING].box == away and found[LACKING].sure == pytest.approx(
        0.8 * 7 / 8, abs=1e-6
    )  # seven of eight detections are labelled
    assert (found[OTHER].place, found[OTHER].label, found[OTHER].suggested) == (5, "cat", "dog")
    assert found[OTHER].sure == pytest.approx(
        6 / 7 * (1 + 0.85**0.5 - 0.1**0.5) / 2, abs=1e-6
    )  # of what is found, six agree
    assert (found[VAIN].place, found[VAIN].label, found[VAIN].suggested, found[VAIN].box) == (6, "cat", "", away)
    assert found[VAIN].sure == pytest.approx(7 / 8)  # seven of eight boxes of the class are found


def test_what_is_right_crowded_or_unsure_is_not_doubted() -> None:
    inside = (12.0, 12.0, 20.0, 20.0)
    assert doubts_of((seen((BOX, 0.9, 0)), picture((BOX, 0)))) == []
    assert doubts_of((seen((inside, 0.9, 0)), picture((BOX, 0, 1)))) == []  # a crowd is neither missed nor overlapped
    assert doubts_of((seen((BOX, 0.39, 0)), picture())) == []
    assert doubts_of((seen(), picture((BOX, 0)))) == []  # a detector that finds nothing is no witness


def test_one_place_is_doubted_once_and_only_by_who_agrees_with_most_labels() -> None:
    twice = (seen((BOX, 0.9, 0), (BOX, 0.7, 1)), picture())
    right = (seen((BOX, 0.9, 0)), picture((BOX, 0)))
    assert [(one.suggested, one.place) for one in doubts_of(right, right, twice)] == [("cat", 2)]
    assert doubts_of(right, twice, twice) == []  # four of five detections are not labelled


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.integers(0, 4))
def test_whatever_boxes_come_are_ranked(seed: int, pictures: int) -> None:
    draw = generator("boxes", seed)

    def corners(n: int) -> np.ndarray:
        first = draw.integers(0, 5, (n, 2)) * 8.0
        return np.column_stack([first, first + draw.integers(0, 4, (n, 2)) * 8.0])

    made = []
    for _ in range(pictures):
        n, m = draw.integers(0, 4, 2)
        given_ = np.column_stack([corners(n), draw.integers(0, 2, n), draw.integers(0, 2, n), np.full(n, 64.0)])
        made.append((seen(*((each, draw.random(), draw.integers(0, 2)) for each in corners(m))), given_))
    found = doubts_of(*made) if made else []
    assert all(0 <= one.sure <= 1 for one in found) and all(one.box is not None for one in found)
    assert [one.sure for one in found] == sorted((one.sure for one in found), reverse=True)


class Sure(Detection):
    """Finds one box in every picture, whatever the network says."""

    def predictions(self, outputs: Any) -> np.ndarray:
        return np.tile(seen((BOX, 0.9, 0)), (len(outputs["boxes"]), 1, 1))


def test_a_detector_answers_itself_and_it_is_said_what_it_learned(tmp_path: Path) -> None:
    data = write_voc(tmp_path / "voc", {"train": 6, "val": 3})
    trainer = looked_at(data, tmp_path / "run", model="random:yolox:nano", size=96)
    train = trainer.train_rows
    targets = trainer.dataset.targets
    for row in range(0, len(targets), 2):
        targets[row] = picture((BOX, 0))
    found = second_look(trainer, Sure(trainer.task.spec), train)
    assert {one["row"] for one in found if one["kind"] == LACKING} <= set(range(1, len(targets), 2))
    assert {one["learned"] for one in found} == {True, False}
    assert all(one["learned"] == (one["split"] == "train") == (one["row"] in train) for one in found)
    assert all(one["box"] == pytest.approx(BOX) for one in found if one["kind"] == LACKING)


# --- the file


def test_the_file_holds_names_as_they_are() -> None:
    row = {"split": "train", "kind": OTHER, "suggested": "b", "sure": 0.75, "learned": False, "row": 3}
    rows = [{**row, "sample": '<b>,"\n;é.png', "label": "=1+1"}, {**row, "sample": "\udcff.png", "label": "c"}]
    first, second = csv.DictReader(io.StringIO(table(rows).decode("utf-8", "surrogateescape"), newline=""))
    assert (first["sample"], first["label"], first["learned"], first["sure"]) == ('<b>,"\n;é.png', "=1+1", "no", "0.75")
    assert second["sample"] == "\udcff.png" and "x1" not in second and "row" not in second
    (boxed,) = csv.DictReader(io.StringIO(table([{**rows[0], "box": (1.0, 2.0, 3.25, 4.0)}]).decode()))
    assert [boxed[name] for name in ("x1", "y1", "x2", "y2")] == ["1.0", "2.0", "3.2", "4.0"]
    assert table([]).decode().splitlines() == ["sample,split,kind,label,suggested,sure,learned"]
