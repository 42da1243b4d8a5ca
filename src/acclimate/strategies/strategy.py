"""What a strategy is and knows: an entry with its generator of Phases, and the context it decides in. It never sees data."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from acclimate.core.errors import Problems, fail, near
from acclimate.core.recipe import Options, flag
from acclimate.engine.phase import HEAD, Clock, Outcome, Phase, Remark, Trial
from acclimate.metrics.intervals import paired
from acclimate.objectives import OBJECTIVES
from acclimate.tasks.tuning import PICTURES, Tuning

Plan = Generator[Phase | Trial | Clock | Remark, Any, Outcome]

ROUNDING = 1e-6
"""One sample that differs gains exactly one standard error; rounding must not tell."""
TRAINING = frozenset(
    [
        "epochs",
        "lr",
        "batch_size",
        "optimizer",
        "schedule",
        "augment",
        "balance",
        "label_smoothing",
        "ema",
        "patience",
        "freeze",
        "minutes",
        "objective",
        "strength",
    ]
)
"""The options that say how to train; a strategy that reads none of them must refuse them."""
OWN = frozenset(["rank", "adapter", "reinit"])
"""Those that only a strategy heeds that says so."""


@dataclass(frozen=True)
class StageInfo:
    """A stage as a strategy sees it. `share`: of the operations of a forward pass; `bytes`: of one cached sample that flows into it."""

    name: str
    parameters: int
    share: float
    bytes: int


@dataclass(frozen=True)
class Context:
    """What a strategy decides from. `stages` leaves out nothing; `seconds` estimates a phase on this machine."""

    stages: tuple[StageInfo, ...]
    samples: int
    validation: int
    options: Options
    argument: int | None = None
    """The N of `last:N`."""
    room: float = float("inf")
    """Bytes that cached views may take."""
    seconds: Callable[[Phase], float] = lambda phase: 0.0
    tested: bool = False
    """Whether there are test samples, so that validation samples are free to be learned from in the end."""
    tuning: Tuning = PICTURES
    """What suits the pretrained networks of the task."""
    views: Mapping[str, int] = field(default_factory=lambda: {"none": 1, "light": 4})
    """How many fixed views of a sample each policy of augmentation has, of those that can be cached."""
    features: int = 0
    """Bytes of one cached sample that flows into the head."""
    shares: tuple[float, ...] = ()
    """Class shares of the target, where the user declared them."""

    @property
    def first_free(self) -> int:
        """The first stage that --freeze leaves free to train."""
        return (
            0 if self.options.freeze is None else [stage.name for stage in self.stages].index(self.options.freeze) + 1
        )

    def trial_seconds(self, trial: Trial) -> float:
        """About what a trial costs: every fold trains those of its phases that are new (the cache remembers the others) on all but its
        own share of training and validation samples."""
        more = (trial.folds - 1) * (self.samples + self.validation) / self.samples
        return more * sum(map(self.seconds, trial.phases[-trial.new :]))

    def fitting_views(self, wanted: int, first: int) -> int:
        """How many views of what flows into stage `first`, or into the head behind the last, the cache has room for, at most `wanted`."""
        size = self.stages[first].bytes if first < len(self.stages) else self.features
        return int(min(wanted, self.room // max(1, size * self.samples)))

    def names(self, first: int) -> tuple[str, ...]:
        """The stages from number `first` on that may train, then the head."""
        return (*(stage.name for stage in self.stages[max(first, self.first_free) :]), HEAD)

    def title(self, since: int) -> str:
        """What to call a phase that trains stages from number `since` on."""
        names = self.names(since)
        return "all layers" if len(names) > len(self.stages) else f"from {names[0]} on" if len(names) > 1 else HEAD

    def phase(
        self, why: str, since: int, lr: float, decay: float = 1.0, head: float | None = None, **default: Any
    ) -> Phase:
        """A Phase that trains stages from number `since` on; what the user asked replaces the defaults.

        `lr` is the rate of the last stage, each earlier one gets `decay` times the next; the head gets `head` (default `lr`).
        An asked --lr is the head's, and the others keep their ratio to it. Raises `UserError` for a patience that cannot end.
        """
        stages = self.names(since)
        top = head if head is not None else lr
        scale = self.options.lr / top if self.options.lr is not None else 1.0
        depth = len(stages) - 2
        rates = (*(lr * scale * decay ** (depth - i) for i in range(len(stages) - 1)), top * scale)
        asked = {key: value for key in _PLAIN if (value := getattr(self.options, key)) is not None}
        default = {**self.tuning.defaults, **default}
        if "ema" in asked:
            default["average"] = 0.0
        if default.get("reinit"):  # pretrained statistics say nothing about fresh layers
            default["norm"] = "batch"
        if default.get("adapter") or default.get("only"):  # batch norm is among what stays
            default |= {"norm": "frozen", "recentre": False}
        phase = Phase(self.title(since), why, stages, rates, seed=self.options.seed, **{**default, **asked})
        if phase.patience is not None and phase.patience >= phase.epochs:
            raise fail(
                f"--patience {phase.patience}",
                f"has no effect on a phase of {phase.epochs} epochs: {phase.name!r}",
                f"at most {phase.epochs - 1}, or more --epochs",
            )
        return phase


_PLAIN = (
    "epochs",
    "batch_size",
    "optimizer",
    "schedule",
    "augment",
    "balance",
    "label_smoothing",
    "ema",
    "patience",
    "objective",
    "strength",
    "rank",
)


@dataclass(frozen=True)
class Strategy:
    """An entry of the table. `reads`: the training options it heeds; others, when asked, are an error."""

    name: str
    summary: str
    plan: Callable[[Context], Plan]
    reads: frozenset[str] = TRAINING
    cached: bool = False
    """Trains on cached views: of the ways of augmenting only those that have some make sense."""
    numbered: bool = False
    """Takes a number after a colon: last:2."""


def find(name: str) -> tuple[Strategy, int | None]:
    """(entry, number after the colon). Raises `UserError` for an unknown name or a number out of place."""
    from acclimate.strategies import STRATEGIES

    stem, colon, number = name.partition(":")
    if stem not in STRATEGIES:
        raise fail(f"--strategy {name!r}", "is not a strategy", near(stem, STRATEGIES))
    entry: Strategy = STRATEGIES[stem]
    if entry.numbered:
        if colon and not (number.isdigit() and int(number) > 0):
            raise fail(f"--strategy {name!r}", "must end in a whole number from 1", f"for example {stem}:2")
        return entry, int(number) if colon else 1
    if colon:
        raise fail(f"--strategy {name!r}", "takes no number", f"write {stem}")
    return entry, None


def check(entry: Strategy, argument: int | None, options: Options, stages: list[str] | None = None) -> None:
    """Refuse options that would have no effect, and, where `stages` are known, stages that are not there; all at once."""
    problems = Problems()
    if argument is not None and stages is not None and argument > len(stages):
        problems.add(
            f"--strategy {entry.name}:{argument}",
            f"is more stages than the model has: {len(stages)}",
            f"at most {entry.name}:{len(stages)}; the stages are {', '.join(stages)}",
        )
    for option in sorted((TRAINING | OWN) & set(options.asked()) - entry.reads):
        problems.add(
            f"{flag(option)} {getattr(options, option)}",
            f"has no effect with --strategy {entry.name}",
            f"leave it out, or choose a strategy that reads it: {', '.join(reading(option))}",
        )
    check_objective(options, problems)
    if options.reinit is not None and stages is not None:
        free = len(stages) if options.freeze not in stages else len(stages) - 1 - stages.index(options.freeze)
        if options.reinit > free:
            problems.add(
                f"--reinit {options.reinit}",
                f"is more stages than learn: {free}",
                f"at most {free}; the stages are {', '.join(stages)}",
            )
    if options.ema is not None and options.patience is not None:
        problems.add(
            f"--ema {options.ema} with --patience {options.patience}",
            "exclude each other: one keeps an average, the other the best epoch",
            "leave one out",
        )
    if options.freeze is not None and stages is not None and options.freeze not in stages:
        problems.add(
            f"--freeze {options.freeze!r}", "is not a stage of the model", near(options.freeze, stages, most=40)
        )
    problems.stop()


def check_objective(options: Options, problems: Problems) -> None:
    """Refuse an objective that is not there, that trains no head, or a strength that nothing heeds."""
    name = options.objective or "supervised"
    found = problems.attempt(OBJECTIVES.__getitem__, name)
    if found is None:
        return
    if not found.judges:
        ways = [other for other, one in OBJECTIVES.items() if one.judges]
        problems.add(
            f"--objective {name}", "trains no head", f"one of {', '.join(ways)}; or --strategy {name}, which fits one"
        )
    if options.strength is not None and not found.strong:
        ways = [other for other, one in OBJECTIVES.items() if one.strong]
        problems.add(
            f"--strength {options.strength}",
            f"has no effect with the objective {name}",
            f"leave it out, or choose --objective {' or '.join(ways)}",
        )


def reading(option: str) -> list[str]:
    """The strategies that read an option."""
    from acclimate.strategies import STRATEGIES

    return [name for name, entry in STRATEGIES.items() if option in entry.reads]


def gain(new: Outcome, old: Outcome) -> tuple[float, float]:
    """(mean difference, its standard error) of the per-sample scores on validation, paired by sample."""
    return _paired(new.scores, old.scores)


def loss_gain(new: Outcome, old: Outcome) -> tuple[float, float]:
    """As `gain`, of the per-sample losses: positive where `new` has less loss."""
    return _paired(old.losses, new.losses)


def compared(new: Outcome, old: Outcome, on: str = "on validation") -> str:
    """The gain in words, each figure with its standard error."""
    by_score, noise = gain(new, old)
    told = f"{by_score:+.3f} +-{noise:.3f} {on} against {old.phase}"
    if not new.graded:
        return told
    by_loss, loss_noise = loss_gain(new, old)
    return f"{told}, loss {-by_loss:+.3f} +-{loss_noise:.3f}"


def better(new: Outcome, old: Outcome) -> bool:
    """Whether validation tells the two apart in favour of `new`: by more than one standard error, without more loss beyond noise."""
    by_score, noise = gain(new, old)
    by_loss, loss_noise = loss_gain(new, old)
    return by_score > noise * (1 + ROUNDING) and by_loss > -loss_noise


def _paired(scores: np.ndarray, others: np.ndarray) -> tuple[float, float]:
    if len(scores) < 2:
        return float((scores - others).mean()), float("inf")
    found = paired(scores, others)
    return found.difference, found.error
