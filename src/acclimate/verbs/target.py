"""The target of a shift or an adaptation: samples of a second data set, read as those of a job are, and without their labels."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from acclimate.core.errors import Problems, UserError, fail
from acclimate.core.recipe import Options, flag
from acclimate.data.gate import LISTED, Finding
from acclimate.data.read import existing, read
from acclimate.data.table import Table
from acclimate.engine.dataset import Dataset, Target
from acclimate.engine.watcher import Watcher
from acclimate.metrics.shares import declared
from acclimate.strategies import adaptation
from acclimate.tasks import resolve
from acclimate.tasks.task import Task
from acclimate.verbs.reading import COLUMNS, inspect, read_data

if TYPE_CHECKING:
    from acclimate.verbs.job import Job

Given = Mapping[str, Any]
NOTHING: Given = {}
OF_DATA = ("target", "target_labels")
"""Options that name data: a path, or, in Python, data in memory."""
KINDS = {"text": "texts"}
LEAST = 10
"""Samples of a target below which no test can tell anything."""
FEWEST = 20
"""Labels of the target with which a test can tell anything."""


def look_at_target(options: Options, problems: Problems, given: Given) -> None:
    """Collect the mistakes in what was asked for a target that cost nothing to see."""
    for name in OF_DATA:
        if (said := getattr(options, name)) is not None and name not in given:
            problems.attempt(existing, said)
    known = options.adapt is not None and problems.attempt(adaptation.find, options.adapt) is not None
    if known and adaptation.needs_labels(str(options.adapt)) and options.target_labels is None:
        problems.add(f"--adapt {options.adapt}", "learns from labels of the target", "give some, with --target-labels")
    if known and options.target_shares is not None and not adaptation.reads_shares(str(options.adapt)):
        ways = ", ".join(name for name in adaptation.known() if adaptation.reads_shares(name))
        rule = f"has no effect with --adapt {options.adapt}"
        problems.add(f"--target-shares {options.target_shares}", rule, f"leave it out, or use --adapt {ways}")
    for name in ("adapt", "harmonise", "target_shares", "target_labels"):
        if getattr(options, name) is not None and options.target is None:
            problems.add(
                f"{flag(name)} {getattr(options, name)}", "has no effect without a target", "name it with --target"
            )


def look_elsewhere(job: Job, given: Given, watcher: Watcher) -> None:
    """Give the job its target, with shares and labels where there are any. Raises `UserError`."""
    options, table = job.options, job.dataset.table
    if len(job.task.chosen(job.dataset.targets[:1])) != 1:
        rule = (
            f"is for one class a sample, and {table.source} is {job.task.name.replace('_', ' ')} with {job.task.about}"
        )
        raise fail(f"--target {options.target}", rule, "leave it out")
    job.target = read_target(given.get("target", options.target), job, watcher)
    job.findings += job.target.findings
    job.shares = declared_shares(job)
    if options.target_labels is not None:
        job.target = labelled(given.get("target_labels", options.target_labels), job.target, job, watcher)
        job.findings += job.target.findings


def read_target(data: Any, job: Job, watcher: Watcher) -> Target:
    """Raises `UserError` for samples of another kind than the job's, for none, for too many that cannot be read, and where all are
    samples of the job's own data."""
    table = _unlabelled(data, job.options)
    own = job.dataset.table
    if table.source == own.source:  # two tables in memory have one name
        table, own = replace(table, source="the target"), replace(own, source="the source")
    if (table.form == "text") != (own.form == "text"):
        kinds = [KINDS.get(one.form, "pictures") for one in (table, own)]
        raise fail(table.source, f"holds {kinds[0]}, and {own.source} holds {kinds[1]}", "both must be of one kind")
    known = _with_labels(data, job.options)
    kind = None if known is None else _kind(known)
    if kind is not None and kind is not type(job.task):
        rule = f"is for {kind.name.replace('_', ' ')}, and {own.source} for {job.task.name.replace('_', ' ')}"
        raise fail(table.source, rule, "both must be of one task")
    found = inspect(table, type(job.task), job.dataset.inputs, job.store, watcher)
    rows = np.arange(len(found.table))
    if "split" in found.table:
        rows = np.flatnonzero(found.table.column("split").to_numpy(zero_copy_only=False) != "test")
    dataset = found.dataset(found.table, job.task, job.dataset.inputs)
    shared = _shared(dataset, rows, job, own.source)
    if len(rows) < LEAST:
        rule = f"holds {len(rows)} samples that can be used, too few to tell anything"
        raise fail(table.source, rule, f"give {LEAST} or more that can be read, outside a test split")
    findings = [replace(one, what=f"{table.source}: {one.what}") for one in found.findings]
    return Target(dataset, rows, [*_labels(known, job), *findings, *shared])


def _unlabelled(data: Any, options: Options) -> Table:
    """The samples of a source by the columns that were named for the job, but for those of labels."""
    said = {name: getattr(options, name) for name in COLUMNS if name not in ("label", "separator", "group")}
    table = read(data, **said, labels=False)
    return table if "target" not in table else Table(**{**vars(table), "rows": table.rows.drop_columns(["target"])})


def _with_labels(data: Any, options: Options) -> Table | None:
    """The same samples with their labels; None where there are none that can be read."""
    with suppress(UserError, OSError):
        table = read(data, **{name: getattr(options, name) for name in COLUMNS})
        return table if "target" in table else None
    return None


def _kind(table: Table) -> type[Task] | None:
    """The task that its labels are for; None where they are for none."""
    with suppress(UserError):
        return resolve(table)
    return None


