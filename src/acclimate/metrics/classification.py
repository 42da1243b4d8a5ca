"""Figures of a classifier, each with its interval: one class a sample (`SINGLE`) or several labels (`several`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import numpy as np

from acclimate.core import seeds
from acclimate.metrics.calibration import ece
from acclimate.metrics.intervals import (
    Interval,
    jackknifed,
    jackknifed_sums,
    like_share,
    mid_p,
    of_losses,
    wilson,
)
from acclimate.metrics.metric import Metric

Figure = Callable[[np.ndarray, np.ndarray], Metric]
"""Of predictions (probabilities, float [n, classes]) and targets (int [n]; of several labels 0 and 1, [n, labels])."""

THRESHOLD = 0.5
"""A label is given where its probability is above this, until validation has chosen another."""
FEWEST = 5
"""Samples with a label without which no threshold is chosen for it."""
PULL = 2.0
"""Samples of a class that is like all others, which are added where its own tell too little of their variance."""
REPLICATES, CELLS = 400, 4_000_000
"""Replicates of a simulation, and, if these are fewer, samples drawn in all of them."""

Thresholds = np.ndarray | float
"""Of each label, float [labels], or one for all."""


def figures(
    table: Mapping[str, Figure], predictions: np.ndarray, targets: np.ndarray, only: Iterable[str] | None = None
) -> dict[str, Metric]:
    """The figures of a table, or `only` those named, that these samples define: without a label F1 has no value."""
    found = {name: table[name](predictions, targets) for name in (table if only is None else only)}
    return {name: figure for name, figure in found.items() if np.isfinite(figure["value"])}


# --- one class a sample


def accuracy(predictions: np.ndarray, targets: np.ndarray) -> Metric:
    """Share of samples whose most probable class is the true one; Wilson's interval."""
    return _share((predictions.argmax(axis=1) == targets).mean(), len(targets))


def balanced_accuracy(predictions: np.ndarray, targets: np.ndarray) -> Metric:
    """Mean over the classes that occur of the share of their samples that are right.

    The error is that of a mean of shares, each drawn towards those of the others as if `PULL` more samples had been seen: two of two
    right is not certainty. Where classes do not occur, it is also that of a mean over some of many.
    """
    right, _, present = _class_counts(predictions, targets)
    seen = present > 0
    shares, sizes, missing = _pulled(right, present)[seen], present[seen], (~seen).sum()
    error = (shares * (1 - shares) / sizes).sum() / len(sizes) ** 2 + _unseen(shares, missing)
    value = float((right[seen] / sizes).mean())
    trials = len(sizes) ** 2 / (1 / sizes).sum()
    return _metric(like_share(value, value, float(np.sqrt(error)), trials), len(targets))


def macro_f1(predictions: np.ndarray, targets: np.ndarray) -> Metric:
    """Mean of F1 over the classes that occur or are predicted.

    It is too low where classes have few samples or none, by as much as the same figure of samples drawn anew from such a model is
    below that model's own; so is the interval centred, and their spread is its error.
    """
    right, given, present = _class_counts(predictions, targets)
    value = float(mean_f1(np.concatenate([right, given, present])[None])[0])
    drawn, truth = _drawn_anew(right, given, present)
    seen = present > 0
    error = drawn.var() + _unseen(_pulled(right, present)[seen], (~seen).sum())
    return _metric(like_share(value, value - drawn.mean() + truth, float(np.sqrt(error)), len(targets)), len(targets))


def top5(predictions: np.ndarray, targets: np.ndarray) -> Metric:
    """Share of samples whose class is among the five most probable (of equal ones the later come first). It is mostly near 1: `mid_p`."""
    true = predictions[np.arange(len(targets)), targets][:, None]
    later = np.arange(predictions.shape[1]) > targets[:, None]
    before = (predictions > true) | ((predictions == true) & later)
    right, n = int((before.sum(axis=1) < 5).sum()), len(targets)
    return _metric((right / n, *mid_p(right, n)), n)


def log_loss(predictions: np.ndarray, targets: np.ndarray) -> Metric:
    """Mean of `losses`, in nats; the interval is `of_losses`'s."""
    chances, best = _inside(predictions), _inside(predictions.max(axis=1))
    mistaken, cost = chances.sum(axis=1) - best, best * np.log(best) - (chances * np.log(chances)).sum(axis=1)
    return _metric(of_losses(losses(predictions, targets), _mistake(mistaken, cost / mistaken)), len(targets))


