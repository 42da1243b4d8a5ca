"""Figures of a classifier, each with its interval: one class a sample (`SINGLE`) or several labels (`several`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import numpy as np

from acclimate.metrics.calibration import ece
from acclimate.metrics.intervals import Interval, Statistic, normal, of_mean, of_sums, wilson
from acclimate.metrics.metric import Metric

Figure = Callable[[np.ndarray, np.ndarray], Metric]
"""Of predictions (probabilities, float [n, classes]) and targets (int [n]; of several labels 0 and 1, [n, labels])."""

THRESHOLD = 0.5
"""A label is given where its probability is above this, until validation has chosen another."""
FEWEST = 5
"""Samples with a label without which no threshold is chosen for it."""

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
    """Mean over the classes that occur of the share of their samples that are right; bootstrap."""

    def mean_recall(sums: np.ndarray) -> np.ndarray:
        right, _, present = np.split(sums, 3, axis=1)
        return _mean(_ratio(right, present))

    return _of_confusion(mean_recall, predictions, targets)


def macro_f1(predictions: np.ndarray, targets: np.ndarray) -> Metric:
    """Mean of F1 over the classes that occur or are predicted; bootstrap."""
    return _of_confusion(_mean_f1, predictions, targets)


def top5(predictions: np.ndarray, targets: np.ndarray) -> Metric:
    """Share of samples whose class is among the five most probable (of equal ones the later come first); Wilson."""
    true = predictions[np.arange(len(targets)), targets][:, None]
    later = np.arange(predictions.shape[1]) > targets[:, None]
    before = (predictions > true) | ((predictions == true) & later)
    return _share((before.sum(axis=1) < 5).mean(), len(targets))


def log_loss(predictions: np.ndarray, targets: np.ndarray) -> Metric:
    """Mean of `losses`, in nats; bootstrap."""
    return _metric(of_mean(losses(predictions, targets)), len(targets))


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
    """Mean over labels of the mean of two shares: found where present, left out where absent; bootstrap.

    Over the labels that are present in some samples and absent from others.
    """

    def mean_recall(sums: np.ndarray) -> np.ndarray:
        found, present, left_out, absent = np.split(sums, 4, axis=1)
        return _mean((_ratio(found, present) + _ratio(left_out, absent)) / 2)

    truth, given = _decided(predictions, targets, thresholds)
    return _of_labels(mean_recall, truth & given, truth, ~truth & ~given, ~truth)


def several_macro_f1(predictions: np.ndarray, targets: np.ndarray, thresholds: Thresholds = THRESHOLD) -> Metric:
    """Mean of F1 over the labels that occur or are given; bootstrap."""
    truth, given = _decided(predictions, targets, thresholds)
    return _of_labels(_mean_f1, truth & given, given, truth)


def micro_f1(predictions: np.ndarray, targets: np.ndarray, thresholds: Thresholds = THRESHOLD) -> Metric:
    """F1 over all decisions; bootstrap over samples."""

    def pooled_f1(sums: np.ndarray) -> np.ndarray:
        right, given, present = (part.sum(axis=1) for part in np.split(sums, 3, axis=1))
        return _ratio(2 * right, given + present)

    truth, given = _decided(predictions, targets, thresholds)
    return _of_labels(pooled_f1, truth & given, given, truth)


def sample_f1(predictions: np.ndarray, targets: np.ndarray, thresholds: Thresholds = THRESHOLD) -> Metric:
    """Mean of `f1_scores`; bootstrap."""
    return _bounded(of_mean(f1_scores(predictions, targets, thresholds)), len(targets), len(targets))


def f1_scores(predictions: np.ndarray, targets: np.ndarray, thresholds: Thresholds = THRESHOLD) -> np.ndarray:
    """float64 [n]: F1 of the labels of each sample; 1 where it has none and none are given."""
    truth, given = _decided(predictions, targets, thresholds)
    sizes = truth.sum(axis=1) + given.sum(axis=1)
    return np.where(sizes > 0, 2 * (truth & given).sum(axis=1) / np.maximum(sizes, 1), 1.0)


def mean_average_precision(predictions: np.ndarray, targets: np.ndarray) -> Metric:
    """Mean over the labels that occur of the average precision, as scikit-learn defines it; normal interval.

    The standard error is the infinitesimal jackknife's (Efron 1982): how much the figure moves with the weight of each
    sample, in closed form. To sort anew in each of 2000 replicates would take minutes.
    """
    truth, n = targets > 0.5, len(targets)
    labels = np.flatnonzero(truth.any(axis=0))
    if not len(labels):
        return _metric((np.nan, np.nan, np.nan), n)
    values, pulls = zip(*(_average_precision(predictions[:, each], truth[:, each]) for each in labels), strict=True)
    value, error = float(np.mean(values)), float(np.linalg.norm(np.mean(pulls, axis=0)))
    return _bounded((value, *normal(value, error)), n, n)


def several_log_loss(predictions: np.ndarray, targets: np.ndarray) -> Metric:
    """Mean of `several_losses`, in nats; bootstrap."""
    return _metric(of_mean(several_losses(predictions, targets)), len(targets))


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


def _of_confusion(statistic: Statistic, predictions: np.ndarray, targets: np.ndarray) -> Metric:
    """A figure of the sums of right, given and present, each one column a class."""
    from scipy.sparse import csr_array

    classes, given = predictions.shape[1], predictions.argmax(axis=1)
    # Samples with the same class and the same answer are alike: a row for each such pair, however many there are.
    pairs, counts = np.unique(targets * classes + given, return_counts=True)
    true, guess, rows = pairs // classes, pairs % classes, np.arange(len(pairs))
    right = true == guess
    places = (
        np.concatenate([rows[right], rows, rows]),
        np.concatenate([true[right], classes + guess, 2 * classes + true]),
    )
    values = csr_array((np.ones(len(places[0])), places), shape=(len(pairs), 3 * classes))
    sizes = np.bincount(targets)
    effective = (sizes > 0).sum() ** 2 / (1 / sizes[sizes > 0]).sum()
    return _bounded(of_sums(statistic, values, counts), len(targets), effective)


def _of_labels(statistic: Statistic, *parts: np.ndarray) -> Metric:
    """A figure of the sums of some tables of what is so, bool [n, labels]."""
    n = len(parts[0])
    return _bounded(of_sums(statistic, np.hstack(parts).astype(np.float32)), n, n)


def _mean_f1(sums: np.ndarray) -> np.ndarray:
    right, given, present = np.split(sums, 3, axis=1)
    return _mean(_ratio(2 * right, given + present))


def _average_precision(scores: np.ndarray, truth: np.ndarray) -> tuple[float, np.ndarray]:
    """Average precision of one label, and its derivative by the weight of each sample, float64 [n]."""
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], truth[order].astype(np.float64)
    # Equal scores are one threshold: they count from the first to the last of their group.
    opens = np.append(True, ranked[1:] != ranked[:-1])
    group = np.cumsum(opens) - 1
    first = np.flatnonzero(opens)[group]
    last = np.append(np.flatnonzero(opens)[1:], len(ranked))[group] - 1
    found, seen, positives = np.cumsum(hits)[last], last + 1.0, hits.sum()
    value = (hits * found / seen).sum() / positives

    def from_group_on(each: np.ndarray) -> np.ndarray:
        return np.cumsum(each[::-1])[::-1][first]

    pulls = np.empty(len(ranked))
    pulls[order] = hits * (found / seen + from_group_on(hits / seen) - value) - from_group_on(hits * found / seen**2)
    return float(value), pulls / positives


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


def _bounded(found: Interval, n: int, effective: float) -> Metric:
    """A figure in 0..1. An interval without width becomes Wilson's: all right in a small sample is not certainty."""
    value, low, high = found
    if low == high:
        low, high = wilson(value, effective)
    return _metric((value, max(0.0, low), min(1.0, high)), n)


def _metric(found: Interval, n: int) -> Metric:
    value, low, high = found
    return Metric(value=float(value), low=float(low), high=float(high), n=n)


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
