"""What kinds of error detections make, and what each kind costs (TIDE, Bolya et al. 2020)."""

from __future__ import annotations

from typing import TypedDict

import numpy as np

from acclimate.metrics.average_precision import curve
from acclimate.metrics.matching import Detections, OfClass, Truths, assign, boxes, detections, overlap

LEAST, ENOUGH = 0.1, 0.5
"""Below the one IoU a detection means no box at all; from the other on it means this one."""
CLASS, PLACE, BOTH, TWICE, NOTHING, RIGHT, IGNORED = range(7)
WRONG = {"cls": CLASS, "loc": PLACE, "both": BOTH, "dupe": TWICE, "bkg": NOTHING}


class ErrorKind(TypedDict):
    """How many there are, and by how much AP50 would rise were they put right."""

    count: int
    delta: float


def error_kinds(predictions: np.ndarray, targets: np.ndarray, classes: int) -> dict[str, ErrorKind]:
    """The false positives and the missed boxes at IoU .5 by kind; predictions and targets as in `match`.

    What a false positive is, whatever its score, the first that holds: `loc`, it overlaps a box of its class by .1 to .5;
    `cls`, a box of another class by .5 or more; `dupe`, by .5 or more a box of its class that is already taken; `bkg`, no
    box by more than .1; `both`, what is left: class and place are off. `miss`: a box that is not found, and that no `loc`
    or `cls` means.

    Put right means, of `loc` and `cls`: the one with the highest score that means a box not found finds it, the others
    vanish; of `dupe`, `bkg` and `both`: they vanish; of `miss`: the boxes vanish. `delta` is AP50 (`map50` of COCO, where
    TIDE counts 100 detections in a picture over all classes) afterwards, less what it was: 0 where it has no value.
    """
    found, truths = detections(predictions), boxes(targets)
    kind, means = judged(found, truths)
    missing = truths.counted[:, 0] & ~np.isin(np.arange(len(truths.label)), means[kind == RIGHT])
    missed = missing & ~np.isin(np.arange(len(truths.label)), means)
    fixes = _first_to_mean(means, missing, found.score)
    hit, there = kind == RIGHT, truths.counted[:, 0]
    before = _ap50(found, found.label, hit, kind != IGNORED, truths.label[there], classes)

    def delta(after: float) -> float:
        return float(np.nan_to_num(after - before))

    report = {}
    for name, number in WRONG.items():
        these = kind == number
        fixed = these & fixes
        label = np.where(fixed, np.append(truths.label, -1)[means], found.label)
        kept = (kind != IGNORED) & (~these | fixed)
        after = _ap50(found, label, hit | fixed, kept, truths.label[there], classes)
        report[name] = ErrorKind(count=int(these.sum()), delta=delta(after))
    after = _ap50(found, found.label, hit, kind != IGNORED, truths.label[there & ~missed], classes)
    report["miss"] = ErrorKind(count=int(missed.sum()), delta=delta(after))
    return report


def judged(found: Detections, truths: Truths) -> tuple[np.ndarray, np.ndarray]:
    """Of each detection, int [d]: its kind; the row of the box that it found or, of `loc` and `cls`, means, else -1."""
    taken = assign(found, truths)[:, 0, 0]
    counted = np.append(truths.counted[:, 0], False)
    kind = np.where(counted[taken], RIGHT, np.where(taken >= 0, IGNORED, NOTHING))
    means = np.where(counted[taken], taken, -1)
    wrong = _by_picture(found.picture, kind == NOTHING)
    there = _by_picture(truths.picture, counted[:-1])
    for picture in wrong.keys() & there.keys():
        ours, theirs = wrong[picture], there[picture]
        iou = overlap(found.box[ours, None], truths.box[theirs], truths.crowd[theirs])
        same = found.label[ours, None] == truths.label[theirs]
        kind[ours], place = _kinds(np.where(same, iou, 0), np.where(same, 0, iou))
        means[ours] = np.where(place >= 0, theirs[place], -1)
    return kind, means


def _by_picture(picture: np.ndarray, some: np.ndarray) -> dict[int, np.ndarray]:
    """The rows of each picture that has some."""
    rows = np.flatnonzero(some)
    rows = rows[np.argsort(picture[rows], kind="stable")]
    pictures, begin = np.unique(picture[rows], return_index=True)
    return dict(zip(pictures.tolist(), np.split(rows, begin[1:]), strict=True)) if len(rows) else {}


def _kinds(own: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """IoU with the boxes of the same and of other classes, float64 [d, m] -> kind and column of the box meant, or -1."""
    best, others = own.max(axis=1), other.max(axis=1)
    rules = [
        (best >= LEAST) & (best < ENOUGH),
        others >= ENOUGH,
        best >= ENOUGH,
        np.maximum(best, others) <= LEAST,
    ]
    kind = np.select(rules, [PLACE, CLASS, TWICE, NOTHING], BOTH)
    return kind, np.select(rules[:2], [own.argmax(axis=1), other.argmax(axis=1)], -1)


def _first_to_mean(means: np.ndarray, missing: np.ndarray, score: np.ndarray) -> np.ndarray:
    """bool [d]: of the detections that mean a box not found, the one with the highest score."""
    rows = np.flatnonzero(np.append(missing, False)[means])
    rows = rows[np.argsort(-score[rows], kind="stable")]
    _, first = np.unique(means[rows], return_index=True)
    return np.isin(np.arange(len(means)), rows[first])


def _ap50(
    found: Detections, label: np.ndarray, hit: np.ndarray, kept: np.ndarray, there: np.ndarray, classes: int
) -> float:
    """Mean over the classes with boxes, `there` by class, of the average precision of the detections that are kept."""
    order = np.lexsort((found.picture, -found.score, label))
    order = order[kept[order]]
    each = []
    for number in np.intersect1d(there, np.arange(classes)):
        rows = order[label[order] == number]
        size, count = len(rows), int((there == number).sum())
        one = OfClass(
            np.zeros(size, int),
            found.score[rows],
            hit[None, None, rows],
            np.zeros((1, 1, size), bool),
            np.zeros(count, int),
            np.ones((1, count), bool),
        )
        each.append(curve(one, 0, np.ones((1, 1)))[0, 0, 0])
    return float(np.mean(each)) if each else float("nan")
