"""Figures of object detection with their intervals: COCO's average precision and recall, and F1 at a threshold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import numpy as np

from acclimate.core import seeds
from acclimate.metrics.average_precision import RECALL, Cut, averages, pulls
from acclimate.metrics.calibration import Answers
from acclimate.metrics.intervals import LEVEL, wilson
from acclimate.metrics.matching import Detections, Matches, Truths, assign, boxes, detections, match
from acclimate.metrics.metric import Metric

Flat = TypeVar("Flat", Detections, Truths)

REPLICATES = 1000
DRIFT = 2.0
"""How far a figure of some pictures lies above that of all there are, in drifts of its replicates above itself."""
AT_50, AT_75 = slice(0, 1), slice(5, 6)
OVERALL = {
    "map": Cut(),
    "map50": Cut(thresholds=AT_50),
    "map75": Cut(thresholds=AT_75),
    "map_small": Cut(area=1),
    "map_medium": Cut(area=2),
    "map_large": Cut(area=3),
    "recall100": Cut(kind=RECALL),
}
"""The figures over all classes."""

OF_CLASS = {"ap": slice(None), "ap50": AT_50}
"""The figures of each class, by the thresholds that they are the mean of."""
RATES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "f1": lambda sums: _ratio(2 * sums[:, 0], sums[:, 1] + sums[:, 2]),
    "precision": lambda sums: _ratio(sums[:, 0], sums[:, 1]),
    "recall": lambda sums: _ratio(sums[:, 0], sums[:, 2]),
}
"""The figures at a threshold, of the sums of (right, given, there): float64 [replicates, 3] -> [replicates]."""


def figures(
    predictions: np.ndarray,
    targets: np.ndarray,
    classes: int,
    *,
    threshold: float | None = None,
    only: Iterable[str] | None = None,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> dict[str, Metric]:
    """`figures_of` what `match` finds for these predictions and targets."""
    matches = match(predictions, targets, classes)
    return figures_of(matches, threshold=threshold, only=only, replicates=replicates, seed=seed)


def figures_of(
    matches: Matches,
    *,
    threshold: float | None = None,
    only: Iterable[str] | None = None,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> dict[str, Metric]:
    """All figures that these pictures define, or `only` those named; KeyError for a name that is none.

    `map` (mean average precision over IoU .50:.05:.95), `map50`, `map75`, `map_small`, `map_medium`, `map_large` (by the
    area of the boxes), `recall100` (mean recall of up to 100 detections of a class in a picture) are COCO's (Lin et al.
    2014). With a `threshold`: `f1`, `precision`, `recall` at IoU .5 of all detections whose score is not below it. `n` counts
    pictures.

    Intervals: pictures are drawn anew, the same ones for all figures, and for another model on the same pictures; a class
    that a replicate lost is left out of its mean. See `interval`.
    """
    rates = {} if threshold is None else RATES
    asked = [*OVERALL, *rates] if only is None else list(only)
    chosen, n = {name: OVERALL[name] for name in asked if name not in rates}, matches.pictures
    ones, draws = np.ones((n, 1)), _draws(n, replicates, seed)
    values, drawn = averages(matches, chosen, ones), averages(matches, chosen, draws)
    if threshold is not None:
        sums = counted(matches, threshold)
        values |= {name: rate(ones.T @ sums) for name, rate in rates.items()}
        drawn |= {name: rate(draws.T @ sums) for name, rate in rates.items()}
    return {name: interval(values[name][0], drawn[name], n) for name in asked if np.isfinite(values[name][0])}


def by_class(
    matches: Matches, names: Sequence[str], *, replicates: int = REPLICATES, seed: int = 0
) -> dict[str, dict[str, Metric]]:
    """{class: {"ap", "ap50"}}, average precision over IoU .50:.05:.95 and at .5, of the classes that have a box; `n` counts its boxes.

    Intervals as in `figures_of`.
    """
    cuts = {
        (name, figure): Cut(thresholds=thresholds, classes=slice(number, number + 1))
        for number, name in enumerate(names)
        for figure, thresholds in OF_CLASS.items()
    }
    ones, draws = np.ones((matches.pictures, 1)), _draws(matches.pictures, replicates, seed)
    values, drawn = averages(matches, cuts, ones), averages(matches, cuts, draws)
    found: dict[str, dict[str, Metric]] = {name: {} for name in names}
    for (name, figure), cut in cuts.items():
        if np.isfinite(values[name, figure][0]):
            found[name][figure] = interval(values[name, figure][0], drawn[name, figure], _boxes(matches, cut))
    return found


def confusion(predictions: np.ndarray, targets: np.ndarray, classes: int, threshold: float) -> np.ndarray:
    """int64 [classes + 1, classes + 1]: how many boxes of each class (rows; the last: nothing there) are answered as each (columns; the
    last: missed), as `taken_for` finds them."""
    true, given, _ = taken_for(predictions, targets, classes, threshold)
    pairs = true * (classes + 1) + given
    return np.bincount(pairs, minlength=(classes + 1) ** 2).reshape(classes + 1, classes + 1)


def taken_for(
    predictions: np.ndarray, targets: np.ndarray, classes: int, threshold: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each box, there or answered (detections whose score is not below `threshold`, at IoU .5): its class, what it is answered as, both
    `classes` where there is none, and its picture; int [m] each.

    First detections find boxes of their class as for F1, so that the diagonal holds what is right; those left over then take boxes
    left over, whatever their class.
    """
    found, truths = detections(predictions), boxes(targets)
    found = _some(found, np.flatnonzero(found.score >= threshold))
    taken, there = assign(found, truths)[:, 0, 0], truths.counted[:, 0]
    left = np.flatnonzero(taken < 0)
    left = left[np.lexsort((-found.score[left], found.picture[left]))]
    free = np.flatnonzero(there & ~np.isin(np.arange(len(there)), taken))
    free = free[np.argsort(truths.picture[free], kind="stable")]
    again = assign(
        _some(found._replace(label=0 * found.label), left), _some(truths._replace(label=0 * truths.label), free)
    )
    mistaken = again[:, 0, 0] >= 0
    taken[left[mistaken]] = free[again[mistaken, 0, 0]]
    answered = np.full(len(there), classes)
    answered[taken[taken >= 0]] = found.label[taken >= 0]
    nothing = found.label[taken < 0]
    true = np.concatenate([truths.label[there], np.full(len(nothing), classes)])
    return (
        true,
        np.concatenate([answered[there], nothing]),
        np.concatenate([truths.picture[there], found.picture[taken < 0]]),
    )


