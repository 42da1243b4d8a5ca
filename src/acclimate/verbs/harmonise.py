"""Harmonising: is there a way to show samples in which the target looks more like the source? Judged without labels of the target."""

from __future__ import annotations

import functools
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from acclimate.core.errors import fail, near
from acclimate.core.tree import leaves
from acclimate.engine.activations import Pass
from acclimate.engine.dataset import Dataset
from acclimate.engine.precision import Precision
from acclimate.engine.sides import Side
from acclimate.engine.watcher import Watcher
from acclimate.metrics.intervals import paired
from acclimate.metrics.suitability import left_out
from acclimate.metrics.two_samples import classifier_test, gram, kernel, mmd, sides, squared_distances, standardised
from acclimate.strategies import adaptation
from acclimate.tasks.task import Inputs
from acclimate.verbs.job import Job
from acclimate.verbs.reading import few

AUTO, NONE = "auto", "none"
DECISION = "harmonised"
"""What the choice is called among the decisions of a run."""
SEEN, FEWEST, PERMUTATIONS = 128, 40, 199
"""Samples of a side that filters are judged by, at most and at least; permutations of the test that says whether there is anything to
harmonise."""
CHANGED = 0.05
"""A filter that changes no larger share of the samples is not looked at."""
NEARER = 0.5
"""A filter is taken where the two sides come as near as this share of how far apart they are without it, by squared MMD."""
LOST, KEPT = 0.03, 0.5
"""Of classifiers fitted to features of the source: accuracy that a filter on both sides may cost, beyond noise; share of what the
originals have above chance that one for copies alone must leave."""
WIDE = 1.64
"""Standard errors that are noise."""


@dataclass(frozen=True)
class Harmony:
    """`filter`: the chosen one, "" for none. `both`: whether the model sees all samples so, or copies of the source's training samples
    are. `mmd`: squared, between the sides, without and with it. `right`: left-out accuracy of the source likewise."""

    filter: str
    both: bool
    why: str
    mmd: tuple[float, ...] = ()
    right: tuple[float, ...] = ()

    def json(self) -> dict[str, Any]:
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def of(cls, told: dict[str, Any]) -> Harmony:
        """The inverse of `json`."""
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in told.items()
        }
        return cls(**values)


def choice(job: Job, watcher: Watcher) -> Harmony | None:
    """What was asked for, or what features of the pretrained network speak for; None where no target needs harmonising.

    Raises `UserError` for a name that is no filter of these samples."""
    filters = job.dataset.inputs.filters
    asked = job.options.harmonise or (NONE if job.options.adapt == adaptation.NONE else AUTO)
    known = [AUTO, NONE, *filters]
    if asked not in known:
        raise fail(f"--harmonise {asked}", f"is no way to show {job.task.kind}", near(asked, known, most=40))
    if job.target is None or asked == NONE:
        return None
    return judged(job, watcher) if asked == AUTO else Harmony(asked, filters[asked].both, "as asked")


def judged(job: Job, watcher: Watcher) -> Harmony:
    """The filter that brings both sides nearest to each other, where that is near enough and costs the source little."""
    look = Look(job, watcher)
    if look.most < FEWEST:
        return Harmony("", False, f"{look.most} samples of a side are too few to judge filters by")
    ours, theirs = look.features("")
    products = gram(standardised(np.concatenate([ours, theirs])))
    auc = classifier_test(products, sides(len(ours), len(theirs), PERMUTATIONS, job.options.seed)).auc
    if auc.p > adaptation.SURE or auc.value < adaptation.CLEAR:
        return Harmony(
            "", False, f"samples of both sides are alike enough as they are (AUC {auc.value:.2f}, p {auc.p:.2g})"
        )
    apart, plain = discrepancy(ours, theirs), look.right(ours)
    best = Harmony("", False, f"no filter brings the two sides much nearer to each other (squared MMD {apart:.3f})")
    nearest = NEARER * apart
    for name, one in job.dataset.inputs.filters.items():
        if not look.changes(name):
            continue
        mine, others = look.features(name)
        right = look.right(mine)
        both = one.both and harmless(right, plain)
        ways = {False: discrepancy(mine, theirs)} if telling(right, plain, job.task.spec["classes"]) else {}
        ways |= {True: discrepancy(mine, others)} if both else {}
        for where, value in ways.items():
            if value < nearest:
                nearest, figures = value, (float(plain.mean()), float(right.mean()))
                why = f"squared MMD between the two sides {apart:.3f} as they are, {value:.3f} so"
                best = Harmony(name, where, why, (apart, value), figures)
    return best


