"""evaluate: the figures of a saved model on data, the same as at the end of its fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from acclimate.core.device import choose_device, keep_memory, set_threads
from acclimate.core.errors import Problems, fail, near
from acclimate.core.recipe import Options, Recipe
from acclimate.data.read import existing
from acclimate.data.table import SPLITS
from acclimate.engine import evaluate as engine
from acclimate.engine.dataset import Dataset
from acclimate.engine.learned import seen
from acclimate.engine.saved import Saved, load_model
from acclimate.engine.store import Store
from acclimate.engine.watcher import Watcher
from acclimate.metrics.intervals import paired
from acclimate.tasks import resolve
from acclimate.tasks.task import Baseline

SHARES = ("val", "test", "seed")
"""What cuts splits anew as they were cut."""
PARTS = 4
"""Into how many parts samples are cut by size."""


def judge(
    saved: Saved, dataset: Dataset, rows: np.ndarray, device: torch.device, baseline: Baseline | None = None
) -> dict[str, Any]:
    """{"metrics": all of the task's over the rows[, "errors": kinds of mistakes][, "by size": the primary one where samples differ in
    size][, "baseline": its own and what the model is better by]}."""
    task, targets = saved.task, dataset.targets[rows]
    predictions = engine.predict(saved.net, task, engine.over_samples(dataset, rows), saved.precision, device)
    found: dict[str, Any] = {"metrics": task.metrics(predictions, targets)}
    if errors := task.errors(predictions, targets):
        found["errors"] = errors
    if parts := by_size(dataset, rows):
        found["by size"] = {
            name: task.metrics(predictions[part], targets[part], [task.primary]) for name, part in parts.items()
        }
    if baseline is not None:
        better = paired(task.scores(predictions, targets), task.scores(baseline.predictions, targets))
        found["baseline"] = {
            "name": baseline.name,
            "metrics": task.metrics(baseline.predictions, targets, [task.primary]),
            "better by": {"value": better.difference, "low": better.low, "high": better.high, "n": len(rows)},
        }
    return found


def by_size(dataset: Dataset, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Places in `rows` of samples of about one size, in parts of about equal number: {"1 to 9 tokens": int64 [m]}; empty where all
    are of one size."""
    sizes = dataset.sizes[rows]
    edges = np.unique(np.quantile(sizes, np.linspace(0, 1, PARTS + 1), method="lower")) if len(rows) else np.zeros(1)
    if len(edges) < 2:
        return {}
    number = np.clip(np.searchsorted(edges, sizes, side="right") - 1, 0, len(edges) - 2)
    unit = dataset.inputs.preprocessing.unit
    parts = [np.flatnonzero(number == part) for part in range(len(edges) - 1)]
    return {f"{sizes[part].min()} to {sizes[part].max()} {unit}": part for part in parts if len(part)}


def evaluate(
    run: str | Path,
    data: Any,
    *,
    split: str | None = None,
    device: str = "auto",
    watcher: Watcher | None = None,
    **columns: Any,
) -> dict[str, Any]:
    """`{"run", "task", "model", "split", "learned", "metrics"}` (and what else `judge` tells) of a saved model on labelled data.

    `split`: which part of the data (default: test where there is one, else val, else all). Where the data name no splits and the
    run was fitted on them, the run's own cut is made again. `learned`: how many of these samples are the same or nearly the
    same as what the model learned from; figures on them say nothing about new ones. Raises `UserError` for mistakes.
    """
    from acclimate.verbs.job import split as cut
    from acclimate.verbs.reading import COLUMNS, inspect, read_data

    folder = Path(run)
    watcher = watcher or Watcher()
    keep_memory()
    set_threads()
    saved, where = _found(folder, data, split, device)
    recipe = Recipe.read(folder / "recipe.yaml")
    kept = (*COLUMNS, *(SHARES if _fitted_on(recipe, data) else ()))
    options = Options.check({**{name: recipe.asked[name] for name in kept if name in recipe.asked}, **columns})
    table = read_data(data, options)
    resolve(table, saved.task.name)  # samples of another kind are told as such
    table, _ = saved.task.mend(table)
    found = inspect(table, type(saved.task), saved.inputs, Store(), watcher)
    table = found.table
    if "split" in table or _fitted_on(recipe, data):
        table = cut(table, saved.task, found, options)
        there = [name for name in reversed(SPLITS) if len(table.indices(name))]
        chosen = split or next(name for name in ("test", "val", "train") if name in there)
        if chosen not in there:
            raise fail(f"--split {chosen!r}", "is not a split of these data", near(chosen, there))
        rows = table.indices(chosen)
    else:
        if split is not None:
            raise fail(f"--split {split!r}", "has no effect: the data name no splits", "leave it out")
        chosen, rows = "all", np.arange(len(table))
    dataset = found.dataset(table, saved.task, saved.inputs)
    learned = int(seen(folder, saved.task, dataset, rows).sum())
    if learned:
        told = f"the model learned from {learned:,} of these {len(rows):,} samples, or from near copies"
        watcher.say(f"{told}: the figures say nothing about new ones")
    return {
        "run": str(folder),
        "task": saved.task.name,
        "model": saved.manifest["model"]["name"],
        "split": chosen,
        "learned": learned,
        **judge(saved, dataset, rows, where),
    }


def _found(folder: Path, data: Any, split: str | None, device: str) -> tuple[Saved, torch.device]:
    """The saved model and its device, after a look at everything else that can be wrong before the data are read."""
    problems = Problems()
    if split is not None and split not in SPLITS:
        problems.add(f"--split {split!r}", "is not a split", near(split, SPLITS))
    if isinstance(data, str | Path):
        problems.attempt(existing, data)
    where = problems.attempt(choose_device, device)
    saved = problems.attempt(load_model, folder, where or torch.device("cpu"))
    problems.stop()
    assert saved is not None
    assert where is not None
    return saved, where


def _fitted_on(recipe: Recipe, data: Any) -> bool:
    return isinstance(data, str | Path) and Path(recipe.data).resolve() == Path(data).resolve()