def surest(matches: Matches, threshold: float) -> list[tuple[float, int]]:
    """Of each class with a right detection at IoU .5 whose score is not below `threshold` the score of the surest one, and its picture."""
    found = []
    for each in matches.classes:
        right = np.flatnonzero(each.hit[0, 0] & ~each.ignored[0, 0] & (each.score >= threshold))
        if len(right):
            best = right[each.score[right].argmax()]
            found.append((float(each.score[best]), int(each.picture[best])))
    return found


def answers(matches: Matches, least: float) -> Answers:
    """The detections above a score, and whether each is right at IoU .5."""
    picture, score, hit, _ = _decisions(matches)
    return Answers(*(each[score > least] for each in (score, hit, picture)))


def interval(of_all: float, drawn: np.ndarray, n: int) -> Metric:
    """The figure with the quantiles of its replicates, moved down by what replicates and figure have drifted up.

    Interpolation makes average precision too high where detections are few: it takes the best of what chance offers. The
    replicates drift up once more (Kosorok 2008: the bootstrap of such a curve is not consistent), by half as much as the
    figure lies above the truth (`benchmarks/detection_metrics.py --trials` measures that), so the quantiles alone
    would be off by three times their drift. The figure stays COCO's and may so lie near the upper end. An interval
    without width becomes Wilson's for `n`: all right in a few pictures is not certainty. `drawn`: float64 [replicates], NaN
    where the figure has no value.
    """
    known = drawn[np.isfinite(drawn)] if np.isfinite(drawn).any() else np.array([of_all])
    drift = max(0.0, known.mean() - of_all)
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) - (1 + DRIFT) * drift
    if high - low < 1e-9:
        low, high = wilson(of_all, n)
    return Metric(value=float(of_all), low=float(max(0, min(low, of_all))), high=float(max(high, of_all)), n=n)


