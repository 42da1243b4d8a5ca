"""COCO's average precision and recall under weights of the pictures, and how they move with these weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple, TypeVar

import numpy as np

from acclimate.metrics.matching import RANGES, THRESHOLDS, Matches, OfClass

LEVELS = np.linspace(0, 1, 101)
"""The recalls at which COCO reads the precision."""
PRECISION, RECALL = 0, 1
MOST_CELLS = 4_000_000
"""Detections of a class times replicates that are computed together."""


Name = TypeVar("Name")


class Cut(NamedTuple):
    """A figure is the mean over some thresholds and classes, in one range of sizes, of average precision or recall."""

    kind: int = PRECISION
    area: int = 0
    thresholds: slice = slice(None)
    classes: slice = slice(None)


def averages(matches: Matches, cuts: Mapping[Name, Cut], weights: np.ndarray) -> dict[Name, np.ndarray]:
    """Each figure under weights of the pictures, float64 [n, replicates] -> float64 [replicates].

    The weight is how often a picture was drawn, a whole number. All ones give what COCO's evaluation gives (Lin et al.
    2014). A class without a box is left out of the mean; NaN where none has any.
    """
    largest = max((len(each.score) for each in matches.classes), default=0)
    step = max(1, MOST_CELLS // max(1, largest))
    blocks = [weights[:, start : start + step] for start in range(0, weights.shape[1], step)]
    parts = [_averages(matches, cuts, np.ascontiguousarray(block)) for block in blocks]
    return {name: np.concatenate([part[name] for part in parts]) for name in cuts}


def pulls(matches: Matches) -> np.ndarray:
    """How mean average precision moves with the weight of each picture, float64 [n]; the sum is 0.

    Derivatives at weights of 1 (the infinitesimal jackknife, Jaeckel 1972), in closed form. COCO reads precision at 101
    recalls, which moves in steps; what is derived here is the area under the same curve, which it approximates.
    """
    known = [each for each in matches.classes if each.counted[0].any()]
    return sum((_pulls(each, matches.pictures) for each in known), np.zeros(matches.pictures)) / max(1, len(known))


def _averages(matches: Matches, cuts: Mapping[Name, Cut], weights: np.ndarray) -> dict[Name, np.ndarray]:
    classes, replicates = len(matches.classes), weights.shape[1]
    table = np.full((2, len(RANGES), len(THRESHOLDS), classes, replicates), np.nan)
    for area, number in _cells(cuts.values(), classes):
        table[:, area, :, number] = curve(matches.classes[number], area, weights)
    return {name: _mean(table[cut.kind, cut.area, cut.thresholds, cut.classes]) for name, cut in cuts.items()}


def _cells(cuts: Iterable[Cut], classes: int) -> set[tuple[int, int]]:
    """The (range, class) that some cut needs."""
    return {(cut.area, number) for cut in cuts for number in range(classes)[cut.classes]}


def _mean(table: np.ndarray) -> np.ndarray:
    """Over thresholds and the classes that are defined: [thresholds, classes, replicates] -> [replicates]."""
    each = table.mean(axis=0)
    known = np.isfinite(each)
    total, count = np.where(known, each, 0).sum(axis=0), known.sum(axis=0)
    return np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)


# --- one class in one range of sizes


def curve(found: OfClass, area: int, weights: np.ndarray) -> np.ndarray:
    """(average precision, recall) of one class, float64 [2, thresholds, replicates]; NaN without a box."""
    hit, ignored = found.hit[area], found.ignored[area]
    live = ~ignored.all(axis=0)
    rows = weights[found.picture[live]]
    shown = np.cumsum(rows, axis=0)
    boxes = weights[found.truth[found.counted[area]]].sum(axis=0)
    boxes[boxes == 0] = np.nan
    each = [_at(rows, shown, *flags, boxes) for flags in zip(hit[:, live], ignored[:, live], strict=True)]
    return np.stack(each, axis=1)


def _at(rows: np.ndarray, shown: np.ndarray, hit: np.ndarray, ignored: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """float64 [2, replicates] at one threshold: `rows` are the weights of the detections, `shown` their sums down to each.

    Only the hits are looked at: between two of them the precision falls and the recall stands still.
    """
    hits, skipped = np.flatnonzero(hit), np.flatnonzero(ignored)
    if not len(hits):
        return np.stack([0 * boxes, 0 * boxes])
    true, seen = np.cumsum(rows[hits], axis=0), shown[hits]
    if len(skipped):
        seen -= np.cumsum(np.insert(rows[skipped], 0, 0, axis=0), axis=0)[np.searchsorted(skipped, hits)]
    # a picture that was not drawn has weight 0, and so may be all that was seen
    precision = np.maximum.accumulate((true / np.maximum(seen, 1))[::-1], axis=0)[::-1]
    recall = true / boxes
    levels = np.searchsorted(LEVELS, recall, side="right")
    read = np.diff(levels, axis=0, prepend=0)
    average = np.einsum("hr,hr->r", read, precision) / len(LEVELS)
    return np.stack([np.where(np.isnan(boxes), np.nan, average), recall[-1]])


def _pulls(found: OfClass, pictures: int) -> np.ndarray:
    """Derivative of the area under the interpolated curve, mean over thresholds, by the weight of each picture.

    The area is the sum over hits of precision / boxes, where the precision of a hit is that of the best place from it on:
    true / seen there. A detection adds to it as a hit, moves true and seen of all best places behind it, and a box lowers
    what every hit is worth.
    """
    if not len(found.score):
        return np.zeros(pictures)
    hit, live = found.hit[0].astype(np.float64), (~found.ignored[0]).astype(np.float64)
    counted = np.bincount(found.truth[found.counted[0]], minlength=pictures)
    boxes = counted.sum()
    seen = np.cumsum(live, axis=1).clip(1)
    raw = np.cumsum(hit, axis=1) / seen
    precision = _from_here_on(np.maximum, raw)
    best = _from_here_on(np.minimum, np.where(raw == precision, np.arange(len(found.score)), len(found.score)))
    mass = np.zeros_like(hit)
    np.add.at(mass, (np.arange(len(hit))[:, None], best), hit / boxes)
    for_true, for_seen = _from_here_on(np.add, mass / seen), _from_here_on(np.add, mass * raw / seen)
    each = (hit * (precision / boxes + for_true) - live * for_seen).mean(axis=0)
    area = (hit * precision).sum(axis=1).mean() / boxes
    return np.bincount(found.picture, each, minlength=pictures) - area * counted / boxes


def _from_here_on(combine: np.ufunc, values: np.ndarray) -> np.ndarray:
    """Of each place and all behind it, along the last axis."""
    return combine.accumulate(values[:, ::-1], axis=1)[:, ::-1]
