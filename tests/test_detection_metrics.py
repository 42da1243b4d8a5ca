"""Figures of boxes equal COCO's; intervals, influences, thresholds and kinds of error are what they say."""

from __future__ import annotations

import contextlib
import importlib
import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acclimate.cli.terminal import print_metrics
from acclimate.metrics.average_precision import averages
from acclimate.metrics.detection import (
    OVERALL,
    answers,
    best_threshold,
    by_class,
    confusion,
    f1,
    figures,
    figures_of,
    influences,
    interval,
    match,
    value,
)
from acclimate.metrics.errors import error_kinds
from acclimate.metrics.matching import RANGES, THRESHOLDS
from acclimate.tasks.detection import Detection

pytestmark = pytest.mark.filterwarnings("error")

NAMES = ["red", "green", "blue"]
THERE = (0.0, 0.0, 100.0, 100.0, 0.0)
ELSEWHERE = (200.0, 200.0, 300.0, 300.0, 0.0)


def boxes(random: np.random.Generator, count: int) -> np.ndarray:
    """Corners on quarters of a pixel, from small to large, so that overlaps and areas are often the very same."""
    sizes = np.exp(random.uniform(np.log(6), np.log(240), (count, 2)))
    corner = random.uniform(0, 400 - sizes)
    return np.round(np.hstack([corner, corner + sizes]) * 4) / 4


def made_up(
    pictures: int = 40,
    classes: int = 3,
    detections: int = 30,
    each: float = 6,
    seed: int = 0,
    decimals: int = 7,
    crowds: float = 0.1,
) -> tuple[np.ndarray, np.ndarray]:
    """Predictions and targets: some boxes are found, some twice, some as another class; the rest of the detections is noise.

    The last class has no box from three classes on; some pictures have no box, and some no detection.
    """
    random = np.random.default_rng(seed)
    predictions = np.tile(np.array([0, 0, 0, 0, 0, -1], np.float32), (pictures, detections, 1))
    targets = np.empty(pictures, dtype=object)
    for row in range(pictures):
        truth = boxes(random, 0 if random.random() < 0.1 else random.poisson(each))
        labels = random.integers(max(1, classes - (classes > 2)), size=len(truth))
        area = np.prod(truth[:, 2:] - truth[:, :2], axis=1) * random.choice([1, 0.7], len(truth))
        targets[row] = np.column_stack([truth, labels, random.random(len(truth)) < crowds, area])
        again = np.repeat(np.arange(len(truth)), random.choice(3, len(truth), p=[0.15, 0.6, 0.25]))
        moved = truth[again] + np.round(random.normal(0, 3, (len(again), 4)) * 4) / 4
        moved = np.hstack([moved[:, :2], np.maximum(moved[:, 2:], moved[:, :2] + 1)])
        given = np.where(random.random(len(again)) < 0.9, labels[again], random.integers(classes, size=len(again)))
        noise = boxes(random, 0 if random.random() < 0.1 else random.integers(detections))
        scores = np.append(random.beta(4, 2, len(again)), random.beta(1.5, 4, len(noise))).round(decimals)
        labelled = np.append(given, random.integers(classes, size=len(noise)))
        all_of_it = np.column_stack([np.vstack([moved, noise]), scores, labelled])
        kept = random.permutation(all_of_it)[: 0 if random.random() < 0.1 else detections]
        predictions[row, : len(kept)] = kept
    return predictions, targets