def losses(predictions: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """float64 [n]: minus the log of the probability of the true class, in nats."""
    return -np.log(_inside(predictions[np.arange(len(targets)), targets]))


SINGLE: dict[str, Figure] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "macro_f1": macro_f1,
    "top5": top5,
    "log_loss": log_loss,
    "ece": ece,
}


# --- several labels a sample


def exact_match(predictions: np.ndarray, targets: np.ndarray, thresholds: Thresholds = THRESHOLD) -> Metric:
    """Share of samples with exactly the right labels; Wilson."""
    truth, given = _decided(predictions, targets, thresholds)
    return _share((truth == given).all(axis=1).mean(), len(targets))


def several_balanced_accuracy(
    predictions: np.ndarray, targets: np.ndarray, thresholds: Thresholds = THRESHOLD
) -> Metric:
    """Mean over labels of the mean of two shares: found where present, left out where absent.

    Over the labels that are present in some samples and absent from others. The error is the jackknife's or, if that is more, that of
    the shares as in `balanced_accuracy`.
    """

    def mean_recall(sums: np.ndarray) -> np.ndarray:
        found, present, left_out, absent = np.split(sums, 4, axis=1)
        return _mean((_ratio(found, present) + _ratio(left_out, absent)) / 2)

    truth, given = _decided(predictions, targets, thresholds)
    parts = np.hstack([truth & given, truth, ~truth & ~given, ~truth]).astype(np.float32)
    value, centre, error = jackknifed_sums(mean_recall, parts)
    sums = np.split(parts.sum(axis=0, dtype=np.float64), 4)
    known = (sums[1] > 0) & (sums[3] > 0)
    if not known.any():
        return _metric((value, value, value), len(targets))
    sides = [(_pulled(right, there)[known], there[known]) for right, there in (sums[:2], sums[2:])]
    spread = sum((share * (1 - share) / size).sum() for share, size in sides) / (2 * known.sum()) ** 2
    square = max(error**2, spread) + _unseen((sides[0][0] + sides[1][0]) / 2, int((~known).sum()))
    return _metric(like_share(value, centre, float(np.sqrt(square)), len(targets)), len(targets))


def several_macro_f1(predictions: np.ndarray, targets: np.ndarray, thresholds: Thresholds = THRESHOLD) -> Metric:
    """Mean of F1 over the labels that occur or are given.

    The interval is centred as in `macro_f1`; the error is that of samples drawn anew or, if that is more, the jackknife's, which knows
    of labels that come together.
    """
    parts, n = counted(predictions, targets, thresholds), len(targets)
    value, _, error = jackknifed_sums(mean_f1, parts)
    drawn, truth = _labels_anew(n, *np.split(parts.sum(axis=0, dtype=np.float64), 3))
    centre = value - float(drawn[np.isfinite(drawn)].mean()) + truth
    return _metric(like_share(value, centre, max(error, float(np.nanstd(drawn))), n), n)


def micro_f1(predictions: np.ndarray, targets: np.ndarray, thresholds: Thresholds = THRESHOLD) -> Metric:
    """F1 over all decisions; jackknife over samples."""

    def pooled_f1(sums: np.ndarray) -> np.ndarray:
        right, given, present = (part.sum(axis=1) for part in np.split(sums, 3, axis=1))
        return _ratio(2 * right, given + present)

    found = jackknifed_sums(pooled_f1, counted(predictions, targets, thresholds))
    return _metric(like_share(*found, len(targets)), len(targets))


def sample_f1(predictions: np.ndarray, targets: np.ndarray, thresholds: Thresholds = THRESHOLD) -> Metric:
    """Mean of `f1_scores`, with the error of a mean."""
    scores, n = f1_scores(predictions, targets, thresholds), len(targets)
    value, error = float(scores.mean()), float(scores.std(ddof=1) / np.sqrt(n)) if n > 1 else 0.0
    return _metric(like_share(value, value, error, n), n)


def f1_scores(predictions: np.ndarray, targets: np.ndarray, thresholds: Thresholds = THRESHOLD) -> np.ndarray:
    """float64 [n]: F1 of the labels of each sample; 1 where it has none and none are given."""
    truth, given = _decided(predictions, targets, thresholds)
    sizes = truth.sum(axis=1) + given.sum(axis=1)
    return np.where(sizes > 0, 2 * (truth & given).sum(axis=1) / np.maximum(sizes, 1), 1.0)


