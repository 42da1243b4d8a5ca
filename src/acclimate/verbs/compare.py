"""compare: which of several runs is better on the same samples, by how much, and whether that can be told from noise."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from acclimate.core.device import choose_device, keep_memory, set_threads
from acclimate.core.errors import Problems, UserError, fail
from acclimate.core.run import Run
from acclimate.data.read import existing
from acclimate.engine import evaluate as engine
from acclimate.engine import learned
from acclimate.engine.answers import Answers
from acclimate.engine.saved import WEIGHTS, load_model, read_manifest
from acclimate.engine.watcher import Watcher
from acclimate.metrics.comparison import holm, needed
from acclimate.metrics.intervals import LEVEL, Paired, paired
from acclimate.metrics.metric import Metric
from acclimate.tasks import TASKS
from acclimate.tasks.task import Task
from acclimate.tracking.notebook import watched
from acclimate.verbs.evaluate import samples_of

FEWEST = 10
"""Samples that runs have in common, below which nothing is compared."""
COSTS = ("latency_ms", "batch_ms", "memory_bytes", "disk_bytes", "parameters")


@dataclass(frozen=True)
class Entry:
    """A run that is compared: what it answered, and what its metrics.json says."""

    name: str
    folder: Path
    task: Task
    answers: Answers
    told: dict[str, Any]

    def common(self, digests: np.ndarray) -> Entry:
        """With the answers to these samples (uint64 [n, 2]) alone, in this order; it has them all."""
        return Entry(self.name, self.folder, self.task, self.answers.take(self.answers.places(digests)), self.told)

    @property
    def scores(self) -> np.ndarray:
        return self.task.scores(self.answers.predictions, self.answers.targets)

    def json(self, metrics: dict[str, Metric]) -> dict[str, Any]:
        cost = self.told.get("cost", {})
        costs = {"seconds": self.told.get("seconds"), **{name: cost.get(name) for name in COSTS}}
        own = {name: self.told.get(name) for name in ("model", "strategy")}
        return {"run": str(self.folder), "name": self.name, **own, "metrics": metrics, "cost": costs}


@watched
def compare(
    *runs: str | Path,
    data: Any = None,
    split: str | None = None,
    device: str = "auto",
    watcher: Watcher | None = None,
    **columns: Any,
) -> dict[str, Any]:
    """Compare finished runs, two or more, on the same samples.

    `data`: labelled data that each of them answers now (`split`, `columns`: as for `evaluate`); default: the samples that judged
    each of them at its end, as far as all have them. Samples that one of them has learned from are left out.

    Returns {"verdict": a sentence, "metric": the primary figure, "samples": how many, "notes", "runs": [{"run", "name", "model",
    "strategy", "metrics", "cost"}] best first, "pairs": [{"better", "than", "difference": Metric, "p", "adjusted", "told", "needed",
    "also": differences of further figures}]}.
    Differences are paired by sample; `p` is McNemar's exact test for right and wrong, else Student's t; `adjusted` is Holm's (1979) over
    all pairs. "needed": how many more samples would tell the difference that was seen in four of five cases; null where it is told.
    Raises `UserError` for mistakes.
    """
    folders = [Path(run) for run in runs]
    if len(folders) < 2:
        raise fail(f"{len(folders)} runs", "are none to compare", "name two or more")
    problems = Problems()
    places = [folder.resolve() for folder in folders]
    for folder in {one for one, place in zip(folders, places, strict=True) if places.count(place) > 1}:
        problems.add(f"run {str(folder)!r}", "is named twice", "name each run once")
    manifests = [problems.attempt(read_manifest, folder) for folder in folders]
    where = problems.attempt(choose_device, device)
    if isinstance(data, str | Path):
        problems.attempt(existing, data)
    problems.stop()
    assert where is not None
    _alike(folders, manifests)
    if data is None:
        if split is not None or columns:
            given = "split" if split is not None else next(iter(columns))
            raise fail(f"--{given}", "has no effect without --data", "leave it out, or name the data")
        entries = [_kept(folder, name) for folder, name in zip(folders, _names(folders), strict=True)]
    else:
        keep_memory()
        set_threads()
        watcher = watcher or Watcher()
        entries = [
            _asked(folder, name, data, split, where, watcher, columns)
            for folder, name in zip(folders, _names(folders), strict=True)
        ]
    return _compared(*_common(entries, data is not None))


def _names(folders: Sequence[Path]) -> list[str]:
    """The last part of each path, or all of it where two end alike."""
    last = [folder.resolve().name for folder in folders]
    return last if len(set(last)) == len(last) else [str(folder) for folder in folders]


def _alike(folders: Sequence[Path], manifests: Sequence[Any]) -> None:
    """Raises `UserError` for runs of different tasks, kinds of targets or classes."""
    first = manifests[0]["task"]
    primary = _task(manifests[0]).primary
    for folder, manifest in zip(folders[1:], manifests[1:], strict=True):
        task, between = manifest["task"], f"runs {str(folders[0])!r} and {str(folder)!r}"
        if task["name"] != first["name"]:
            rule = f"have different tasks, {first['name']} and {task['name']}"
            raise fail(between, rule, "compare runs of one task")
        if (own := _task(manifest).primary) != primary:
            rule = f"are judged by different figures, {primary} and {own}"
            raise fail(between, rule, "compare runs of targets of one kind")
        if differ := sorted(set(first["spec"]["classes"]) ^ set(task["spec"]["classes"])):
            rule = f"tell different classes apart: {', '.join(map(repr, differ[:5]))} in one of them alone"
            raise fail(between, rule, "compare runs of the same classes")


def _task(manifest: Any) -> Task:
    return TASKS[manifest["task"]["name"]](manifest["task"]["spec"])


def _kept(folder: Path, name: str) -> Entry:
    """With the answers that lie in the run's folder."""
    return Entry(name, folder, _task(read_manifest(folder)), Answers.load(folder), _told(folder))


