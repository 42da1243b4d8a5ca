"""shift: do two data sets differ, does it matter for a classifier, in which way, and which labels would tell most."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from acclimate.core.device import give_back_memory
from acclimate.core.errors import Problems, fail
from acclimate.core.recipe import Options
from acclimate.data.gate import Finding
from acclimate.engine import asking
from acclimate.engine.activations import Pass
from acclimate.engine.dataset import Target
from acclimate.engine.precision import Precision
from acclimate.engine.saved import known_to
from acclimate.engine.sides import Side
from acclimate.engine.solve import Fold, fit_head
from acclimate.engine.watcher import Watcher
from acclimate.metrics.expected import Labelled
from acclimate.metrics.mismatch import LEVEL, Mismatch, mismatch
from acclimate.metrics.two_samples import corrected, differs
from acclimate.tasks.traits import Trait
from acclimate.tracking.notebook import watched
from acclimate.verbs import drawing, shift_files
from acclimate.verbs.job import Job, look, prepare
from acclimate.verbs.reading import few
from acclimate.verbs.target import read_target, two_names

MOST = 3000
"""Samples of a side that are looked at."""
SEEN = 400
"""Samples of a side whose plain properties are looked at."""
NAMED = 8
"""Samples of a side that are named as least like the other."""


@dataclass(frozen=True)
class Difference:
    """A plain property in which two sides differ: the largest distance of its two distributions, and p, corrected for all of them."""

    trait: Trait
    distance: float
    p: float

    def json(self) -> dict[str, Any]:
        ours, theirs = self.trait.middles
        return {
            "name": self.trait.name,
            "group": self.trait.group,
            "source": ours,
            "target": theirs,
            "distance": self.distance,
            "p": self.p,
            "told": self.trait.told,
        }


@dataclass(frozen=True)
class Shift:
    """What there is to say of a source A and a target B."""

    names: tuple[str, str]
    model: str
    classes: list[str]
    found: Mismatch
    differences: list[Difference]
    """Of which the corrected p says that they are no accident; the largest first."""
    outputs: list[tuple[str, float]]
    """Classes whose predicted probability differs, and by how much its distributions do; the largest first."""
    unlike: tuple[list[str], list[str]]
    """The samples of A least like B, and of B least like A, by name."""
    findings: list[Finding]
    asked: list[str]
    """The samples that were asked for, by name."""

    @property
    def verdict(self) -> str:
        return self.found.verdict

    def __str__(self) -> str:
        gate = self.found.gate
        return f"{self.verdict} from {' to '.join(self.names)}: AUC {gate.told.auc.value:.2f}, p {gate.p:.2g}"

    def json(self) -> dict[str, Any]:
        found = self.found
        return {
            "source": self.names[0],
            "target": self.names[1],
            "model": self.model,
            "verdict": self.verdict,
            "tests": found.gate.json(),
            "expected_accuracy": None if found.expected is None else found.expected.json(),
            "shares": None if found.shares is None else found.shares.json(self.classes, found.kind),
            "kind": found.kind,
            "differs": [one.json() for one in self.differences],
            "outputs": [{"class": name, "distance": distance} for name, distance in self.outputs],
            "least_alike": {"source": self.unlike[0], "target": self.unlike[1]},
            "asked": self.asked,
            "findings": [vars(finding) for finding in self.findings],
        }


@watched
def shift(
    source: Any,
    target: Any,
    *,
    out: str | Path | None = None,
    ask: int | None = None,
    watcher: Watcher | None = None,
    **asked: Any,
) -> Shift:
    """Compare labelled data with samples from elsewhere, whose labels are not read.

    `source`, `target`: as the data of `fit`. `out`: a folder for shift.json, a picture of both sides (clouds.svg, clouds.png) and
    ask.csv. `ask`: of how many target samples the labels would tell most; they are written to ask.csv, with an empty column of labels.
    `asked`: fields of `acclimate.core.recipe.Options` that say how data are read, which model looks at them, and where.

    Nothing is fine-tuned: the model is frozen, and a probe on its features stands for the classifier. At most `MOST` samples of a side
    are looked at. Raises `UserError` for mistakes.
    """
    watcher, problems = watcher or Watcher(), Problems()
    options = Options.check({**asked, "strategy": "probe"}, problems)
    look(source, options, problems)
    folder = None if out is None else problems.attempt(drawing.free, Path(out))
    if ask is not None and ask < 1:
        problems.add(f"--ask {ask}", "must be 1 or more", "say how many samples you can label")
    if ask is not None and out is None:
        problems.add(f"--ask {ask}", "has nowhere to be written to", "name a folder with --out")
    problems.stop()
    job = prepare(source, options, watcher)
    if len(job.task.chosen(job.dataset.targets[:1])) != 1:
        rule = f"is {job.task.name.replace('_', ' ')} with {job.task.about}, and shift is for one class a sample"
        raise fail(job.dataset.table.source, rule, "give data with a class a sample")
    other = read_target(target, job, watcher)
    watcher.work("measuring what is fast on this machine", 0, 1)
    precision = job.looking()
    give_back_memory()
    ours, theirs = _sides(job, other, precision, watcher)
    features = ours.features(job.net.head), theirs.features(job.net.head)
    how = job.net, job.task, precision, job.device
    answers = ours.predictions(*how), theirs.predictions(*how)
    new = np.flatnonzero(~known_to(job.card.name, job.task, job.dataset, ours.rows))
    found = _compared(job, ours.take(new), (features[0][new], features[1]), (answers[0][new], answers[1]))
    first, second = new[found.gate.places[0]], found.gate.places[1]
    n = len(first)
    scores = found.gate.told.scores
    chosen = asking.pick(answers[1], ask, options.seed) if ask else np.zeros(0, dtype=int)
    names = two_names(source, target)
    result = Shift(
        names,
        job.card.name,
        job.task.spec["classes"],
        found,
        _differences(ours, theirs, job, watcher),
        _outputs(job, answers),
        (
            _named(ours, first[np.argsort(scores[:n], kind="stable")]),
            _named(theirs, second[np.argsort(-scores[n:], kind="stable")]),
        ),
        [*other.findings, *_fewer(ask or 0, len(theirs.rows), names[1])],
        [theirs.dataset.table.name(int(theirs.rows[place])) for place in chosen],
    )
    if folder is not None:
        shift_files.write(folder, result, features[0][first], features[1][second])
        if ask:
            shift_files.write_asked(folder, theirs, chosen, job.task, answers[1])
    job.store.trim()
    return result


def _fewer(ask: int, there: int, name: str) -> list[Finding]:
    """That more samples were asked for than are looked at."""
    what = f"{ask:,} samples to be labelled were asked for, and {there:,} of {name} are looked at"
    done = "all of these are in ask.csv"
    return [Finding("fewer than asked for", "note", what, [], ask - there, done)] if ask > there else []


def _sides(job: Job, other: Target, precision: Precision, watcher: Watcher) -> tuple[Side, Side]:
    """Both sides with their features, once the head is fitted to those of the source. Test samples of the source are not looked at."""
    rows = [few(job.rows(name), MOST, job.options.seed) for name in ("train", "val")]
    both = np.sort(np.concatenate(rows))
    works = [
        Pass(job.net.backbone, dataset, job.store, precision, job.device, _progress(watcher, what))
        for dataset, what in ((job.dataset, "reading the source"), (other.dataset, "reading the target"))
    ]
    ours = Side.of(works[0], both)
    theirs = Side.of(works[1], few(other.rows, MOST, job.options.seed))
    train, held = (Fold(ours.cached.rows(own), job.dataset.targets[own]) for own in rows)
    fit_head(job.task, job.task, job.net.head, train, held, job.options.seed)
    return ours, theirs


def _progress(watcher: Watcher, what: str) -> Callable[[int, int], None]:
    return lambda done, of: watcher.work(what, done, of)


def _compared(job: Job, ours: Side, features: tuple[np.ndarray, ...], answers: tuple[np.ndarray, ...]) -> Mismatch:
    """Of samples that the model does not come from: those it would know, and so tell from others."""
    targets = job.dataset.targets[ours.rows]
    held = np.isin(ours.rows, job.rows("val"))
    if held.sum() < 2:
        raise fail(job.card.name, "learned from the samples that would judge it", "give another model, or other data")
    each = zip(job.task.choices(answers[0][held]), job.task.chosen(targets[held]), strict=True)
    known = [Labelled(chances, chosen) for chances, chosen in each]
    (classes, *_) = job.task.chosen(targets)
    return mismatch(features[0], classes, features[1], known, job.task.choices(answers[1]), job.options.seed)


def _differences(ours: Side, theirs: Side, job: Job, watcher: Watcher) -> list[Difference]:
    """What a person would see, tested one by one."""
    watcher.work("looking at the samples", 0, 1)
    raws = [
        [side.dataset.table.raw(int(row)) for row in few(side.rows, SEEN, job.options.seed)] for side in (ours, theirs)
    ]
    traits = job.dataset.inputs.traits(raws[0], raws[1], 2)
    tested = [differs(trait.ours, trait.theirs) for trait in traits]
    p = corrected([one.p for one in tested])
    found = [Difference(trait, one.value, sure) for trait, one, sure in zip(traits, tested, p, strict=True)]
    return sorted((one for one in found if one.p <= LEVEL), key=lambda one: -one.distance)


def _outputs(job: Job, answers: tuple[np.ndarray, np.ndarray]) -> list[tuple[str, float]]:
    """As `_differences`, of the probability of each class or label (black box shift detection; Rabanser et al., 2019)."""
    tested = [differs(mine, other) for mine, other in zip(answers[0].T, answers[1].T, strict=True)]
    p = corrected([one.p for one in tested])
    each = zip(job.task.spec["classes"], tested, p, strict=True)
    return sorted(((name, one.value) for name, one, sure in each if sure <= LEVEL), key=lambda one: -one[1])


def _named(side: Side, places: np.ndarray) -> list[str]:
    return [side.dataset.table.name(int(row)) for row in side.rows[places[:NAMED]]]
