"""judge: everything that can be said of a saved model on some samples, with the baselines beside it and a verdict in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from acclimate.data.table import Table
from acclimate.engine import evaluate as engine
from acclimate.engine.answers import Answers
from acclimate.engine.dataset import Dataset
from acclimate.engine.saved import Saved
from acclimate.metrics.intervals import paired
from acclimate.metrics.metric import Metric
from acclimate.tasks.task import Baseline, Task

PARTS = 4
"""Into how many parts samples are cut by a number that they have."""
PLACES = ("source", "domain", "site", "camera", "device", "hospital", "language", "table")
"""Columns by which samples are told apart without being asked to, where there are any: places that samples come from."""
FEWEST, MOST = 5, 30
"""Samples that a value of a column has, so that it is a slice; values of a column, else it tells no groups of samples apart."""
EXACT = 2.0**53
"""Whole numbers from here on are names rather than numbers: not all of them can be told apart."""
NAMED = 20
"""Samples of a leak that are named."""


def judge(
    saved: Saved,
    dataset: Dataset,
    rows: np.ndarray,
    device: torch.device,
    *,
    on: str = "samples",
    beside: Iterable[Baseline] = (),
    leaked: np.ndarray | None = None,
    columns: Sequence[str] = (),
) -> tuple[dict[str, Any], Answers]:
    """(what metrics.json tells of the samples, what was answered to them).

    `rows`: those that judge, `on` what they are called ("test samples"). `beside`: baselines, each with a prediction for each of the rows.
    `leaked`: bool [rows], those that the model has learned from or that are nearly the same. `columns`: of the table, to be cut into
    slices by besides those of `PLACES`.
    """
    task, targets = saved.task, dataset.targets[rows]
    predictions = engine.predict(saved.net, task, engine.over_samples(dataset, rows), saved.precision, device)
    found: dict[str, Any] = {"verdict": "", "primary": task.primary, **figures(task, predictions, targets)}
    compared = [against(task, predictions, one, targets) for one in beside]
    found["baselines"] = compared
    found["verdict"] = verdict(task, found["metrics"], compared, on)
    found["slices"] = slices(task, dataset, rows, predictions, targets, columns)
    found["calibration"] = task.calibration(predictions, targets)
    known = np.zeros(len(rows), dtype=bool) if leaked is None else leaked
    if known.any():
        found["leaks"] = without(task, dataset.table, rows, known, predictions, targets)
        found["verdict"] += learned_too(task, found["leaks"], on)
    answers = {one.name: one.predictions for one in beside}
    return found, Answers(dataset.digests[rows], predictions, targets, known, answers)


def figures(task: Task, predictions: np.ndarray, targets: np.ndarray) -> dict[str, Any]:
    """{"metrics", "by class", "confusion", "errors"}: those that a task leaves empty are not there."""
    found = {
        "metrics": task.metrics(predictions, targets),
        "by class": task.by_class(predictions, targets),
        "confusion": task.confusion(predictions, targets),
        "errors": task.errors(predictions, targets),
    }
    return {name: value for name, value in found.items() if value}


def against(task: Task, predictions: np.ndarray, other: Baseline, targets: np.ndarray) -> dict[str, Any]:
    """{"name", "metrics": the other's, "better by": the paired difference of the primary figure}."""
    plain, n = task.unsettled(), len(targets)
    ours, theirs = task.scores(predictions, targets), plain.scores(other.predictions, targets)
    if n < 2:  # of one sample no difference can be told
        better = Metric(value=float((ours - theirs).sum()), low=-1.0, high=1.0, n=n)
    else:
        found = paired(ours, theirs)
        better = Metric(value=found.difference, low=found.low, high=found.high, n=n)
    metrics = plain.metrics(other.predictions, targets, [task.primary])
    return {"name": other.name, "metrics": metrics, "better by": better}


def verdict(task: Task, metrics: dict[str, Metric], baselines: list[dict[str, Any]], on: str) -> str:
    """The primary figure in a sentence, and whether it is told better than the best of the baselines."""
    primary = task.primary.replace("_", " ")
    if task.primary not in metrics:
        return f"{primary} has no value on these {on}"
    own = metrics[task.primary]
    told = f"{primary} {interval(own)} on {own['n']:,} {on.removesuffix('s') if own['n'] == 1 else on}"
    there = [one for one in baselines if task.primary in one["metrics"]]
    if not there:
        return told
    best = max(there, key=lambda one: one["metrics"][task.primary]["value"])
    name = f"{best['name']} ({best['metrics'][task.primary]['value']:.3f})"
    by = best["better by"]
    if by["low"] > 0:
        return f"{told}, better than its {name} by {interval(by, sign=True)}"
    word = "WORSE than" if by["high"] < 0 else "NOT told better than"
    return f"{word} its {name}, by {interval(by, sign=True)}: {told}"


def corrected(among: dict[str, Any]) -> str:
    """What a verdict adds where the samples that judge have chosen among outcomes (`history.selection`)."""
    return f"; {interval(among['corrected'])} corrected for the choice among {among['tried']} outcomes"


def learned_too(task: Task, leaks: dict[str, Any], on: str) -> str:
    """What a verdict adds where the model knows some of the samples."""
    metric = leaks.get("metrics", {}).get(task.primary)
    if metric is None:
        return f"; the model has learned from all of these {on}, so this says nothing about new ones"
    return f"; {interval(metric)} without the {leaks['count']:,} that it learned from"


def interval(metric: Metric, sign: bool = False) -> str:
    """ "0.935 [0.913, 0.951]"."""
    form = "{:+.3f}" if sign else "{:.3f}"
    value, low, high = (form.format(metric[end]) for end in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def without(
    task: Task, table: Table, rows: np.ndarray, leaked: np.ndarray, predictions: np.ndarray, targets: np.ndarray
) -> dict[str, Any]:
    """{"count", "samples": the first of them by name, and every figure without them}."""
    kept = ~leaked
    named = [table.name(int(row)) for row in rows[leaked][:NAMED]]
    clean = figures(task, predictions[kept], targets[kept]) if kept.any() else {}
    return {"count": int(leaked.sum()), "samples": named, **clean}


# --- slices


def slices(
    task: Task,
    dataset: Dataset,
    rows: np.ndarray,
    predictions: np.ndarray,
    targets: np.ndarray,
    columns: Sequence[str],
) -> dict[str, dict[str, dict[str, Metric]]]:
    """{"brightness": {"0.12 to 0.31": {primary: Metric}}}: the primary figure by what samples are like and where they come from.

    A column of the same name as what samples are like is called "column NAME"."""

    def figure(part: np.ndarray) -> dict[str, Metric]:
        return task.metrics(predictions[part], targets[part], [task.primary])

    cut = by_numbers(dataset, rows)
    for name, parts in by_columns(dataset.table, rows, columns).items():
        cut[f"column {name}" if name in cut else name] = parts
    return {name: {told: figure(part) for told, part in parts.items()} for name, parts in cut.items()}


def not_shown(asked: Sequence[str], slices: dict[str, dict[str, dict[str, Metric]]], samples: int) -> Iterator[str]:
    """What slices that were asked for leave out."""
    for name in asked:
        there = slices.get(f"column {name}", slices.get(name, {}))
        shown = sum(next(iter(figures.values()))["n"] if figures else 0 for figures in there.values())
        if shown < samples:
            rule = f"values with fewer than {FEWEST} samples, or beyond the {MOST} most frequent, are not shown"
            yield f"--slice {name}: {len(there):,} values with {shown:,} of {samples:,} samples; {rule}"


def by_numbers(dataset: Dataset, rows: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
    """Places in `rows` of samples of about one size, brightness, ...: {"size": {"1 to 9 tokens": int64 [m]}}."""
    try:
        shown = [dataset.inputs.numbers(dataset.table.raw(int(row)), dataset.sample(int(row))) for row in rows]
    except (OSError, ValueError):  # a file that has gone since it was read
        shown = []
    numbers = {name: np.array([one[name] for one in shown]) for name in (shown[0] if shown else {})}
    numbers = {dataset.inputs.preprocessing.unit: dataset.sizes[rows], **numbers}
    found = {name: parts_of(values) for name, values in numbers.items()}
    return {name: parts for name, parts in found.items() if len(parts) > 1}


def parts_of(values: np.ndarray) -> dict[str, np.ndarray]:
    """Places of values in parts of about equal number: {"1 to 9": int64 [m]}; empty where all are equal."""
    edges = np.unique(np.quantile(values, np.linspace(0, 1, PARTS + 1), method="lower")) if len(values) else np.zeros(1)
    if len(edges) < 2:
        return {}
    number = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
    parts = [part for one in range(len(edges) - 1) if len(part := np.flatnonzero(number == one))]
    ends = np.array([(values[part].min(), values[part].max()) for part in parts])
    told = spoken(ends.ravel())
    names = [low if low == high else f"{low} to {high}" for low, high in zip(told[::2], told[1::2], strict=True)]
    return dict(zip(names, parts, strict=True))


def spoken(values: np.ndarray) -> list[str]:
    """Numbers in order with as many figures, three at least, as tell different ones apart."""
    for figures in range(3, 17):
        told = [f"{value:.{max(0, figures - 1 - max(0, _tens(value)))}f}" for value in values]
        told = [one.rstrip("0").rstrip(".") if "." in one else one for one in told]
        if len(set(told)) == len(set(values.tolist())):
            break
    return told


def _tens(value: float) -> int:
    """Digits before the point, but one."""
    return int(np.floor(np.log10(abs(value)))) if value else 0


def by_columns(table: Table, rows: np.ndarray, asked: Sequence[str]) -> dict[str, dict[str, np.ndarray]]:
    """Places in `rows` of samples with one value of a column, most frequent first: {"camera": {"a": int64 [m]}}; many numbers that were
    asked for are cut into parts."""
    found = {}
    for name in dict.fromkeys([*asked, *(one for one in PLACES if one in table)]):
        values = np.array([str(one) for one in table.column(name).take(rows).to_pylist()])
        told, counts = np.unique(values, return_counts=True)
        kept = told[np.argsort(-counts, kind="stable")][: (counts >= FEWEST).sum()]
        if name in asked and len(told) > MOST and (numbers := _numbers(values)) is not None:
            found[name] = parts_of(numbers)
        elif name in asked or 1 < len(told) <= MOST:
            found[name] = {str(one): np.flatnonzero(values == one) for one in kept[:MOST]}
    return {name: parts for name, parts in found.items() if parts}


def _numbers(values: np.ndarray) -> np.ndarray | None:
    try:
        found = values.astype(np.float64)
    except ValueError:
        return None
    return found if np.isfinite(found).all() and np.abs(found).max() < EXACT else None
