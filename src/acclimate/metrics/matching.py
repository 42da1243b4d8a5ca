"""Which detection finds which box: COCO's matching, done once for every IoU threshold and size range."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""The intersections over union from which on a box counts as found."""
RANGES = {"all": (0.0, 1e5**2), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e5**2)}
"""Areas in square pixels, both ends included."""
MOST = 100
"""Detections of a class in a picture that count: those with the highest scores."""
LOWER, UPPER = np.array(list(RANGES.values())).T


class Detections(NamedTuple):
    """What was predicted, flat; sorted by class, picture, score from high to low; equal scores as they came.

    `picture`, `label`: int [d]; `score`: float64 [d]; `box`: float64 [d, 4], x1 y1 x2 y2 in pixels.
    """

    picture: np.ndarray
    label: np.ndarray
    score: np.ndarray
    box: np.ndarray


class Truths(NamedTuple):
    """What is there, flat; sorted by class, picture; the boxes of a picture as they came.

    `picture`, `label`: int [m]; `box`: float64 [m, 4]; `crowd`: bool [m]; `counted`: bool [m, ranges], what has to be
    found: no crowd, and of an area inside the range.
    """

    picture: np.ndarray
    label: np.ndarray
    box: np.ndarray
    crowd: np.ndarray
    counted: np.ndarray


@dataclass(frozen=True)
class OfClass:
    """What matching found of one class; its detections by score from high to low, equal scores in the order of pictures.

    `picture`: int [d]; `score`: float64 [d]; `hit`, `ignored`: bool [ranges, thresholds, d]; what is neither is a false
    positive. `truth`: int [m], the picture of each box; `counted`: bool [ranges, m].
    """

    picture: np.ndarray
    score: np.ndarray
    hit: np.ndarray
    ignored: np.ndarray
    truth: np.ndarray
    counted: np.ndarray


@dataclass(frozen=True)
class Matches:
    """All that the figures need: the number of pictures, and what was found of each class."""

    pictures: int
    classes: tuple[OfClass, ...]


def match(predictions: np.ndarray, targets: np.ndarray, classes: int) -> Matches:
    """Match detections with boxes as COCO's evaluation does (Lin et al. 2014; `cocoeval.py`).

    `predictions`: float32 [n, D, 6]: x1, y1, x2, y2 (pixels), score, class; rows of class -1 are padding. `targets`: object
    [n], each float64 [m, 7]: x1, y1, x2, y2, class, crowd, area. Detections take boxes by score from high to low, each the
    free one it overlaps most, and of equal ones the later. Where it finds only a box that does not count (a crowd, or one
    outside of the range), or finds none and is itself outside of the range, it is ignored. Boxes carry no numbers here,
    so none can be mistaken for "none", as the box with id 0 is elsewhere.
    """
    found, truths = detections(predictions), boxes(targets)
    taken = assign(found, truths)
    # a last row for those that took none (-1)
    hit = np.append(truths.counted, np.zeros((1, len(RANGES)), bool), axis=0)[taken, np.arange(len(RANGES))[:, None]]
    area = np.prod(found.box[:, 2:] - found.box[:, :2], axis=1)[:, None]
    outside = (area < LOWER) | (area > UPPER)
    ignored = ~hit & ((taken >= 0) | outside[:, :, None])
    order = np.lexsort((-found.score, found.label))
    cuts = np.searchsorted(found.label[order], np.arange(classes + 1))
    marks = np.searchsorted(truths.label, np.arange(classes + 1))

    def of(number: int) -> OfClass:
        rows, some = order[cuts[number] : cuts[number + 1]], slice(marks[number], marks[number + 1])
        right, left_out = (np.ascontiguousarray(each[rows].transpose(1, 2, 0)) for each in (hit, ignored))
        return OfClass(
            found.picture[rows], found.score[rows], right, left_out, truths.picture[some], truths.counted[some].T
        )

    return Matches(len(targets), tuple(map(of, range(classes))))


def detections(predictions: np.ndarray) -> Detections:
    """float32 [n, D, 6] -> the detections that count: without padding, and at most `MOST` of a class in a picture."""
    picture, place = np.nonzero(predictions[:, :, 5] >= 0)
    rows = predictions[picture, place].astype(np.float64)
    label = rows[:, 5].astype(np.int64)
    order = np.lexsort((-rows[:, 4], picture, label))
    runs = _runs(label[order], picture[order])
    order = order[np.arange(len(order)) - np.repeat(runs.begin, runs.size) < MOST]
    return Detections(picture[order], label[order], rows[order, 4], rows[order, :4])


