"""Boxes worth a second look: what a detector finds and the labels lack, the reverse, and labels whose class it sees otherwise."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from acclimate.metrics.doubt import LACKING, OTHER, VAIN
from acclimate.metrics.matching import overlap

SAME, TOUCH = 0.5, 0.3
"""IoU from which on two boxes are one; from which on a box is not without any detection."""
LEAST = 0.5
"""Share of the labels that a detector must agree with to be a witness against others."""


class BoxDoubt(NamedTuple):
    """`label` and `suggested` are classes, -1 for none; `box`: x1, y1, x2, y2 in pixels, the label's where there is one."""

    place: int
    kind: str
    label: int
    suggested: int
    sure: float
    box: tuple[float, ...]


class Found(NamedTuple):
    """Detections that would be answered, flat over d: `place`, `label` int64 [d], a picture and a class; `score`; `nearest`, the largest
    IoU with a labelled box; `first`, whether none above it is in the same place; `box` float64 [d, 4]."""

    place: np.ndarray
    label: np.ndarray
    score: np.ndarray
    nearest: np.ndarray
    first: np.ndarray
    box: np.ndarray


class Given(NamedTuple):
    """Labelled boxes, flat over m: `place`, `label`, `other` int64 [m], a picture and two classes; `own`, `others`, `any` float64 [m],
    the highest scores of a detection of the same class, of another (`other`), and of any that touches; `box` float64 [m, 4]."""

    place: np.ndarray
    label: np.ndarray
    other: np.ndarray
    own: np.ndarray
    others: np.ndarray
    any: np.ndarray
    box: np.ndarray


def box_doubts(predictions: np.ndarray, targets: np.ndarray, threshold: float) -> list[BoxDoubt]:
    """Of `predictions` and `targets` as in `matching.match`, what is most likely wrong first; crowds are not doubted.

    `LACKING`: a detection where no box is labelled, its score times 1 - IoU with the nearest at least `threshold`; of several in one
    place the first. `OTHER`: a labelled box as which another class has the higher score, at least `threshold`; the margin of the roots,
    as in `doubt.doubtful`. `VAIN`: a labelled box that no detection touches, one less the score of what does.

    Each is weighed by how far the detector agrees with all labels in the same: the share of its detections that are labelled, of labels
    that it gives the same class, of boxes of a class that it finds. Where that is less than `LEAST` it is no witness.
    """
    nothing, no_box, none = np.zeros((0, 6)), np.zeros((0, 7)), np.zeros((0, 0))
    found, given = [_found(0, nothing, none, threshold)], [_given(0, nothing, no_box, none)]
    for place, (some, boxes) in enumerate(zip(predictions, targets, strict=True)):
        some = some[some[:, 5] >= 0].astype(np.float64)
        some = some[np.argsort(-some[:, 4], kind="stable")]
        iou = overlap(some[:, None, :4], boxes[None, :, :4], boxes[:, 5] > 0)  # [d, m]
        single = boxes[:, 5] == 0
        found.append(_found(place, some, iou, threshold))
        given.append(_given(place, some, boxes[single], iou[:, single]))
    detections, labels = Found(*_joined(found)), Given(*_joined(given))
    doubts = [
        *_lacking(detections, threshold),
        *_other(labels, threshold),
        *_vain(labels, threshold),
    ]
    return sorted(doubts, key=lambda one: -one.sure)


def _joined(parts: list[Any]) -> list[np.ndarray]:
    return [np.concatenate(each) for each in zip(*parts, strict=True)]


def _found(place: int, found: np.ndarray, iou: np.ndarray, threshold: float) -> Found:
    some = found[:, 4] >= threshold
    found, nearest = found[some], iou[some].max(axis=1, initial=0.0)
    kept: list[int] = []
    for row in range(len(found)):
        if not (overlap(found[row, :4], found[kept, :4], np.zeros(len(kept), dtype=bool)) >= SAME).any():
            kept.append(row)
    first = np.isin(np.arange(len(found)), kept)
    return Found(np.full(len(found), place), found[:, 5].astype(np.int64), found[:, 4], nearest, first, found[:, :4])


def _given(place: int, found: np.ndarray, boxes: np.ndarray, iou: np.ndarray) -> Given:
    scores, same = found[:, 4:5], found[:, 5:6] == boxes[None, :, 4]
    own = np.where(same & (iou >= SAME), scores, 0.0).max(axis=0, initial=0.0)
    others = np.where(~same & (iou >= SAME), scores, 0.0)
    touching = np.where(iou >= TOUCH, scores, 0.0).max(axis=0, initial=0.0)
    best = found[others.argmax(axis=0), 5].astype(np.int64) if len(found) else np.full(len(boxes), -1)
    label = boxes[:, 4].astype(np.int64)
    return Given(np.full(len(boxes), place), label, best, own, others.max(axis=0, initial=0.0), touching, boxes[:, :4])


def _lacking(found: Found, threshold: float) -> list[BoxDoubt]:
    share = np.mean(found.nearest >= SAME) if len(found.nearest) else 0.0
    alone = np.where(found.first & (found.nearest < SAME), found.score * (1 - found.nearest), 0.0)
    doubted = np.flatnonzero((alone >= threshold) & (alone > 0) & (share >= LEAST))
    return [
        BoxDoubt(int(found.place[i]), LACKING, -1, int(found.label[i]), float(alone[i] * share), _corners(found.box[i]))
        for i in doubted
    ]


def _other(given: Given, threshold: float) -> list[BoxDoubt]:
    seen = np.maximum(given.own, given.others) >= threshold
    share = np.mean(given.own[seen] >= given.others[seen]) if seen.any() else 0.0
    sure = share * (1 + np.sqrt(given.others) - np.sqrt(given.own)) / 2
    doubted = np.flatnonzero(seen & (given.others > given.own) & (share >= LEAST))
    return [
        BoxDoubt(
            int(given.place[i]), OTHER, int(given.label[i]), int(given.other[i]), float(sure[i]), _corners(given.box[i])
        )
        for i in doubted
    ]


def _vain(given: Given, threshold: float) -> list[BoxDoubt]:
    seen = given.any >= threshold
    share = np.bincount(given.label, seen) / np.maximum(np.bincount(given.label), 1)
    sure = (1 - given.any) * share[given.label]
    return [
        BoxDoubt(int(given.place[i]), VAIN, int(given.label[i]), -1, float(sure[i]), _corners(given.box[i]))
        for i in np.flatnonzero(~seen & (share[given.label] >= LEAST))
    ]


def _corners(row: np.ndarray) -> tuple[float, ...]:
    return tuple(row[:4].tolist())