def mean_average_precision(predictions: np.ndarray, targets: np.ndarray) -> Metric:
    """Mean over the labels that occur of the average precision, as scikit-learn defines it; jackknife.

    The error is the larger of two: that of the figure as it is, and that of a mean of labels whose errors are drawn towards the
    common one as if `PULL` more samples had the label: three of three found first is not certainty.
    """
    truth, n = targets > 0.5, len(targets)
    labels = np.flatnonzero(truth.any(axis=0))
    if not len(labels):
        return _metric((np.nan, np.nan, np.nan), n)
    (values, squares), left_out = np.zeros((2, len(labels))), np.zeros(n)
    sizes = truth[:, labels].sum(axis=0)
    for place, label in enumerate(labels):
        values[place], without = _average_precision(predictions[:, label], truth[:, label])
        squares[place] = (n - 1) * without.var()
        left_out += without / len(labels)
    value = float(values.mean())
    centre, error = jackknifed(value, left_out)
    each = squares * sizes * (sizes > 1)  # a sample's variance; a single one tells none
    common = ((each * sizes).sum() + value * (1 - value)) / (sizes[sizes > 1].sum() + 1)
    pulled = np.where(sizes > 1, (each * sizes + common * PULL) / (sizes + PULL), common)
    square = max(error**2, (pulled / sizes).sum() / len(sizes) ** 2) + _unseen(values, targets.shape[1] - len(labels))
    return _metric(like_share(value, centre, float(np.sqrt(square)), len(sizes) ** 2 / (1 / sizes).sum()), n)


def several_log_loss(predictions: np.ndarray, targets: np.ndarray) -> Metric:
    """Mean of `several_losses`, in nats; the interval is `of_losses`'s."""
    chances = _inside(np.minimum(predictions, 1 - predictions))
    mistake = _mistake(chances, -np.log(chances)) / predictions.shape[1]
    return _metric(of_losses(several_losses(predictions, targets), mistake), len(targets))