def reference(library: str, predictions: np.ndarray, targets: np.ndarray, first_id: int = 1) -> dict[str, float]:
    """The same figures by COCO's own evaluation, or its faster twin."""
    if library == "pycocotools":
        coco = importlib.import_module("pycocotools.coco").COCO
        evaluation = importlib.import_module("pycocotools.cocoeval").COCOeval
    else:
        coco, evaluation = (getattr(importlib.import_module(library), name) for name in ("COCO", "COCOeval_faster"))

    def framed(box: np.ndarray) -> list[float]:
        return [box[0], box[1], box[2] - box[0], box[3] - box[1]]

    truths: list[dict[str, Any]] = []
    for picture, rows in enumerate(targets):
        for row in rows:
            known = {"id": first_id + len(truths), "image_id": picture, "category_id": int(row[4]), "area": row[6]}
            truths.append({**known, "bbox": framed(row), "iscrowd": int(row[5])})
    found = [
        {"image_id": picture, "category_id": int(row[5]), "bbox": framed(row), "score": float(row[4])}
        for picture, rows in enumerate(predictions.astype(np.float64))
        for row in rows
        if row[5] >= 0
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        data = coco()
        data.dataset = {
            "images": [{"id": picture, "width": 400, "height": 400} for picture in range(len(targets))],
            "categories": [{"id": number, "name": name} for number, name in enumerate(NAMES)],
            "annotations": truths,
        }
        data.createIndex()
        one = evaluation(data, data.loadRes(found), "bbox")
        one.evaluate()
        one.accumulate()
    precision, recall = one.eval["precision"][..., -1], one.eval["recall"][..., -1]  # [t, recall, k, a], [t, k, a]
    parts = {
        "map": precision[..., 0],
        "map50": precision[0, ..., 0],
        "map75": precision[5, ..., 0],
        **{f"map_{name}": precision[..., area] for area, name in enumerate(RANGES) if area},
        "recall100": recall[..., 0],
        **{f"ap: {name}": precision[:, :, number, 0] for number, name in enumerate(NAMES)},
        **{f"ap50: {name}": precision[0, :, number, 0] for number, name in enumerate(NAMES)},
    }
    return {name: part[part > -1].mean() for name, part in parts.items() if (part > -1).any()}


def point_values(predictions: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    found = dict(figures(predictions, targets, 3, replicates=2))
    for name, each in by_class(match(predictions, targets, 3), NAMES, replicates=2).items():
        found |= {f"{figure}: {name}": value for figure, value in each.items()}
    return {name: figure["value"] for name, figure in found.items()}


def rows(*boxes: tuple[float, ...]) -> np.ndarray:
    """Targets of one picture: (x1, y1, x2, y2, class), no crowd, with the area of the box."""
    table = np.array(boxes, dtype=np.float64).reshape(-1, 5)
    return np.column_stack([table, np.zeros(len(table)), np.prod(table[:, 2:4] - table[:, :2], axis=1)])


def one_picture(found: list[tuple[float, ...]], *there: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Predictions and targets of one picture."""
    targets = np.empty(1, dtype=object)
    targets[0] = rows(*there)
    return np.array(found, dtype=np.float32).reshape(1, -1, 6), targets


# --- equal to COCO's


@pytest.mark.parametrize("library", ["pycocotools", "faster_coco_eval"])
@pytest.mark.parametrize("decimals", [7, 1])
@pytest.mark.parametrize(("pictures", "detections", "each"), [(40, 30, 6), (12, 400, 60), (30, 3, 1)])
def test_figures_equal_cocos(pictures: int, detections: int, each: float, decimals: int, library: str) -> None:
    """With one decimal many scores are equal; with 400 detections more than 100 of a class are in a picture."""
    predictions, targets = made_up(pictures, 3, detections, each, decimals=decimals)
    expected = reference(library, predictions, targets)
    assert "ap: blue" not in expected  # never there, and predicted
    assert point_values(predictions, targets) == pytest.approx(expected, abs=1e-9)


@settings(max_examples=40)
@given(
    st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 40), st.floats(0.3, 20), st.sampled_from([0, 0.4, 1])
)
def test_figures_equal_cocos_on_anything(seed: int, pictures: int, detections: int, each: float, crowds: float) -> None:
    predictions, targets = made_up(pictures, 3, detections, each, seed, decimals=2, crowds=crowds)
    if (predictions[..., 5] < 0).all():
        return  # COCO's evaluation takes no empty list
    expected = reference("pycocotools", predictions, targets)
    assert point_values(predictions, targets) == pytest.approx(expected, abs=1e-9)


def test_no_box_is_mistaken_for_none() -> None:
    """In COCO's evaluation the id 0 stands for "none", so that the box with this id is never found; ours have no ids."""
    there = (10.0, 10.0, 60.0, 60.0, 0.0)
    predictions, targets = one_picture([(10, 10, 60, 60, 0.9, 0)], there)
    assert reference("pycocotools", predictions, targets, first_id=0)["map"] == 0
    assert reference("pycocotools", predictions, targets, first_id=1)["map"] == pytest.approx(1)
    assert point_values(predictions, targets)["map"] == 1
    predictions, targets = made_up(seed=4)
    assert point_values(predictions, targets) == pytest.approx(reference("pycocotools", predictions, targets))


def test_the_order_of_detections_and_what_pads_them_do_not_matter() -> None:
    predictions, targets = made_up(seed=2)
    wider = np.tile(np.array([0, 0, 0, 0, 0, -1], np.float32), (len(targets), 60, 1))
    random = np.random.default_rng(0)
    for row, picture in enumerate(predictions):
        kept = picture[picture[:, 5] >= 0]
        wider[row, : len(kept)] = random.permutation(kept)
    assert point_values(wider, targets) == point_values(predictions, targets)


def test_a_detection_takes_the_box_it_overlaps_most_and_crowds_take_many() -> None:
    crowd = rows((0, 0, 100, 100, 0), (200, 200, 240, 240, 0))
    crowd[0, 5] = 1
    targets = np.empty(1, dtype=object)
    targets[0] = crowd
    inside = [(10 * i, 0, 10 * i + 10, 10, 0.5 + i / 20, 0) for i in range(5)]
    predictions = np.array([[*inside, (200, 200, 240, 240, 0.1, 0)]], dtype=np.float32)
    found = match(predictions, targets, 1).classes[0]
    assert found.score.tolist() == sorted(predictions[0, :, 4].astype(float), reverse=True)
    assert found.ignored[0].sum(axis=1).tolist() == [5] * len(THRESHOLDS)
    assert found.hit[0].sum(axis=1).tolist() == [1] * len(THRESHOLDS)
    assert found.counted[0].tolist() == [False, True]
    assert value(match(predictions, targets, 1)) == 1


@pytest.mark.parametrize("turned", [False, True])
def test_of_boxes_that_overlap_the_same_the_later_is_taken(turned: bool) -> None:
    """The first detection lies between two boxes, the second one fits only the left box."""
    left, right = (0.0, 0.0, 100.0, 100.0, 0.0), (40.0, 0.0, 140.0, 100.0, 0.0)
    there = (right, left) if turned else (left, right)
    predictions, targets = one_picture([(20, 0, 120, 100, 0.9, 0), (-10, 0, 90, 100, 0.8, 0)], *there)
    found = point_values(predictions, targets)
    assert found == pytest.approx(reference("pycocotools", predictions, targets))
    assert found["map50"] == pytest.approx(51 / 101 if turned else 1)


@pytest.mark.parametrize(("rank", "found"), [(100, 1), (101, 0)])
def test_a_hundred_detections_of_a_class_count(rank: int, found: float) -> None:
    noise = [(300, 300, 310, 310, 1 - i / 200, 0) for i in range(150)]
    noise[rank - 1] = (0, 0, 100, 100, noise[rank - 1][4], 0)
    assert point_values(*one_picture(noise, THERE))["recall100"] == found


@pytest.mark.parametrize(("side", "ranges"), [(31, "small"), (32, "small medium"), (96, "medium large"), (97, "large")])
def test_ranges_hold_both_of_their_ends(side: int, ranges: str) -> None:
    predictions, targets = one_picture([(0, 0, side, side, 0.9, 0)], (0, 0, side, side, 0))
    found = point_values(predictions, targets)
    assert {name for name in found if name.startswith("map_")} == {f"map_{name}" for name in ranges.split()}
    assert found == pytest.approx(reference("pycocotools", predictions, targets))


def test_nothing_predicted_and_nothing_there() -> None:
    predictions, targets = made_up(6)
    nothing = np.full_like(predictions, -1) * np.array([0, 0, 0, 0, 0, 1], np.float32)
    missed = figures(nothing, targets, 3, threshold=0.5, replicates=50)
    assert {name: found["value"] for name, found in missed.items()} == dict.fromkeys(missed, 0.0)
    assert "precision" not in missed and {"map", "recall100", "f1", "recall"} <= set(missed)
    empty = np.empty(6, dtype=object)
    empty[:] = [np.zeros((0, 7))] * 6
    assert set(figures(predictions, empty, 3, threshold=0.5, replicates=50)) == {"f1", "precision"}
    assert figures(nothing, empty, 3, threshold=0.5, replicates=50) == {}
    for matches in (match(predictions, empty, 3), match(nothing, empty, 3), match(nothing, targets, 3)):
        assert (value(matches), f1(matches, 0.5), best_threshold(matches)[1]) == (0, 0, 0)
        assert influences(matches) == pytest.approx(np.zeros(6))
    assert best_threshold(match(nothing, targets, 3)) == (1, 0)


# --- intervals


def test_weights_are_as_good_as_pictures_drawn() -> None:
    """Matching is done once: weights give what the drawn pictures themselves give."""
    predictions, targets = made_up(25, detections=40, seed=3)
    random = np.random.default_rng(0)
    drawn = random.integers(25, size=(20, 25))
    weights = np.stack([np.bincount(each, minlength=25) for each in drawn], axis=1).astype(float)
    found = averages(match(predictions, targets, 3), OVERALL, weights)
    for number, each in enumerate(drawn):
        again = averages(match(predictions[each], targets[each], 3), OVERALL, np.ones((25, 1)))
        for name in OVERALL:
            assert found[name][number] == pytest.approx(again[name][0], abs=1e-12, nan_ok=True)


def test_intervals_hold_the_value_and_shrink_with_more_pictures() -> None:
    few, many = (
        figures(*made_up(n, each=4, detections=15, seed=1), 3, threshold=0.5, replicates=200) for n in (30, 300)
    )
    assert set(few) == set(many) == {*OVERALL, "f1", "precision", "recall"}
    for name in few:
        for found in (few[name], many[name]):
            assert 0 <= found["low"] <= found["value"] <= found["high"] <= 1
            assert found["high"] > found["low"]
        assert many[name]["high"] - many[name]["low"] < 0.6 * (few[name]["high"] - few[name]["low"])
    assert (few["map"]["n"], many["f1"]["n"]) == (30, 300)


def test_figures_of_a_class_count_its_boxes() -> None:
    predictions, targets = made_up()
    red = sum(int(((each[:, 4] == 0) & (each[:, 5] == 0)).sum()) for each in targets)
    found = by_class(match(predictions, targets, 3), NAMES, replicates=50)
    assert list(found) == NAMES
    assert found["blue"] == {}  # never there, and predicted
    assert found["red"]["ap"]["n"] == red
    assert found["red"]["ap"]["low"] < found["red"]["ap"]["value"] < found["red"]["ap50"]["value"]


def test_a_seed_draws_the_same_again_and_names_pick_figures() -> None:
    predictions, targets = made_up()
    matches = match(predictions, targets, 3)
    found = figures(predictions, targets, 3, threshold=0.4, replicates=100)
    assert found == figures_of(matches, threshold=0.4, replicates=100)
    assert found["map"] != figures_of(matches, replicates=100, seed=1)["map"]
    names = ["f1", "map_small", "map_large"]
    picked = figures_of(matches, threshold=0.4, only=names, replicates=100)
    assert list(picked) == names
    assert picked == {name: found[name] for name in picked}
    with pytest.raises(KeyError, match="f1"):
        figures_of(matches, only=["f1"])
    with pytest.raises(KeyError, match="mapp"):
        figures_of(matches, only=["mapp"])


def test_replicates_that_lose_a_class_or_all_of_them_do_no_harm() -> None:
    targets = np.empty(6, dtype=object)
    targets[:] = [rows((0, 0, 50, 50, 0), (100, 0, 150, 50, 1)), *[rows()] * 5]
    predictions = np.tile(np.array([0, 0, 0, 0, 0, -1], np.float32), (6, 2, 1))
    predictions[0, 0], predictions[1, 0] = (0, 0, 50, 48, 0.6, 0), (0, 0, 50, 48, 0.7, 0)
    found = figures(predictions, targets, 3, replicates=300)
    assert found["map50"]["value"] == 0.25
    assert found["map50"]["low"] < found["map50"]["high"]
    assert all(np.isfinite([each["value"], each["low"], each["high"]]).all() for each in found.values())


def test_all_right_is_not_certain() -> None:
    targets = np.empty(10, dtype=object)
    targets[:] = [rows((0, 0, 50, 50, 0))] * 10
    predictions = np.tile(np.array([0, 0, 50, 50, 0.9, 0], np.float32), (10, 1, 1))
    found = figures(predictions, targets, 1, replicates=50)
    assert found["map"]["value"] == found["map"]["high"] == 1
    assert found["map"]["low"] == pytest.approx(0.722, abs=1e-3)  # Wilson's, 10 of 10


def test_replicates_that_drift_up_move_the_interval_down() -> None:
    drawn = np.linspace(0.5, 0.7, 1001)  # mean 0.6
    assert interval(0.6, drawn, 9) == pytest.approx({"value": 0.6, "low": 0.505, "high": 0.695, "n": 9})
    assert interval(0.58, drawn, 9) == pytest.approx({"value": 0.58, "low": 0.445, "high": 0.635, "n": 9})
    assert interval(0.62, drawn, 9) == pytest.approx({"value": 0.62, "low": 0.505, "high": 0.695, "n": 9})


def test_intervals_cover_the_truth() -> None:
    """Of 95 % intervals on 60 pictures at least 85 and at most 99.5 % hold the figure of the whole population."""
    predictions, targets = made_up(3000, detections=20, crowds=0)
    names = ["map", "map50", "recall100", "f1"]
    truth = figures(predictions, targets, 3, threshold=0.5, only=names, replicates=1)
    random, covered, trials = np.random.default_rng(0), dict.fromkeys(names, 0), 100
    for _ in range(trials):
        some = random.choice(3000, 60, replace=False)
        found = figures(predictions[some], targets[some], 3, threshold=0.5, only=names, replicates=150)
        for name in names:
            covered[name] += found[name]["low"] <= truth[name]["value"] <= found[name]["high"]
    assert all(0.85 <= each / trials <= 0.995 for each in covered.values()), covered


# --- influences


@pytest.mark.parametrize(("seed", "decimals"), [(0, 7), (1, 7), (2, 2)])
def test_influences_are_those_of_leaving_pictures_out(seed: int, decimals: int) -> None:
    n = 80
    predictions, targets = made_up(n, each=8, seed=seed, decimals=decimals)
    matches = match(predictions, targets, 3)
    scores = influences(matches)
    assert scores.mean() == pytest.approx(value(matches), abs=1e-12)
    left_out = averages(matches, {"map": OVERALL["map"]}, 1 - np.eye(n))["map"]
    jackknife = n * value(matches) - (n - 1) * left_out
    assert np.corrcoef(scores, jackknife)[0, 1] > 0.95
    assert scores.std(ddof=1) == pytest.approx(jackknife.std(ddof=1), rel=0.1)


def test_differences_of_influences_tell_two_models_apart() -> None:
    """Their standard error is that of the difference over drawn pictures, which is below that of either model."""
    predictions, targets = made_up(100, each=8)
    worse = predictions.copy()
    worse[..., :4] += np.random.default_rng(0).normal(0, 1.5, worse[..., :4].shape).astype(np.float32)
    one, other = match(predictions, targets, 3), match(worse, targets, 3)
    change = influences(one) - influences(other)
    draws = np.random.default_rng(1).multinomial(100, np.full(100, 0.01), size=500).T.astype(float)
    again = [averages(each, {"map": OVERALL["map"]}, draws)["map"] for each in (one, other)]
    assert change.mean() == pytest.approx(value(one) - value(other))
    assert change.std(ddof=1) / 10 == pytest.approx((again[0] - again[1]).std(), rel=0.15)
    assert change.std() < influences(one).std()


# --- thresholds


@pytest.mark.parametrize("decimals", [7, 1])
def test_the_best_threshold_is_the_best_of_all(decimals: int) -> None:
    predictions, targets = made_up(seed=5, decimals=decimals)
    matches = match(predictions, targets, 3)
    scores = np.unique(predictions[predictions[..., 5] >= 0][:, 4]).astype(float)
    each = [f1(matches, score) for score in scores]
    threshold, best = best_threshold(matches)
    assert best == max(each) == f1(matches, threshold)
    assert threshold == max(score for score, of_it in zip(scores, each, strict=True) if of_it == best)
    found = figures(predictions, targets, 3, threshold=threshold, only=["f1", "precision", "recall"])
    precision, recall = found["precision"]["value"], found["recall"]["value"]
    assert found["f1"]["value"] == pytest.approx(best) == pytest.approx(2 / (1 / precision + 1 / recall))
    assert found["f1"]["low"] < best < found["f1"]["high"]


def test_f1_counts_what_is_given_and_of_equal_thresholds_takes_the_highest() -> None:
    found = [(0, 0, 50, 50, 0.75, 0), (0, 0, 50, 50, 0.5, 0), (100, 0, 150, 50, 0.25, 0), (300, 0, 310, 9, 0.125, 0)]
    matches = match(*one_picture(found, (0, 0, 50, 50, 0), (100, 0, 150, 50, 0)), 1)
    assert [f1(matches, at) for at in (0.8, 0.75, 0.5, 0.25, 0.1)] == pytest.approx([0, 2 / 3, 2 / 4, 4 / 5, 4 / 6])
    assert best_threshold(matches) == pytest.approx((0.25, 0.8))
    matches = match(*one_picture([found[0], *[found[3]] * 2, found[2]], (0, 0, 50, 50, 0), (1, 100, 50, 150, 0)), 1)
    assert best_threshold(matches) == pytest.approx((0.75, 2 / 3))


# --- kinds of error

CASES = {
    "loc": (0, 0, 100, 30, 0.9, 0),  # IoU .3
    "cls": (0, 0, 100, 90, 0.9, 1),  # .9 with a box of class 0
    "both": (0, 0, 100, 30, 0.9, 1),
    "bkg": (500, 500, 600, 600, 0.9, 0),
}


@pytest.mark.parametrize("kind", CASES)
def test_an_error_has_its_kind(kind: str) -> None:
    """One wrong detection above a right one, beside the box that it means; put right, AP50 is what it then would be."""
    predictions, targets = one_picture([CASES[kind], (200, 200, 300, 300, 0.5, 0)], THERE, ELSEWHERE)
    found = error_kinds(predictions, targets, 2)
    of_the_box = kind in ("loc", "cls")
    counts = dict.fromkeys(found, 0) | {kind: 1} | ({} if of_the_box else {"miss": 1})
    assert {name: each["count"] for name, each in found.items()} == counts
    before = point_values(predictions, targets)["map50"]
    # half of the boxes found: levels 0 to .5, 51 of 101, at the precision of the right detection
    assert before == pytest.approx(51 / 101 * (1 if kind in ("cls", "both") else 1 / 2))
    after = {"loc": 1, "cls": 1, "both": 51 / 101, "bkg": 51 / 101}[kind]
    assert found[kind]["delta"] == pytest.approx(after - before)
    others = set(found) - {kind, "miss"}
    assert all(found[name]["delta"] == 0 for name in others)
    assert found["miss"]["delta"] == pytest.approx(0 if of_the_box else 1 / (1 if kind == "both" else 2) - before)


def test_mistakes_are_counted_at_the_threshold_and_told_by_what_they_cost(capsys: pytest.CaptureFixture[str]) -> None:
    task = Detection({"classes": ["blue", "red"], "threshold": 0.5})
    found = [(200, 200, 300, 300, 0.9, 1), (0, 0, 100, 30, 0.8, 0), (500, 500, 600, 600, 0.4, 0)]
    predictions, targets = one_picture(found, (0, 0, 100, 100, 0), (200, 200, 300, 300, 0), (0, 200, 50, 300, 1))
    errors = task.errors(predictions, targets)
    assert [kind for kind, each in errors.items() if each["at the threshold"]] == [
        "wrong class",
        "badly placed",
        "missed",
    ]
    assert errors["nothing there"]["at the threshold"] == 0  # below the threshold
    assert errors["wrong class"]["map50"] >= errors["badly placed"]["map50"] >= errors["missed"]["map50"]
    assert list(errors) == sorted(errors, key=lambda kind: -errors[kind]["map50"])
    figure = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 1}
    print_metrics(
        {
            "verdict": "map 0.500",
            "split": "all",
            "metrics": {"map": figure},
            "baselines": [],
            "slices": {},
            "errors": {"missed": {"at the threshold": 3, "map50": 0.034}},
        }
    )
    assert "missed             3 at the threshold, map50 +0.034 were they put right" in capsys.readouterr().out


def test_a_second_detection_of_a_box_is_a_dupe_unless_it_means_another_class() -> None:
    twice = [(0, 0, 100, 100, 0.9, 0), (0, 0, 100, 90, 0.8, 0), (200, 200, 300, 300, 0.5, 0)]
    predictions, targets = one_picture(twice, THERE, ELSEWHERE)
    found = error_kinds(predictions, targets, 2)
    assert [found[name]["count"] for name in ("dupe", "cls", "loc", "both", "bkg", "miss")] == [1, 0, 0, 0, 0, 0]
    assert found["dupe"]["delta"] == pytest.approx(1 - (51 + 50 * 2 / 3) / 101)
    predictions, targets = one_picture(twice, THERE, ELSEWHERE, (0, 0, 100, 80, 1))
    found = error_kinds(predictions, targets, 2)
    assert [found[name]["count"] for name in ("dupe", "cls", "miss")] == [0, 1, 0]
    # the box of class 1 is found by what was the duplicate: both classes are right
    assert found["cls"]["delta"] == pytest.approx(1 - (51 + 50 * 2 / 3) / 101 / 2)


def test_only_the_best_of_those_that_mean_a_box_finds_it() -> None:
    """Once per box, over both kinds; of a box that is found already, what means it can only vanish."""
    both = [
        (0, 0, 100, 30, 0.9, 0),
        (0, 0, 100, 90, 0.8, 1),
        (200, 200, 300, 300, 0.7, 0),
        (200, 200, 300, 240, 0.6, 0),
    ]
    predictions, targets = one_picture(both, THERE, ELSEWHERE)
    found = error_kinds(predictions, targets, 2)
    assert [found[name]["count"] for name in ("loc", "cls", "miss")] == [2, 1, 0]
    before = point_values(predictions, targets)["map50"]
    assert found["loc"]["delta"] == pytest.approx(1 - before)
    assert found["cls"]["delta"] == 0  # class 1 has no box, and class 0 gains none


def test_crowds_and_what_lies_in_them_are_no_errors() -> None:
    predictions, targets = one_picture([(0, 0, 50, 50, 0.9, 0), (0, 0, 100, 20, 0.8, 0)], THERE, ELSEWHERE)
    targets[0][0, 5] = 1
    found = error_kinds(predictions, targets, 1)
    assert {name: each["count"] for name, each in found.items() if each["count"]} == {"miss": 1}


@pytest.mark.parametrize("seed", range(3))
def test_kinds_of_error_are_all_there_are(seed: int) -> None:
    predictions, targets = made_up(seed=seed)
    found = error_kinds(predictions, targets, 3)
    classes = match(predictions, targets, 3).classes
    wrong = sum(int((~each.hit[0, 0] & ~each.ignored[0, 0]).sum()) for each in classes)
    assert sum(each["count"] for name, each in found.items() if name != "miss") == wrong
    missed = sum(int(each.counted[0].sum() - each.hit[0, 0].sum()) for each in classes)
    assert found["miss"]["count"] <= missed <= found["miss"]["count"] + found["loc"]["count"] + found["cls"]["count"]
    assert all(np.isfinite(each["delta"]) for each in found.values())
    assert found["bkg"]["delta"] > 0
    assert found["miss"]["delta"] > 0


def test_errors_where_nothing_is_there_or_predicted() -> None:
    predictions, targets = made_up(4)
    empty = np.empty(4, dtype=object)
    empty[:] = [np.zeros((0, 7))] * 4
    nothing = np.full_like(predictions, -1)
    given = int((predictions[..., 5] >= 0).sum())
    assert error_kinds(predictions, empty, 3)["bkg"] == {"count": given, "delta": 0}
    assert all(each == {"count": 0, "delta": 0} for each in error_kinds(nothing, empty, 3).values())
    boxes_there = sum(int((each[:, 5] == 0).sum()) for each in targets)
    assert error_kinds(nothing, targets, 3)["miss"]["count"] == boxes_there


# --- confusion and calibration


def test_confusion_of_boxes() -> None:
    there = [(0.0, 0.0, 100.0, 100.0, 0.0), (200.0, 200.0, 300.0, 300.0, 1.0), (320.0, 0.0, 390.0, 60.0, 0.0)]
    found = [
        (0, 0, 100, 98, 0.6, 0),  # right, though less sure than the next
        (0, 0, 100, 100, 0.9, 1),  # left over: the box is found
        (200, 200, 300, 310, 0.8, 0),  # the box of another class
        (200, 200, 300, 300, 0.1, 1),  # below the threshold
        (0, 200, 50, 250, 0.7, 2),  # nothing there
        (0, 0, 0, 0, 0, -1),
    ]
    counts = confusion(*one_picture(found, *there), 3, threshold=0.3)
    assert counts.tolist() == [[1, 0, 0, 1], [1, 0, 0, 0], [0, 0, 0, 0], [0, 1, 1, 0]]


@pytest.mark.parametrize("seed", range(3))
def test_confusion_adds_up_with_the_figures(seed: int) -> None:
    predictions, targets = made_up(seed=seed)
    counts = confusion(predictions, targets, 3, threshold=0.4)
    assert (counts >= 0).all()
    assert counts[3, 3] == 0
    wanted = figures(predictions, targets, 3, threshold=0.4, only=["precision", "recall"], replicates=2)
    right = counts.diagonal().sum()
    assert right / counts[:3].sum() == pytest.approx(wanted["recall"]["value"])
    assert right / counts[:, :3].sum() == pytest.approx(wanted["precision"]["value"])
    assert counts[:3, :3].sum() > right
    single = [each[each[:, 5] == 0] for each in targets]
    assert counts[:3].sum(axis=1).tolist() == [
        sum((each[:, 4] == number).sum() for each in single) for number in range(3)
    ]


def test_calibration_of_boxes() -> None:
    predictions, targets = made_up()
    task = Detection({"classes": NAMES, "threshold": 0.4})
    found = task.calibration(predictions, targets)["after"]
    made = answers(match(predictions, targets, 3), 0.05)
    assert sum(one["accuracy"]["n"] for one in found["bins"]) == len(made.right) > 100
    assert 0 < found["ece"]["low"] <= found["ece"]["value"] <= found["ece"]["high"] < 1
    assert found["ece"]["n"] == len(targets)
    assert task.calibration(np.full_like(predictions, -1), targets) == {}
    table = task.confusion(predictions, targets)
    assert (table["classes"][-1], table["given"][-1]) == ("nothing there", "no box")
    assert table["counts"] == confusion(predictions, targets, 3, 0.4).tolist()
    assert list(task.by_class(predictions, targets)) == NAMES


def test_pictures_of_each_mistake_and_of_each_class() -> None:
    predictions, targets = made_up()
    task = Detection({"classes": NAMES, "threshold": 0.4})
    table, pairs = task.confusion(predictions, targets), task.confused(predictions, targets)
    wrong = {
        (name, answer)
        for name, row in zip(table["classes"], table["counts"], strict=True)
        for answer, count in zip(table["given"], row, strict=True)
        if count and name != answer
    }
    assert set(pairs) == wrong and len(wrong) > 3
    for (name, answer), places in pairs.items():
        alone = [task.confusion(predictions[i : i + 1], targets[i : i + 1]) for i in places]
        row, column = table["classes"].index(name), table["given"].index(answer)
        counts = [one["counts"][row][column] for one in alone]
        assert counts == sorted(counts, reverse=True) and counts[-1] > 0
        assert sum(counts) == table["counts"][row][column]
    typical = task.typical(predictions, targets)
    assert typical and len(set(typical)) == len(typical)