def boxes(targets: np.ndarray) -> Truths:
    """Object [n] of float64 [m, 7] -> all boxes."""
    picture = np.repeat(np.arange(len(targets)), [len(each) for each in targets])
    rows = np.concatenate([np.zeros((0, 7)), *(np.reshape(each, (-1, 7)) for each in targets)])
    order = np.lexsort((picture, rows[:, 4]))
    picture, rows = picture[order], rows[order]
    crowd, area = rows[:, 5] > 0, rows[:, 6, None]
    counted = ~crowd[:, None] & (area >= LOWER) & (area <= UPPER)
    return Truths(picture, rows[:, 4].astype(np.int64), rows[:, :4], crowd, counted)


def overlap(found: np.ndarray, truth: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes, float64 [..., 4]; over a crowd the share of the detection that lies in it."""
    sides = np.minimum(found[..., 2:], truth[..., 2:]) - np.maximum(found[..., :2], truth[..., :2])
    shared = np.prod(sides.clip(0), axis=-1)
    area, other = (np.prod(each[..., 2:] - each[..., :2], axis=-1) for each in (found, truth))
    whole = np.where(crowd, area, area + other - shared)
    return np.divide(shared, whole, out=np.zeros_like(shared), where=shared > 0)


def assign(found: Detections, truths: Truths) -> np.ndarray:
    """int32 [d, ranges, thresholds]: the row of the truth that each detection takes, or -1."""
    taken = np.full((len(found.score), len(RANGES), len(THRESHOLDS)), -1, np.int32)
    runs, others = _runs(found.label, found.picture), _runs(truths.label, truths.picture)
    _, left, right = np.intersect1d(runs.key, others.key, assume_unique=True, return_indices=True)
    for some in _alike(others.size[right]):
        _assign(taken, found, truths, runs.of(left[some]), others.of(right[some]))
    return taken


class _Runs(NamedTuple):
    """Stretches of rows of the same class and picture: `key` says which these are."""

    key: np.ndarray
    begin: np.ndarray
    size: np.ndarray

    def of(self, some: np.ndarray) -> _Runs:
        return _Runs(*(each[some] for each in self))


def _runs(label: np.ndarray, picture: np.ndarray) -> _Runs:
    return _Runs(*np.unique((label << 40) + picture, return_index=True, return_counts=True))


def _alike(sizes: np.ndarray, block: int = 512) -> Iterator[np.ndarray]:
    """Rows in blocks of about one size, for what is computed together is padded to one."""
    order = np.argsort(sizes, kind="stable")
    for start in range(0, len(order), block):
        yield order[start : start + block]


def _assign(taken: np.ndarray, found: Detections, truths: Truths, runs: _Runs, others: _Runs) -> None:
    """Fill in `taken` for some runs of detections and the runs of boxes beside them.

    The first detections of all runs choose together, then the second ones: p runs, g boxes (padded), all ranges a and
    thresholds t at once.
    """
    fewer = np.argsort(-runs.size, kind="stable")
    runs, others = runs.of(fewer), others.of(fewer)
    column = np.arange(others.size.max())
    there = column < others.size[:, None]
    rows = others.begin[:, None] + np.where(there, column, 0)  # [p, g]
    crowd, counted = truths.crowd[rows], truths.counted[rows].transpose(0, 2, 1)  # [p, g], [p, a, g]
    free = np.tile(there[:, None, None], (1, len(RANGES), len(THRESHOLDS), 1))  # [p, a, t, g]
    for rank in range(runs.size[0]):
        p, a, t = np.ogrid[: np.count_nonzero(runs.size > rank), : len(RANGES), : len(THRESHOLDS)]
        some = p.ravel()
        which = runs.begin[some] + rank
        iou = overlap(found.box[which, None], truths.box[rows[some]], crowd[some])
        # whole numbers, so that none are equal: what counts goes first, then what overlaps more, then what comes later
        place = iou.argsort(axis=1, kind="stable").argsort(axis=1)
        wish = 1 + place[:, None] + len(column) * counted[some]
        fits = free[some] & (iou[:, None, None] >= THRESHOLDS[:, None])
        best = np.where(fits, wish[:, :, None], 0).argmax(axis=-1)  # [p, a, t]
        hit = fits[p, a, t, best]
        taken[which] = np.where(hit, others.begin[p] + best, -1)
        free[p, a, t, best] &= ~hit | crowd[p, best]