def several_losses(predictions: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """float64 [n]: minus the log of the probability of what each label is, in nats, mean over the labels."""
    return -np.log(_inside(np.where(targets > 0.5, predictions, 1 - predictions))).mean(axis=1)


DECIDED = {
    "accuracy": exact_match,
    "balanced_accuracy": several_balanced_accuracy,
    "macro_f1": several_macro_f1,
    "micro_f1": micro_f1,
    "sample_f1": sample_f1,
}
"""The figures of labels that are given or not."""


def several(thresholds: Thresholds = THRESHOLD) -> dict[str, Figure]:
    """The figures of several labels, each given above its threshold."""
    decided: dict[str, Figure] = {name: partial(figure, thresholds=thresholds) for name, figure in DECIDED.items()}
    return {**decided, "mean_average_precision": mean_average_precision, "log_loss": several_log_loss, "ece": ece}


def best_thresholds(predictions: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """float64 [labels]: of each label the threshold with the highest F1, halfway between two scores; of equal ones the nearest to .5,
    and .5 for labels that fewer than `FEWEST` samples have."""
    return np.array([_best_threshold(*label) for label in zip(predictions.T, targets.T > 0.5, strict=True)])


# --- by class


def by_class(
    names: Sequence[str], predictions: np.ndarray, targets: np.ndarray, thresholds: Thresholds = THRESHOLD
) -> dict[str, dict[str, Metric]]:
    """{class: {"recall", "precision", "f1"}}, of several labels "average_precision" besides; what a class leaves undefined is left out.

    `n` counts the samples that a figure is of: those of the class, those answered so, either. Wilson's intervals: F1 is 2 J / (1 + J) of
    J, the share of right ones among those of the class or answered so. Average precision as in `mean_average_precision`.
    """
    if targets.ndim == 1:
        sums = _class_counts(predictions, targets)
    else:
        truth, given = _decided(predictions, targets, thresholds)
        sums = (truth & given).sum(axis=0), given.sum(axis=0), truth.sum(axis=0)
    found = {name: _of_class(*counts) for name, *counts in zip(names, *sums, strict=True)}
    if targets.ndim == 2:
        for number, name in enumerate(names):
            figure = mean_average_precision(predictions[:, [number]], targets[:, [number]])
            found[name] |= {"average_precision": figure} if np.isfinite(figure["value"]) else {}
    return found


def _of_class(right: int, given: int, present: int) -> dict[str, Metric]:
    either = given + present - right
    sizes = {"recall": present, "precision": given, "f1": either}
    found = {name: _share(right / size, size) for name, size in sizes.items() if size}
    if either:
        value, low, high = (2 * share / (1 + share) for share in (found["f1"][end] for end in ("value", "low", "high")))
        found["f1"] = _metric((value, low, high), int(either))
    return found


def confusion(predictions: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """int64 [classes, classes]: how many samples of each class (rows) are answered as each (columns)."""
    classes = predictions.shape[1]
    pairs = targets * classes + predictions.argmax(axis=1)
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def _class_counts(predictions: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each class how many are right, answered so, and there, int64 [classes] each."""
    table = confusion(predictions, targets)
    return table.diagonal(), table.sum(axis=0), table.sum(axis=1)


# --- how they are counted


def _pulled(right: np.ndarray, present: np.ndarray) -> np.ndarray:
    """float64 [classes]: the share of right ones, drawn towards the mean over classes, in which the better known ones count more.

    Not towards the share of all samples, for frequent classes are often the easy ones.
    """
    seen = present > 0
    known = present[seen] / (present[seen] + PULL)
    common = ((known * right[seen] / present[seen]).sum() + 0.5) / (known.sum() + 1)
    return (right + PULL * common) / (present + PULL)


def _unseen(values: np.ndarray, missing: int) -> float:
    """Variance of the mean over all classes that comes of those that are missing, were they like the others, float [classes]."""
    if not missing:
        return 0.0
    seen, spread = len(values), float(values.var(ddof=1)) if len(values) > 1 else 0.25
    return (missing / (missing + seen)) ** 2 * spread * (1 / missing + 1 / seen)


def _drawn_anew(right: np.ndarray, given: np.ndarray, present: np.ndarray) -> tuple[np.ndarray, float]:
    """(macro F1 of as many samples drawn from a model like this one, float64 [replicates]; that of the model itself).

    In the model classes are as frequent as here, with half a sample more of each, right as often as `_pulled` says, and mistaken for
    what others were mistaken for.
    """
    n, classes = int(present.sum()), len(present)
    replicates = int(np.clip(CELLS // n, 50, REPLICATES))
    share = (present + 0.5) / (n + 0.5 * classes)
    hit = _pulled(right, present)
    wrong = given - right + 0.5
    wrong = wrong / wrong.sum()
    random = seeds.generator("macro F1")
    true = random.choice(classes, size=(replicates, n), p=share)
    # what a class is mistaken for is no draw of the class itself: its own stretch of 0..1 is left out
    ends = np.cumsum(wrong)
    place = random.random((replicates, n)) * (1 - wrong[true])
    place += np.where(place >= (ends - wrong)[true], wrong[true], 0)
    guess = np.where(
        random.random((replicates, n)) < hit[true], true, np.searchsorted(ends, place).clip(0, classes - 1)
    )
    row = classes * np.arange(replicates)[:, None]

    def counted(cells: np.ndarray) -> np.ndarray:
        return np.bincount(cells.ravel(), minlength=replicates * classes).reshape(replicates, classes)

    drawn = mean_f1(np.hstack([counted((true + row)[guess == true]), counted(guess + row), counted(true + row)]))
    found, missed = share * hit, share * (1 - hit)
    answered = found + wrong * ((missed / (1 - wrong)).sum() - missed / (1 - wrong))
    return drawn, float(mean_f1(np.concatenate([found, answered, share])[None])[0])


def counted(predictions: np.ndarray, targets: np.ndarray, thresholds: Thresholds = THRESHOLD) -> np.ndarray:
    """float32 [n, 3 classes]: whether each class is right, answered, and there, in each sample. The sums are `mean_f1`'s."""
    if targets.ndim == 1:
        truth, given = (np.arange(predictions.shape[1]) == each[:, None] for each in (targets, predictions.argmax(1)))
    else:
        truth, given = _decided(predictions, targets, thresholds)
    return np.hstack([truth & given, given, truth]).astype(np.float32)


def mean_f1(sums: np.ndarray) -> np.ndarray:
    """Mean of F1 over the classes that occur or are answered, float64 [replicates], of sums [replicates, 3 classes] (`counted`)."""
    right, given, present = np.split(sums, 3, axis=1)
    return _mean(_ratio(2 * right, given + present))


def _labels_anew(n: int, right: np.ndarray, given: np.ndarray, present: np.ndarray) -> tuple[np.ndarray, float]:
    """`_drawn_anew` for several labels, each by itself: as frequent, found, and given by mistake as often as here, drawn towards all."""
    size, random = (REPLICATES, len(present)), seeds.generator("macro F1")
    share, hit = (present + 0.5) / (n + 1), _pulled(right, present)
    mistaken = _pulled(given - right, n - present)
    there = random.binomial(n, share, size)
    found = random.binomial(there, hit)
    drawn = mean_f1(np.hstack([found, found + random.binomial(n - there, mistaken), there]))
    truth = np.concatenate([share * hit, share * hit + (1 - share) * mistaken, share])
    return drawn, float(mean_f1(truth[None])[0])


def _average_precision(scores: np.ndarray, truth: np.ndarray) -> tuple[float, np.ndarray]:
    """Average precision of one label, and what it is without each of the samples, float64 [n]; the same without its only one."""
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], truth[order].astype(np.float64)
    # Equal scores are one threshold: they count from the first to the last of their group.
    opens = np.append(True, ranked[1:] != ranked[:-1])
    group = np.cumsum(opens) - 1
    first = np.flatnonzero(opens)[group]
    last = np.append(np.flatnonzero(opens)[1:], len(ranked))[group] - 1
    found, seen, positives = np.cumsum(hits)[last], last + 1.0, hits.sum()
    before = np.append(0, np.cumsum(hits * found / seen))
    value = float(before[-1] / positives)
    fewer = np.maximum(seen - 1, 1)

    def from_group_on(each: np.ndarray) -> np.ndarray:
        return np.cumsum(each[::-1])[::-1][first]

    without_hit = before[first] + from_group_on(hits * (found - 1) / fewer) - (found - 1) / fewer
    without_other = before[first] + from_group_on(hits * found / fewer)
    left_out = np.empty(len(ranked))
    left_out[order] = np.where(hits > 0, without_hit / max(positives - 1, 1), without_other / positives)
    if positives == 1:
        left_out[truth] = value
    return value, left_out


def _best_threshold(scores: np.ndarray, truth: np.ndarray) -> float:
    if truth.sum() < FEWEST:
        return THRESHOLD
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order].astype(np.float64)
    last = np.append(ranked[1:] != ranked[:-1], True)  # equal scores are given together
    found = (2 * np.cumsum(truth[order]) / (np.arange(len(ranked)) + 1 + truth.sum()))[last]
    levels = np.append(ranked[last], 0.0)
    between = (levels[:-1] + levels[1:]) / 2
    return float(min(between[found == found.max()], key=lambda threshold: abs(threshold - THRESHOLD)))


def _decided(predictions: np.ndarray, targets: np.ndarray, thresholds: Thresholds) -> tuple[np.ndarray, np.ndarray]:
    """(labels there, labels given), bool [n, labels]."""
    return targets > 0.5, predictions > thresholds


def _share(share: float, n: int) -> Metric:
    return _metric((share, *wilson(float(share), int(n))), int(n))


def _metric(found: Interval, n: int) -> Metric:
    value, low, high = found
    return Metric(value=float(value), low=float(low), high=float(high), n=n)


def _mistake(chances: np.ndarray, costs: np.ndarray) -> float:
    """What a mistake costs, weighed by the root of its chance: more than is expected, for many models are surer than they should be."""
    weights = np.sqrt(chances)
    return float((weights * costs).sum() / weights.sum())


def _inside(probabilities: np.ndarray) -> np.ndarray:
    """Off 0 and 1 by the resolution of the type, as in scikit-learn: one sample must not make the mean infinite."""
    least = np.finfo(probabilities.dtype).eps
    return probabilities.clip(least, 1 - least).astype(np.float64)


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """NaN where there is nothing to divide by."""
    return np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below > 0)


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis of what is defined; NaN where nothing is."""
    known = np.isfinite(values)
    return _ratio(np.where(known, values, 0).sum(axis=-1), known.sum(axis=-1))
