"""`Phase` and `Outcome`: what a strategy asks the engine to do, and what it hears back."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

HEAD = "head"
LEARNED = "learned from validation"
"""The note of an outcome that validation samples had a part in, so that they cannot judge it."""
ADAPTED = "adapted to the target"
"""The note of an outcome that samples of the target had a part in: figures on the source no longer say how good it is there."""
STALE = "head of before"
"""The note of an outcome whose head was not fitted to its features, so that its figures say nothing."""
CUT = "cut by the budget"
"""The note of an outcome whose phase the budget ended before its last step."""
UNBEGUN = "not begun"
"""The note of an outcome whose phase the budget ended before its first step: it is the one that it would have started from."""
CURVE = "curve"
"""The note of an outcome that the cache remembered: its curve, which the log of this run does not have."""
PASS = "pass seconds"
"""The note of a solved outcome: how long it waited for the features, which fitting the head is no part of."""


@dataclass(frozen=True)
class Phase:
    """One stretch of training, as data: what trains, on what, for how long, with which optimizer."""

    name: str
    why: str
    stages: tuple[str, ...]
    """The stages that learn, in order; the head is called "head"."""
    lr: tuple[float, ...]
    """The peak learning rate of each of `stages`; empty for a solved phase."""
    epochs: int = 1
    start: int | None = None
    """The outcome whose weights it starts from; None: the pretrained weights and a fresh head."""
    first: int = 0
    """The boundary it reads: 0 the samples themselves, k cached activations that flow into stage k."""
    keep: int = 0
    """A boundary on the way there whose activations are kept as well, for a phase after it; 0: none."""
    views: int = 0
    """How many fixed views of each sample are cached; 0: no cache, samples augmented afresh in each epoch."""
    solve: bool = False
    """Fit the head in closed form (full-batch, over a path of penalties) instead of by steps."""
    reread: bool = True
    """A solved phase chooses anew what the head reads of the features; else the head reads on what it read before."""
    align: str = ""
    """A solved phase fits the head for the target, by one of `alignments.ALIGNMENTS`, with the penalty of the outcome it starts from."""
    restate: str = ""
    """Whose samples batch norm takes its statistics from before anything learns: "source" or "target"; "": they stay."""
    shares: tuple[float, ...] = ()
    """Class shares of the target, where they were declared."""
    merge: tuple[int, ...] = ()
    """Outcomes whose weights are averaged, instead of anything that learns; of linear heads this averages what they say."""
    bridge: int = 0
    """Rank of a residual linear map of the features, which learns in the head's place and is folded into it; 0: none."""
    blind: bool = False
    """A solved phase picks nothing on validation samples: where they are to judge it against another, and few."""
    batch_size: int = 32
    optimizer: str = "adamw"
    weight_decay: float = 0.02
    momentum: float = 0.9
    schedule: str = "cosine"
    warmup: float = 0.1
    """Share of the steps in which the learning rate rises."""
    clip: float | None = 1.0
    """Largest norm of the gradient."""
    augment: str = "light"
    closing: float = 0.0
    """Share of the steps, from the end, in which samples are no longer mixed, and losses may ask for more (`Task.targets`)."""
    label_smoothing: float = 0.0
    balance: str = "none"
    average: float = 0.0
    """Share of the steps, from the end, over which the weights are averaged; 0: the last weights count."""
    ema: float | None = None
    norm: str = "frozen"
    """Batch norm in stages that learn: "frozen" (pretrained statistics) or "batch" (statistics of the batch, updated)."""
    recentre: bool = False
    """Batch norm in stages that learn begins with the statistics of these samples, the function it computes unchanged, and is judged
    with those of the weights as they are."""
    patience: int | None = None
    everything: bool = False
    """Learn from the validation samples too, which then cannot judge it: for what figures out of fold have proved."""
    adapter: str | None = None
    """What is put beside frozen layers of `stages` and learns in their place (`engine.adapters.ADAPTERS`); merged in the end."""
    rank: int = 8
    """Of the adapter's matrices, where it has any."""
    only: str = ""
    """Of the parameters of `stages` only those called so learn ("bias"), beside the head; "": all."""
    reinit: int = 0
    """How many of the last stages begin from fresh weights instead of pretrained ones."""
    objective: str = "supervised"
    strength: float = 1.0
    """Of what the objective adds to the task's loss."""
    per_class: int = 0
    """Batches are made of groups of about so many samples of a class; 0: of single samples."""
    seed: int = 0

    def json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Outcome:
    """What a finished phase reached on validation. `scores` and `losses`: float64 [n_val], one a sample, for paired comparison."""

    index: int
    phase: str
    value: float
    """The task's primary metric."""
    seconds: float
    epochs: int
    scores: np.ndarray = field(repr=False)
    losses: np.ndarray = field(repr=False)
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def graded(self) -> bool:
        """Whether losses say more than scores do: those of boxes are one less the score."""
        return graded(self.scores, self.losses)

    @property
    def learned_from_validation(self) -> bool:
        return bool(self.notes.get(LEARNED, False))

    @property
    def adapted(self) -> bool:
        return bool(self.notes.get(ADAPTED, False))

    @property
    def judged(self) -> bool:
        """Whether its figures say how good it is."""
        return not any(self.notes.get(note, False) for note in (LEARNED, ADAPTED, STALE))


def graded(scores: np.ndarray, losses: np.ndarray) -> bool:
    """As `Outcome.graded`."""
    return not np.allclose(losses, 1 - scores)


@dataclass(frozen=True)
class Clock:
    """A question a strategy may ask instead of a phase: how many seconds of the budget are left (inf without one)."""


@dataclass(frozen=True)
class Remark:
    """Why a strategy goes on or not, in words; said, and kept in the log. It has no answer."""

    text: str


@dataclass(frozen=True)
class Compare:
    """A question: how the target differs from the source, as the network that outcome `start` left sees both."""

    start: int


@dataclass(frozen=True)
class Audit:
    """A question: which of the target's samples that have a label outcome `start` answers rightly; a tuple of 0 and 1. With `align`, what
    that alignment would, each sample judged by a classifier that has not learned its label."""

    start: int
    align: str = ""


@dataclass(frozen=True)
class Comparison:
    """Its answer, of held-out samples of the source and all of the target (`metrics.mismatch`)."""

    p: float
    """Of the classifier two-sample test."""
    auc: float
    accuracy: float
    """On held-out samples of the source."""
    drop: float
    """Of accuracy that is predicted."""
    least: float
    """Of that, what the numbers of samples do not leave open."""
    kind: str
    """"none", "shares", "looks" or "unknown"."""
    source: tuple[float, ...]
    """Class shares of the source."""
    predicted: tuple[float, ...]
    """Of the predictions for the target."""
    apart: float
    """Balanced accuracy with which a classifier that has not seen a sample tells by the outputs which side it is of."""
    entropy: tuple[float, ...]
    """Mean entropy of the predictions for the target by predicted class, in nats; 0 where there are none."""
    effective: float
    """Share of the source's samples that importance weights would leave effective: under a tenth they say nothing."""

    @property
    def classes(self) -> int:
        return len(self.source)

    def json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, told: dict[str, Any]) -> Comparison:
        """The inverse of `json`."""
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in told.items()
        }
        return cls(**values)


@dataclass(frozen=True)
class Trial:
    """Phases to be judged out of fold before one is chosen; answered by an outcome for each, whose weights are not kept."""

    phases: tuple[Phase, ...]
    """Each starts from the one before, or, where its start is None, from the pretrained weights."""
    folds: int = 3
    new: int = 1
    """How many of the last of them no fold has trained before."""