def _asked(
    folder: Path, name: str, data: Any, split: str | None, where: Any, watcher: Watcher, columns: dict[str, Any]
) -> Entry:
    """With answers to other data."""
    saved = load_model(folder, where)
    try:
        dataset, rows, *_ = samples_of(folder, saved, data, split, watcher, columns)
    except UserError as error:
        raise UserError(*(replace(one, value=f"run {name}: {one.value}") for one in error.problems)) from None
    batches = engine.over_samples(dataset, rows)

    def progress(done: int) -> None:
        watcher.work(f"{name} answers", done, len(rows))

    predictions = engine.predict(saved.net, saved.task, batches, saved.precision, where, progress=progress)
    known = learned.seen(folder, saved.task, dataset, rows)
    answers = Answers(dataset.digests[rows], predictions, dataset.targets[rows], known)
    return Entry(name, folder, saved.task, answers, _told(folder))


def _told(folder: Path) -> dict[str, Any]:
    run = Run(folder)
    told = run.metrics() if run.finished else {}
    disk = run.file(WEIGHTS).stat().st_size
    return {**told, "cost": {**told.get("cost", {}), "disk_bytes": disk}}


def _common(entries: list[Entry], asked: bool) -> tuple[list[Entry], list[str]]:
    """(the runs with the samples that all of them answered and none has learned from, what was left out in words)."""
    first, notes = entries[0], []
    digests = np.unique(first.answers.digests, axis=0)
    kept = np.all([one.answers.places(digests) >= 0 for one in entries], axis=0)
    known = np.any([_known(one, digests) for one in entries], axis=0)
    if (lost := int((kept & known).sum())) > 0:
        notes.append(f"{lost:,} samples are left out, since one of the runs has learned from them or from near copies")
    digests = digests[kept & ~known]
    if len(digests) < FEWEST:
        rule = f"have {len(digests)} samples in common that judge them and that none has learned from, and {FEWEST} are needed"
        remedy = "name other labelled data" if asked else "name labelled data that none has seen with --data"
        raise fail(f"runs {', '.join(one.name for one in entries)}", rule, remedy)
    each = [len(np.unique(one.answers.digests, axis=0)) for one in entries]
    most = max(each)
    if twice := max(len(one.answers.digests) - alone for one, alone in zip(entries, each, strict=True)):
        notes.append(f"{twice:,} samples are the same as others and count once")
    if not asked and len(digests) + lost < most:
        notes.append(f"{len(digests):,} of {most:,} samples judged all of them: only these are compared")
    shared = [one.common(digests) for one in entries]
    same = np.array([_labelled_alike(row) for row in zip(*(one.answers.targets for one in shared), strict=True)])
    if not same.all():
        notes.append(f"{(~same).sum():,} samples are left out, since their labels have changed from run to run")
        shared = [one.common(digests[same]) for one in shared]
    return shared, notes