def value(matches: Matches) -> float:
    """Mean average precision (`map`) alone; 0 where no class has a box."""
    overall = averages(matches, {"map": OVERALL["map"]}, np.ones((matches.pictures, 1)))
    return float(np.nan_to_num(overall["map"][0]))


def influences(matches: Matches) -> np.ndarray:
    """float64 [n]: what each picture says of `map`; their mean is `value`, and the error of that mean is that of `value`.

    The value plus n times its derivative by the weight of the picture (the infinitesimal jackknife, Jaeckel 1972). The
    differences between two models on the same pictures give the standard error of the difference (`intervals.paired`).
    """
    scores = matches.pictures * pulls(matches)
    return value(matches) + scores - scores.mean()


def f1(matches: Matches, threshold: float) -> float:
    """F1 over all classes at IoU .5 of the detections whose score is not below `threshold`; 0 where nothing is right."""
    return float(np.nan_to_num(RATES["f1"](counted(matches, threshold).sum(axis=0)[None])[0]))


def best_threshold(matches: Matches) -> tuple[float, float]:
    """(the threshold with the highest F1 over all classes at IoU .5, that F1); of equal ones the highest threshold.

    It is the score of a detection: those with this score are given. (1, 0) where there is no detection.
    """
    _, score, hit, there = _decisions(matches)
    if not len(score):
        return 1.0, 0.0
    order = np.argsort(-score, kind="stable")
    # equal scores are given together or not at all
    last = np.append(score[order][1:] != score[order][:-1], True)
    each = (2 * np.cumsum(hit[order]) / (np.arange(len(score)) + 1 + there.sum()))[last]
    best = int(each.argmax())
    return float(score[order][last][best]), float(each[best])


# --- how they are counted


def _draws(pictures: int, replicates: int, seed: int) -> np.ndarray:
    """How often each picture is drawn, float64 [pictures, replicates]."""
    random = seeds.generator("bootstrap", seed)
    drawn = random.multinomial(pictures, np.full(pictures, 1 / pictures), size=replicates)
    return np.ascontiguousarray(drawn.T, dtype=np.float64)


def _some(flat: Flat, rows: np.ndarray) -> Flat:
    return type(flat)(*(each[rows] for each in flat))


def _boxes(matches: Matches, cut: Cut) -> int:
    return sum(int(each.counted[cut.area].sum()) for each in matches.classes[cut.classes])


def _decisions(matches: Matches) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of all detections that count at IoU .5: picture, score, whether right; and the number of boxes of each picture."""
    empty = (np.zeros(0, np.int64), np.zeros(0), np.zeros(0, bool))
    lives = [~each.ignored[0, 0] for each in matches.classes]
    parts = [
        (each.picture[live], each.score[live], each.hit[0, 0, live])
        for each, live in zip(matches.classes, lives, strict=True)
    ]
    picture, score, hit = (np.concatenate(part) for part in zip(empty, *parts, strict=True))
    there = np.zeros(matches.pictures)
    for each in matches.classes:
        there += np.bincount(each.truth[each.counted[0]], minlength=matches.pictures)
    return picture, score, hit, there


def counted(matches: Matches, threshold: float) -> np.ndarray:
    """float64 [n, 3]: how many detections of each picture are right and given, and how many boxes are there."""
    picture, score, hit, there = _decisions(matches)
    given = score >= threshold
    right, shown = (np.bincount(picture[some], minlength=matches.pictures) for some in (given & hit, given))
    return np.column_stack([right, shown, there]).astype(np.float64)


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """NaN where there is nothing to divide by."""
    return np.divide(above, below, out=np.full(len(above), np.nan), where=below > 0)