def discrepancy(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Squared MMD of features float64 [n, D] and [m, D]."""
    products = gram(standardised(np.concatenate([ours, theirs])))
    truth = np.repeat([0.0, 1.0], [len(ours), len(theirs)])[:, None]
    return float(mmd(kernel(squared_distances(products)), truth)[0])


def harmless(right: np.ndarray, plain: np.ndarray) -> bool:
    """Whether a filter may stand in the originals' place: right float64 [n] of each sample with it and without."""
    found = paired(right, plain)
    return found.difference + WIDE * found.error >= -LOST


def telling(right: np.ndarray, plain: np.ndarray, classes: list[str]) -> bool:
    """Whether a filter leaves enough of the classes to learn from besides the originals."""
    chance = 1 / len(classes)
    return float(right.mean()) - chance >= KEPT * (float(plain.mean()) - chance)


class Look:
    """A few samples of both sides, through filters, as the pretrained network sees them at the cheapest size that is worth a look."""

    def __init__(self, job: Job, watcher: Watcher) -> None:
        assert job.target is not None
        self.job, self.watcher, self.done = job, watcher, 0
        task, shown = job.task, job.preprocessing
        size = min(task.resolutions(shown, job.dataset.sizes))
        self.inputs = type(task).inputs(shown.sized(size))
        self.held: dict[str, list[Dataset]] = {}
        self.precision = Precision.measure(job.net, job.example(), job.device, asked=job.options.precision)
        own = np.sort(np.concatenate([job.rows("train"), job.rows("val")]))
        pairs = ((job.dataset, own), (job.target.dataset, job.target.rows))
        self.most = min(SEEN, *(len(rows) for _, rows in pairs))
        self.sides = [(dataset, few(rows, self.most, job.options.seed)) for dataset, rows in pairs]

    def shown(self, name: str) -> list[Dataset]:
        """Either side through a filter, read and prepared once."""
        if name not in self.held:
            inputs: Inputs = self.inputs.filtered(name) if name else self.inputs  # a run may have a filter of its own
            self.held[name] = [dataset.shown(inputs, self.job.store, rows) for dataset, rows in self.sides]
        return self.held[name]

    def changes(self, name: str) -> bool:
        """Whether the model would see anything else."""
        each = zip(self.shown(""), self.shown(name), strict=True)
        differ = [_differ(plain, other, row) for plain, other in each for row in range(len(plain))]
        return float(np.mean(differ)) > CHANGED

    def features(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """float64 [n, D] of either side."""
        self.watcher.work("looking for a way to make both sides alike", self.done, 1 + len(self.inputs.filters))
        self.done += 1
        net = self.job.net
        ours, theirs = (
            Side.of(Pass(net.backbone, one, self.job.store, self.precision, self.job.device), np.arange(len(one)))
            for one in self.shown(name)
        )
        return ours.features(net.head), theirs.features(net.head)

    def right(self, features: np.ndarray) -> np.ndarray:
        """float64 [n]: which of the source's samples a classifier fitted to the others' features has right."""
        dataset, rows = self.sides[0]
        return left_out(standardised(features), self.job.task.chosen(dataset.targets[rows]))


def _differ(one: Dataset, other: Dataset, row: int) -> bool:
    pairs = zip(leaves(one.sample(row)), leaves(other.sample(row)), strict=True)
    return not all(torch.equal(mine, theirs) for mine, theirs in pairs)


def harmonised(job: Job, found: Harmony | None, watcher: Watcher) -> Job:
    """The job with its samples and the target's as the choice says, and copies of the training samples the other way."""
    if found is None or not found.filter:
        return job
    assert job.target is not None
    plain, own = job.dataset.inputs, job.target.dataset
    other = plain.filtered(found.filter)
    read, beside = (other, plain) if found.both else (plain, other)
    progress = functools.partial(watcher.work, "showing samples in another way")
    target, dataset = job.target, job.dataset
    if found.both:
        target, dataset = (
            replace(target, dataset=own.shown(read, job.store, np.arange(len(own)), progress)),
            dataset.shown(read, job.store, np.arange(len(dataset)), progress),
        )
    copies = job.dataset.shown(beside, job.store, job.rows("train"), progress)
    return replace(job, preprocessing=read.preprocessing, dataset=dataset.beside(copies), target=target)


def told(job: Job, found: Harmony) -> str:
    """In one line."""
    if not found.filter:
        return f"samples stay as they are: {found.why}"
    summary = job.dataset.inputs.filters[found.filter].summary
    who = "all samples, wherever the model reads them," if found.both else "copies of the training samples"
    return f"harmonised: {who} are shown {summary} ({found.filter}): {found.why}"
