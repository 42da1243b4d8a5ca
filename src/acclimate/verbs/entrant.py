"""`Entrant`: a candidate on its way through the rounds of `choose`, and what is known of it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from acclimate.engine import costs
from acclimate.engine.phase import Outcome
from acclimate.engine.precision import Precision
from acclimate.metrics.intervals import Paired, paired
from acclimate.verbs.candidates import Candidate
from acclimate.verbs.job import Job
from acclimate.verbs.race import Course

ROUNDS = {
    "sample": "features of a sample, each left out in turn",
    "features": "features of all samples, each left out in turn",
    "probe": "the probe, on validation",
    "short race": "a part of the epochs, on validation",
    "race": "all epochs, on validation",
    "trial": "the strategy's own trial, out of fold",
}
"""Each more telling than the one before."""


@dataclass
class Ready:
    """What a candidate is computed with: its job, on the samples in hand, its arithmetic, and what a fit would run on all."""

    job: Job
    precision: Precision
    course: Course
    as_in_a_fit: bool = False
    """Whether the arithmetic is what a fit would choose, training being timed too."""


@dataclass
class Entrant:
    """A candidate and what is known of it. `rounds`: by name of the round float64 [n], how right it was about each sample."""

    title: str
    candidate: Candidate | None
    """None for the baseline, which no fit starts from."""
    costs: costs.Costs
    training: float
    """Seconds of a fit's phases: by what a forward pass takes, until a race over all epochs was timed."""
    timed: bool = False
    scores: dict[str, float] = field(default_factory=dict)
    reading: str = ""
    """What of the features is read."""
    rounds: dict[str, np.ndarray] = field(default_factory=dict)
    rate: float = 1.0
    """The best multiple of the strategy's learning rates."""
    lr: float | None = None
    """The rate of the head that this is."""
    raced: Outcome | None = field(default=None, repr=False)
    """The best of its short races."""
    expected: dict[str, float] | None = None
    """Accuracy to be expected on the target, by method."""
    how: tuple[Precision, Course] | None = field(default=None, repr=False)
    """The arithmetic that is fast for its forward pass, and what a fit would run."""
    ready: Ready | None = field(default=None, repr=False)

    @property
    def last(self) -> str:
        return next(name for name in reversed(ROUNDS) if name in self.rounds)

    @property
    def pretrained(self) -> bool:
        return self.candidate is not None and not self.candidate.model.fresh

    @property
    def static(self) -> tuple[float, float, float]:
        """What orders models without a look at the data: accuracy at the source where it is stated, parameters, size of the inputs. A
        network without pretraining comes last."""
        if self.candidate is None or not self.pretrained:
            return -1.0, 0.0, 0.0
        return self.candidate.model.card.accuracy or 0.0, float(self.costs.parameters or 0), float(self.candidate.size)

    def against(self, other: Entrant, round_: str) -> Paired:
        """Of the scores in a round that both took part in."""
        return paired(self.rounds[round_], other.rounds[round_])
