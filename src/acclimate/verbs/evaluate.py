"""evaluate: the figures of a saved model on data, the same as at the end of its fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from acclimate.core.device import choose_device, keep_memory, set_threads
from acclimate.core.errors import Problems, UserError, fail, near
from acclimate.core.recipe import Options, Recipe, spoken
from acclimate.core.run import Run
from acclimate.data.gate import Finding
from acclimate.data.read import existing
from acclimate.data.table import OWN, SPLITS, Table
from acclimate.engine.answers import Answers
from acclimate.engine.dataset import Dataset
from acclimate.engine.learned import CHOSE, seen
from acclimate.engine.saved import Saved, load_model
from acclimate.engine.store import Store
from acclimate.engine.watcher import Watcher
from acclimate.tasks import resolve
from acclimate.tasks.task import Baseline
from acclimate.tracking.notebook import watched
from acclimate.verbs.baselines import majority
from acclimate.verbs.judging import corrected, judge, not_shown

SAID = {"test": "test samples", "val": "validation samples", "train": "training samples", "all": "samples"}
"""What the samples of a split are called."""
SHARES = ("val", "test", "seed")
"""What cuts splits anew as they were cut."""


@watched
def evaluate(
    run: str | Path,
    data: Any,
    *,
    split: str | None = None,
    slice: str | Sequence[str] = (),
    device: str = "auto",
    watcher: Watcher | None = None,
    **columns: Any,
) -> dict[str, Any]:
    """`{"verdict", "run", "task", "model", "split", "learned", "chose", "findings", "metrics"}` (and what else `judge` tells) of a saved
    model on labelled data.

    `split`: which part of the data (default: test where there is one, else val, else all). Where the data name no splits and the
    run was fitted on them, the run's own cut is made again. `slice`: columns of the data by whose values the primary figure is told
    as well. `learned`: how many of these samples are the same or nearly the same as what the model learned from; figures on them say
    nothing about new ones. `chose`: how many others were validation, so that the model was chosen by them. Raises `UserError` for mistakes.
    """
    folder = Path(run)
    watcher = watcher or Watcher()
    keep_memory()
    set_threads()
    saved, where = _found(folder, data, split, device)
    dataset, rows, chosen, findings = samples_of(folder, saved, data, split, watcher, columns)
    for one in findings:
        watcher.say(one.line)
    recipe, fitted = Recipe.read(folder / "recipe.yaml"), _metrics(Run(folder))
    cut_by = _columns(dataset.table, slice, {**recipe.asked, **columns})
    known = seen(folder, saved.task, dataset, rows)
    if known.any():
        told = f"the model learned from {known.sum():,} of these {len(rows):,} samples, or from near copies"
        rest = "the figures say nothing about new ones" if known.all() else "the figures are told without them too"
        watcher.say(f"{told}: {rest}")
    chose = seen(folder, saved.task, dataset, rows, CHOSE) if (folder / CHOSE).is_file() else np.zeros(len(rows), bool)
    if chose.any():
        told = f"{chose.sum():,} of these {len(rows):,} samples, or near copies, were validation and chose what the model is"
        watcher.say(f"{told}: figures on them are a little too good")
    beside = _beside(folder, saved, dataset.digests[rows])
    among = fitted.get("selection") if fitted.get("split") == chosen and _fitted_on(recipe, data) else None
    answered = {one.name for one in beside}
    lacking = [one["name"] for one in fitted.get("baselines", []) if one["name"] not in answered]
    on = SAID.get(chosen, f"{chosen} samples")
    found, _ = judge(saved, dataset, rows, where, on=on, beside=beside, leaked=known, columns=cut_by)
    for line in not_shown(cut_by, found["slices"], len(rows)):
        watcher.say(line)
    if among:
        found["verdict"] += corrected(among)
        found["selection"] = among
    if lacking:
        found["verdict"] += f"; {' and '.join(lacking)} cannot be asked about these samples"
    return {
        "verdict": found["verdict"],
        "run": str(folder),
        "task": saved.task.name,
        "model": saved.manifest["model"]["name"],
        "split": chosen,
        "learned": int(known.sum()),
        "chose": int(chose.sum()),
        "findings": [asdict(one) for one in findings],
        **found,
    }


def samples_of(
    folder: Path, saved: Saved, data: Any, split: str | None, watcher: Watcher, columns: dict[str, Any]
) -> tuple[Dataset, np.ndarray, str, list[Finding]]:
    """(labelled data as a saved model reads them, the rows of a split, its name, what was found in the data), as for `evaluate`.

    Raises `UserError`."""
    from acclimate.verbs.job import split as cut
    from acclimate.verbs.reading import inspect

    recipe = Recipe.read(folder / "recipe.yaml")
    table, options = _read(recipe, data, columns, watcher)
    resolve(table, saved.task.name, free=False)  # samples of another kind are told as such
    table, mended = saved.task.mend(table)
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
    return found.dataset(table, saved.task, saved.inputs), rows, chosen, mended + found.findings


def _read(recipe: Recipe, data: Any, asked: dict[str, Any], watcher: Watcher) -> tuple[Table, Options]:
    """The data, read as those of the fit were. What the fit was told and other data do not have is left out, which is said. Raises
    `UserError`."""
    from acclimate.verbs.reading import COLUMNS, read_data

    kept = (*COLUMNS, *(SHARES if _fitted_on(recipe, data) else ()))
    known = {name: value for name, value in recipe.asked.items() if name in kept and name not in asked}
    lacking: dict[str, Any] = {}
    while True:
        options = Options.check({**known, **asked})
        try:
            table = read_data(data, options)
            break
        except UserError as error:
            absent = {one.option for one in error.problems}
            lacking |= {name: value for name, value in known.items() if name in absent}
            if not absent & known.keys():
                raise
            known = {name: value for name, value in known.items() if name not in absent}
    if lacking:
        told = " ".join(spoken(name, value) for name, value in lacking.items())
        instead = f"; labels are taken from {table.label!r}" if table.named else ""
        watcher.say(f"these data have nothing like {told} of the fit{instead}")
    return table, options


def _columns(table: Table, asked: str | Sequence[str], options: dict[str, Any]) -> tuple[str, ...]:
    """The columns to be cut by. `options`: what the data were told to be. Raises `UserError` for one that the data do not have."""
    names = (asked,) if isinstance(asked, str) else tuple(asked)
    roles = {options.get(role): role for role in ("split", "group") if role in table}
    own = {roles.get(name, f"{name}_" if name in OWN else name): name for name in names}
    problems = Problems()
    for name, said in own.items():
        if said in (table.label, *table.named):
            what = "labels, and every figure is told by class" if said == table.label else "samples"
            problems.add(f"--slice {said}", f"is the column of {what}", "name another column")
        elif name not in table:
            others = [one for one in table.rows.column_names if one not in OWN]
            problems.add(f"--slice {said}", f"is not a column of {table.source}", near(said, others))
    problems.stop()
    return tuple(own)


def _beside(folder: Path, saved: Saved, digests: np.ndarray) -> list[Baseline]:
    """The baselines of the fit as far as they have answered these samples, else what needs no sample."""
    try:
        kept = Answers.load(folder)
    except UserError:  # without them the model still answers
        kept = None
    if kept is not None and ((places := kept.places(digests)) >= 0).all():
        return [Baseline(name, answers[places]) for name, answers in kept.beside.items()]
    return list(majority(np.array(saved.manifest.get("constant") or []), len(digests)))


def _metrics(run: Run) -> dict[str, Any]:
    """Empty where the model is all that is left of a run."""
    try:
        return run.metrics() if run.finished else {}
    except UserError:
        return {}


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
