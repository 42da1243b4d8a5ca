"""How often a candidate may be expected to be right on samples from elsewhere: a probe on its features, and estimates without labels."""

from __future__ import annotations

from typing import Any

import numpy as np

from acclimate.engine.activations import Pass
from acclimate.engine.dataset import Target
from acclimate.engine.sides import Side
from acclimate.engine.solve import Fold, fit_head
from acclimate.metrics.expected import Labelled, estimates
from acclimate.verbs.entrant import Ready
from acclimate.verbs.reading import few

MOST = 1000
"""Samples of the target that are looked at."""


def expected(ready: Ready, other: Target) -> dict[str, float]:
    """By method the accuracy to be expected on the target, the mean over the labels where a sample has several."""
    job, precision = ready.job, ready.precision
    net, seed = job.net, job.options.seed
    rows = [job.rows(name) for name in ("train", "val")]
    both = np.sort(np.concatenate(rows))
    source = Side.of(Pass(net.backbone, job.dataset, job.store, precision, job.device), both)
    some = other.dataset.shown(job.dataset.inputs, job.store, few(other.rows, MOST, seed))
    theirs = Side.of(Pass(net.backbone, some, job.store, precision, job.device), np.arange(len(some)))
    train, held = (Fold(source.cached.rows(own), job.dataset.targets[own]) for own in rows)
    before = {name: value.clone() for name, value in net.head.state_dict().items()}
    fit_head(job.task, job.task, net.head, train, held, seed)
    how: tuple[Any, ...] = (net, job.task, precision, job.device)
    known = Side(job.dataset, rows[1], source.cached).predictions(*how)
    chances = theirs.predictions(*how)
    net.head.load_state_dict(before)
    each = [
        estimates(Labelled(mine, chosen), others)
        for mine, chosen, others in zip(
            job.task.choices(known),
            job.task.chosen(job.dataset.targets[rows[1]]),
            job.task.choices(chances),
            strict=True,
        )
    ]
    return {name: float(np.mean([one[name] for one in each])) for name in each[0]}