def _known(entry: Entry, digests: np.ndarray) -> np.ndarray:
    """bool [m]: which samples (uint64 [m, 2]) a run has learned from, or from near copies of as far as it has answered them."""
    places = entry.answers.places(digests)
    near = np.append(entry.answers.leaked, False)[places]
    return near | np.isin(digests[:, 0], learned.digests(learned.read(entry.folder)))


def _labelled_alike(targets: Sequence[Any]) -> bool:
    return all(np.array_equal(targets[0], other) for other in targets[1:])


def _compared(entries: list[Entry], notes: list[str]) -> dict[str, Any]:
    primary, n = entries[0].task.primary, len(entries[0].answers.digests)
    figures = {one.name: one.task.metrics(one.answers.predictions, one.answers.targets, [primary]) for one in entries}
    entries = sorted(entries, key=lambda one: -figures[one.name].get(primary, {"value": -1.0})["value"])
    couples = list(itertools.combinations(entries, 2))
    found = [paired(better.scores, worse.scores) for better, worse in couples]
    adjusted = holm([one.p for one in found])
    pairs = [_pair(better, worse, one, p, n) for (better, worse), one, p in zip(couples, found, adjusted, strict=True)]
    return {
        "verdict": _verdict(entries, pairs, primary, n),
        "metric": primary,
        "samples": n,
        "notes": notes,
        "runs": [one.json(figures[one.name]) for one in entries],
        "pairs": pairs,
    }


def _pair(better: Entry, worse: Entry, found: Paired, adjusted: float, n: int) -> dict[str, Any]:
    told = adjusted <= 1 - LEVEL and (found.low > 0 or found.high < 0)
    more = None if told else needed(found.difference, found.error, n)
    difference = Metric(value=found.difference, low=found.low, high=found.high, n=n)
    names = {"better": better.name, "than": worse.name}
    ours, theirs = better.answers, worse.answers
    also = better.task.differences(ours.predictions, worse.task, theirs.predictions, ours.targets)
    test = {"p": found.p, "adjusted": adjusted, "told": told, "needed": more}
    return {**names, "difference": difference, **test, "also": also}


def _verdict(entries: list[Entry], pairs: list[dict[str, Any]], primary: str, n: int) -> str:
    """The best run against each of the others, in one sentence."""
    best = entries[0].name
    own = [one for one in pairs if one["better"] == best]
    told, noise = ([one for one in own if one["told"] is kind] for kind in (True, False))
    parts = []
    if told:
        each = ", ".join(f"{_points(one['difference'])} than {one['than']}" for one in told)
        parts.append(f"{best} is better by {each}")
    for one in noise:
        more = one["needed"]
        rest = f"{more:,} more samples would be needed to tell" if more else "there is no difference to tell"
        start = "within noise: " if not parts else ""
        parts.append(f"{start}{best} and {one['than']} differ by {_points(one['difference'])}, {rest}")
    return f"{'; '.join(parts)} ({primary.replace('_', ' ')}, {n:,} samples)"


def _points(metric: Metric) -> str:
    """ "1.8 points [0.4, 3.1]"."""
    value, low, high = (100 * metric[end] for end in ("value", "low", "high"))
    return f"{value:.1f} points [{low:.1f}, {high:.1f}]"
