"""Candidates: every pretrained model that a fit of some data could start from now, and what rules one out before anything is computed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from acclimate.core.errors import Problems, UserError, fail, near
from acclimate.models.card import Card
from acclimate.models.load import check_weights, describe, find, get
from acclimate.models.sources.run import is_run
from acclimate.tasks.task import Task
from acclimate.verbs.checks import check_kind
from acclimate.verbs.folder import RUNS

PERMISSIVE = frozenset(
    ["Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause", "BSD-3", "ISC", "CC0", "CC0-1.0", "Unlicense"]
)
"""Licences that ask for little more than to be named."""
AND = " / "
"""Between the licences of the parts of a model: of the package and of the weights in it."""


@dataclass(frozen=True)
class Model:
    """A model by the name that a fit takes. `named`: the user asked for it."""

    name: str
    card: Card
    weights: Path | None = None
    named: bool = False

    @property
    def fresh(self) -> bool:
        """Whether its weights are random ones."""
        return self.weights is None and self.card.weights == "random"


@dataclass(frozen=True)
class Candidate:
    """A model at one size of its inputs."""

    model: Model
    size: int

    @property
    def title(self) -> str:
        return f"{self.model.name} at {self.size} {self.model.card.preprocessing.unit}"


def named(names: Iterable[str], problems: Problems) -> list[Model]:
    """The models that the user names, as NAME or NAME=FILE of weights; what is wrong with them is added to the problems."""
    found = []
    for said in dict.fromkeys(names):
        name, _, file = said.partition("=")
        made = problems.attempt(describe, name)
        if made is None:
            continue
        path = Path(file) if file else None
        if path is not None:
            problems.attempt(check_weights, name, path)
        elif not made[1].offline:
            problems.attempt(get, name)
        found.append(Model(name, made[1], path, named=True))
    return found


def at_hand(kind: type[Task], first: Sequence[str], asked: Sequence[Model], only: bool) -> list[Model]:
    """Models of the task's kind: those asked for and, unless `only` these are meant, all whose weights are on this machine, the names of
    `first` in front; runs in the folder of runs are among them. Raises `UserError` for a named model of another kind, and for none."""
    for model in asked:
        check_kind(model.name, kind)
    if only:
        return list(asked)
    cards = [card for card in find() if card.offline and card.preprocessing.kind == kind.kind]
    cards += [card for card in _runs() if card.preprocessing.kind == kind.kind]
    known = {model.card.name for model in asked if model.weights is None}
    cards.sort(key=lambda card: first.index(card.name) if card.name in first else len(first))
    found = [*(Model(card.name, card) for card in cards if card.name not in known), *asked]
    if not found:
        raise fail(
            "choose",
            f"finds no model of {kind.kind} on this machine",
            f"acclimate models get {first[0]}, or name some with --models",
        )
    return found


def _runs() -> list[Card]:
    cards = []
    for path in sorted(RUNS.iterdir()) if RUNS.is_dir() else ():
        try:
            if is_run(path):
                cards.append(describe(str(path))[1])
        except UserError:  # of another version, or damaged
            continue
    return cards


def licensed(models: list[Model], licence: str | None) -> list[Model]:
    """Those under a licence: all parts of a model under a permissive one for "permissive", the weights under the one named else. Raises
    `UserError` where none is."""
    if licence is None:
        return models
    kept = [model for model in models if _under(model.card.licence, licence)]
    if not kept:
        there = sorted({model.card.licence for model in models})
        remedy = (
            f"the candidates have: {', '.join(there)}"
            if licence == "permissive"
            else near(licence, ["permissive", *there])
        )
        raise fail(f"--licence {licence}", f"is that of none of the {len(models)} candidates", remedy)
    return kept


def _under(licence: str, wanted: str) -> bool:
    parts = [part.casefold() for part in licence.split(AND)]
    if wanted.casefold() == "permissive":
        return all(part in {one.casefold() for one in PERMISSIVE} for part in parts)
    return wanted.casefold() in (parts[-1], licence.casefold())


@dataclass(frozen=True)
class Limits:
    """What a candidate may cost at most: `latency` in milliseconds of one sample alone, `parameters` in millions."""

    latency: float | None = None
    parameters: float | None = None

    def check(self, problems: Problems) -> None:
        for name, value in (("--max-latency", self.latency), ("--max-params", self.parameters)):
            if value is not None and not value > 0:
                problems.add(f"{name} {value:g}", "must be above 0", "give a number, or leave it out")

    def exceeded(self, parameters: int, latency: float = 0.0) -> dict[str, float]:
        """By limit what it is, where it is above the limit. `latency`: seconds."""
        each = (
            ("--max-latency", self.latency, 1000 * latency),
            ("--max-params", self.parameters, parameters / 1e6),
        )
        return {f"{name} {most:g}": found for name, most, found in each if most is not None and found > most}


NO_LIMITS = Limits()


def nobody(over: list[tuple[str, dict[str, float]]], unseen: int) -> UserError:
    """Every candidate that was looked at is above a limit: which one comes nearest, by limit. `unseen`: how many were not."""
    less = f"; no time was left for {unseen} others" if unseen else ""
    problems = Problems()
    for limit in dict.fromkeys(limit for _, exceeded in over for limit in exceeded):
        near_ = min(((exceeded[limit], title) for title, exceeded in over if limit in exceeded))
        above = sum(limit in exceeded for _, exceeded in over)
        rule = f"is below what {above} of the {len(over)} candidates take{less}"
        problems.add(
            limit,
            rule,
            f"of these {near_[1]} takes least, {near_[0]:.3g}; give more, or name other candidates with --models",
        )
    return UserError(*problems.found)