def _labels(table: Table | None, job: Job) -> list[Finding]:
    """What the target's labels are called, where it has any: they are not used, but other names than the source's are told."""
    if table is None:
        return []
    column = table.column("target")
    if pa.types.is_list(column.type):
        column = pc.list_flatten(column)
    if not pa.types.is_string(column.type):
        return []
    theirs, ours = set(pc.unique(column.drop_null()).to_pylist()), set(job.task.spec["classes"])
    more, less = sorted(theirs - ours), sorted(ours - theirs)
    what = "the target has labels"
    if more or less:
        sides = [f"only in {side}: {_named(names)}" for side, names in (("source", less), ("target", more)) if names]
        what = f"{what}, and its classes are not those of the source; {'; '.join(sides)}"
    both = more + less
    return [Finding("labels of the target", "note", what, both[:LISTED], len(both), "they are not read")]


def _named(names: list[str]) -> str:
    return ", ".join(names[:8]) + (f", ... ({len(names)} in all)" if len(names) > 8 else "")


def _shared(dataset: Dataset, rows: np.ndarray, job: Job, name: str) -> list[Finding]:
    """Samples of both sides; `name`: of the source. Raises `UserError` where there are no others."""
    same = np.isin(dataset.digests[rows, 0], job.dataset.digests[:, 0])
    if len(same) and same.all():
        what = f"all {len(rows):,} samples are among those of {name}"
        raise fail(dataset.table.source, what, "give data that the model was not to be fitted to")
    if not same.any():
        return []
    names = [dataset.table.name(int(row)) for row in rows[same][:LISTED]]
    return [
        Finding(
            "samples of both sides",
            "note",
            f"samples that the source holds too: {int(same.sum()):,} of {len(rows):,}",
            names,
            int(same.sum()),
            "kept",
        )
    ]


def labelled(data: Any, target: Target, job: Job, watcher: Watcher) -> Target:
    """The target with labels for those of its samples that a labelled data set holds, by their content: what `shift --ask` wrote, filled
    in, or any data. Its findings are those of the labels.

    Raises `UserError` where no sample is one of the target's, for fewer than `FEWEST`, and for classes that the source does not have.
    """
    table = read_data(data, job.options)
    found = inspect(table, type(job.task), job.dataset.inputs, job.store, watcher)
    places = {int(target.dataset.digests[row, 0]): int(row) for row in target.rows}
    there = np.array([int(digest) in places for digest in found.digests[:, 0]])
    if not there.any():
        rule = f"holds {len(there):,} labelled samples, none of which is one of {target.dataset.table.source}"
        raise fail(
            f"--target-labels {source_name(data)}",
            rule,
            "give labels of samples that --target holds, outside its test split",
        )
    rows = np.array([places[int(digest)] for digest in found.digests[there, 0]])
    (codes,) = job.task.chosen(job.task.encode(found.table.column("target")))
    rows, first = np.unique(rows, return_index=True)
    if len(rows) < FEWEST:
        rule = f"holds labels of {len(rows)} samples of the target: too few to tell what is better"
        raise fail(
            f"--target-labels {source_name(data)}", rule, f"give {FEWEST} or more; acclimate shift --ask chooses them"
        )
    missing = int((~there).sum())
    more = f"; {missing:,} others are none of the target's, and are left out" if missing else ""
    what = f"labels of {len(rows):,} samples of the target{more}"
    finding = Finding(
        "target labels", "note", what, [found.table.name(0)], len(rows), "they decide, and are learned from"
    )
    return replace(target, known=rows, known_targets=codes[there][first], findings=[*found.findings, finding])


def declared_shares(job: Job) -> tuple[float, ...]:
    """The class shares that the user says the target has, in the order of the classes; none where nothing is said.

    Raises `UserError` for a file that is not there or is no table of names and shares, unknown classes, and a sum that is not 1.
    """
    said, classes = job.options.target_shares, job.task.spec["classes"]
    if said is None:
        return ()
    if said == "balanced":
        return (1 / len(classes),) * len(classes)
    if said == "source":
        (targets,) = job.task.chosen(job.dataset.targets[job.rows("train")])
        return tuple((np.bincount(targets, minlength=len(classes)) / len(targets)).tolist())
    shares = said if isinstance(said, dict) else _shares_in(existing(said), classes)
    return tuple(declared(shares, classes, f"--target-shares {said}").tolist())


def _shares_in(path: Path, classes: list[str]) -> dict[str, float]:
    """A JSON object of numbers by name, or lines of a name and a number with a comma or a tab between; a first line that has no number
    and names no class is a heading."""
    remedy = 'give JSON like {"rose": 0.7, "tulip": 0.3}, or lines like rose,0.7'
    try:
        text = path.read_text()
        if text.lstrip().startswith("{"):
            return {str(name): float(share) for name, share in json.loads(text).items()}
        lines = [line.replace("\t", ",").rpartition(",") for line in text.splitlines() if line.strip()]
        rows = [(name.strip().strip('"'), share.strip()) for name, _, share in lines]
        for name, share in rows:
            if (name or share) in classes and not _is_number(share):
                raise fail(f"--target-shares {path}: {name or share}", f"{share!r} is no share", remedy)
        start = 0 if rows and _is_number(rows[0][1]) else 1
        return {name: float(share) for name, share in rows[start:]}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise fail(f"--target-shares {path}", f"is no file of class shares ({error})", remedy) from None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def two_names(source: Any, target: Any) -> tuple[str, str]:
    """What to call two data sets in words that tell them apart."""
    names = source_name(source), source_name(target)
    if names[0] == names[1] and isinstance(source, str | Path):
        names = str(source), str(target)
    return names if names[0] != names[1] else ("the source", "the target")


def source_name(data: Any) -> str:
    """What to call a data set in words."""
    return Path(data).name if isinstance(data, str | Path) else f"{type(data).__name__} in memory"
