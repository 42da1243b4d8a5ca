"""Boxes worth a second look: what a detector finds and the labels lack, the reverse, and labels whose class it sees otherwise."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from acclimate.metrics.doubt import LACKING, OTHER, VAIN
from acclimate.metrics.matching import overlap

SAME, TOUCH = 0.5, 0.3
"""IoU from which on two boxes are one; from which on a box is not without any detection."""
LEAST = 0.5
"""How sure one must be that a labelled box is not there."""


class BoxDoubt(NamedTuple):
    """`label` and `suggested` are classes, -1 for none; `box`: x1, y1, x2, y2 in pixels, the label's where there is one."""

    place: int
    kind: str
    label: int
    suggested: int
    sure: float
    box: tuple[float, ...]


class Seen(NamedTuple):
    """What is found where boxes are labelled, flat over m boxes: `place`, `label`, `other` int64 [m], a picture and two classes;
    `own`, `others`, `any` float64 [m], the highest scores of a detection of the same class, of another (`other`), and of any that
    touches; `box` float64 [m, 4]."""

    place: np.ndarray
    label: np.ndarray
    other: np.ndarray
    own: np.ndarray
    others: np.ndarray
    any: np.ndarray
    box: np.ndarray


def box_doubts(predictions: np.ndarray, targets: np.ndarray, threshold: float) -> list[BoxDoubt]:
    """Of `predictions` and `targets` as in `matching.match`, what is most likely wrong first; crowds are not doubted.

    `LACKING`: a detection, and how much of it no labelled box overlaps: its score times 1 - IoU, at least `threshold`; of several in one
    place the first. `OTHER`: a labelled box as which another class has the higher score, at least `threshold`; as sure as the margin of
    the roots says (see `doubt.doubtful`). `VAIN`: a labelled box that no detection touches; as sure as none does, times the share of
    boxes of its class that are found: what misses many is no witness.
    """
    parts, found = [_seen(0, *_nothing())], list[BoxDoubt]()
    for place, (some, given) in enumerate(zip(predictions, targets, strict=True)):
        some = some[some[:, 5] >= 0].astype(np.float64)
        iou = overlap(some[:, None, :4], given[None, :, :4], given[:, 5] > 0)  # [d, m]
        found += _lacking(place, some, iou, threshold)
        single = given[:, 5] == 0
        parts.append(_seen(place, some, given[single], iou[:, single]))
    seen = Seen(*map(np.concatenate, zip(*parts, strict=True)))
    found += [*_other(seen, threshold), *_vain(seen, threshold)]
    return sorted(found, key=lambda one: -one.sure)


def _lacking(place: int, found: np.ndarray, iou: np.ndarray, threshold: float) -> list[BoxDoubt]:
    nearest = iou.max(axis=1, initial=0.0)
    sure = np.where(nearest < SAME, found[:, 4] * (1 - nearest), 0.0)
    kept: list[int] = []
    for row in np.argsort(-sure, kind="stable"):
        if sure[row] < threshold:
            break
        if not (overlap(found[row, :4], found[kept, :4], np.zeros(len(kept), dtype=bool)) >= SAME).any():
            kept.append(int(row))
    return [BoxDoubt(place, LACKING, -1, int(found[i, 5]), float(sure[i]), _corners(found[i])) for i in kept]


def _seen(place: int, found: np.ndarray, given: np.ndarray, iou: np.ndarray) -> Seen:
    scores, same = found[:, 4:5], found[:, 5:6] == given[None, :, 4]
    own = np.where(same & (iou >= SAME), scores, 0.0).max(axis=0, initial=0.0)
    others = np.where(~same & (iou >= SAME), scores, 0.0)
    touching = np.where(iou >= TOUCH, scores, 0.0).max(axis=0, initial=0.0)
    best = found[others.argmax(axis=0), 5].astype(np.int64) if len(found) else np.full(len(given), -1)
    label = given[:, 4].astype(np.int64)
    return Seen(np.full(len(given), place), label, best, own, others.max(axis=0, initial=0.0), touching, given[:, :4])


def _other(seen: Seen, threshold: float) -> list[BoxDoubt]:
    sure = (1 + np.sqrt(seen.others) - np.sqrt(seen.own)) / 2
    return [
        BoxDoubt(
            int(seen.place[i]), OTHER, int(seen.label[i]), int(seen.other[i]), float(sure[i]), _corners(seen.box[i])
        )
        for i in np.flatnonzero((seen.others > seen.own) & (seen.others >= threshold))
    ]


def _vain(seen: Seen, threshold: float) -> list[BoxDoubt]:
    count = np.bincount(seen.label)
    share = np.bincount(seen.label, seen.any >= threshold) / np.maximum(count, 1)
    sure = (1 - seen.any) * share[seen.label]
    return [
        BoxDoubt(int(seen.place[i]), VAIN, int(seen.label[i]), -1, float(sure[i]), _corners(seen.box[i]))
        for i in np.flatnonzero((sure > LEAST) & (seen.any < threshold))
    ]


def _corners(row: np.ndarray) -> tuple[float, ...]:
    return tuple(row[:4].tolist())


def _nothing() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.zeros((0, 6)), np.zeros((0, 7)), np.zeros((0, 0))
