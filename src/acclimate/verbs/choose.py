"""choose: which pretrained model to start from, at which size of its inputs, by features, costs and short races on the data themselves."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from acclimate.core.errors import Problems, fail
from acclimate.core.recipe import Options
from acclimate.data.gate import Finding
from acclimate.engine.dataset import Target
from acclimate.engine.watcher import Watcher
from acclimate.metrics.front import front, ranks
from acclimate.metrics.intervals import Paired, of_mean, wilson
from acclimate.metrics.metric import Metric
from acclimate.tasks import resolve
from acclimate.tracking.notebook import watched
from acclimate.verbs import choose_files, drawing
from acclimate.verbs.candidates import NO_LIMITS, Limits, Model, at_hand, licensed, named
from acclimate.verbs.entrant import ROUNDS, Entrant
from acclimate.verbs.expecting import expected
from acclimate.verbs.field import Budget, Field
from acclimate.verbs.job import Job, look, prepare
from acclimate.verbs.reading import read_data
from acclimate.verbs.target import read_target, source_name

ROUNDING = 1e-6
"""One sample that differs is exactly one standard error; rounding must not tell."""
TELLING = ("features", "probe", "short race", "race", "trial")
"""The rounds that can tell a candidate to be worse than the leader: a sample of the data is too small to."""


@dataclass(frozen=True)
class Judged:
    """What an entrant amounts to beside the leader. `behind`: in its last round, paired by sample; `quality`: what the leader reached in
    the last round of all, less that, with the interval of a figure from as many samples; of one without that round a sample less than
    any that took part in it and cannot be told from the leader, at most."""

    entrant: Entrant
    quality: Metric
    behind: Paired | None
    within: bool
    """Whether it cannot be told from the leader: by more than a standard error it is worse in no telling round, nor better in the last."""
    on_front: bool
    static: int
    """Its place in the static order."""

    def json(self) -> dict[str, Any]:
        one, behind = self.entrant, self.behind
        model = one.candidate.model if one.candidate else None
        return {
            "title": one.title,
            "model": model.name if model else None,
            "weights": str(model.weights) if model and model.weights else None,
            "size": one.candidate.size if one.candidate else None,
            "quality": self.quality,
            "judged_by": ROUNDS[one.last],
            "behind": behind and {"difference": behind.difference, "low": behind.low, "high": behind.high},
            "within_noise": self.within,
            "front": self.on_front,
            "scores": one.scores,
            "rounds": {name: float(scores.mean()) for name, scores in one.rounds.items()},
            "static_rank": self.static,
            "source_accuracy": model.card.accuracy if model else None,
            "expected_on_target": one.expected,
            "costs": {**one.costs.json(), "training_seconds": one.training, "training_timed": one.timed},
            "licence": model.card.licence if model else "-",
            "source": model.card.weights if model else "fitted to these data alone",
        }


@dataclass(frozen=True)
class Choice:
    """What `choose` found. `candidates`: best quality first; `metric`: what quality is."""

    data: str
    target: str | None
    metric: str
    samples: dict[str, int]
    candidates: list[Judged]
    recommended: Judged
    why: str
    """The recommendation in a sentence."""
    notes: list[str]
    findings: list[Finding]
    seconds: float

    @property
    def front(self) -> list[Judged]:
        """What nothing beats in quality and in seconds a sample alike, cheapest first."""
        return sorted((one for one in self.candidates if one.on_front), key=lambda one: one.entrant.costs.each)

    @property
    def settings(self) -> dict[str, Any]:
        """What to ask a fit for: model and size, and weights or a learning rate where it takes them."""
        chosen = self.recommended.entrant
        assert chosen.candidate is not None
        model = chosen.candidate.model
        asked: dict[str, Any] = {
            "model": model.name,
            "weights": model.weights and str(model.weights),
            "size": chosen.candidate.size,
        }
        asked["lr"] = chosen.lr if chosen.rate != 1 else None
        return {name: value for name, value in asked.items() if value is not None}

    def json(self) -> dict[str, Any]:
        return {
            "data": self.data,
            "target": self.target,
            "metric": self.metric,
            "samples": self.samples,
            "candidates": [one.json() for one in self.candidates],
            "front": [one.entrant.title for one in self.front],
            "within_noise": [one.entrant.title for one in self.candidates if one.within],
            "recommended": {"title": self.recommended.entrant.title, **self.settings, "why": self.why},
            "notes": self.notes,
            "findings": [vars(finding) for finding in self.findings],
            "seconds": round(self.seconds, 1),
        }


@watched
def choose(
    data: Any,
    *,
    models: str | Sequence[str] = (),
    only: bool = False,
    minutes: float | None = None,
    max_latency: float | None = None,
    max_params: float | None = None,
    licence: str | None = None,
    target: Any = None,
    out: str | Path | None = None,
    watcher: Watcher | None = None,
    **asked: Any,
) -> Choice:
    """Say which pretrained model a fit of these data should start from, and at which size of its inputs.

    `data`: as of `fit`. `models`: names beside those whose weights are on this machine, each also as NAME=FILE of weights (a list, or
    joined by commas); with `only` these alone. `minutes`: about how long it may take; what there is no time for is left out and told.
    `max_latency`: milliseconds of one sample alone, `max_params`: millions, that a candidate may take at most. `licence`: "permissive",
    or one by name. `target`: samples from elsewhere, whose labels are not read; of candidates that cannot be told apart the one is taken
    that is expected to be right there most often. `out`: a folder for choose.json and a picture of the front. `asked`: fields of
    `acclimate.core.recipe.Options`; `strategy` says what is raced, `size` leaves one size.

    Test samples are not looked at. All but what is timed follows `seed`. Raises `UserError` for mistakes.
    """
    began, watcher, problems = time.monotonic(), watcher or Watcher(), Problems()
    options, limits = Options.check(asked, problems), Limits(max_latency, max_params)
    limits.check(problems)
    if minutes is not None and not minutes > 0:
        problems.add(f"--minutes {minutes:g}", "must be above 0", "say how long it may take")
    if options.model is not None:
        problems.add(f"--model {options.model}", "is what is to be found", "name candidates with --models")
    names = [name.strip() for name in (models.split(",") if isinstance(models, str) else models)]
    own = named(filter(None, names), problems)
    if only and not any(names):
        problems.add("--only", "leaves no candidate", "name some with --models")
    look(data, options, problems)
    folder = None if out is None else problems.attempt(drawing.free, Path(out))
    problems.stop()
    budget = Budget(minutes, began)
    found = among(data, options, budget, watcher, own=own, only=only, licence=licence, limits=limits, target=target)
    if folder is not None:
        choose_files.write(folder, found)
    return found


def among(
    data: Any,
    options: Options,
    budget: Budget,
    watcher: Watcher,
    *,
    own: Sequence[Model] = (),
    only: bool = False,
    licence: str | None = None,
    limits: Limits = NO_LIMITS,
    target: Any = None,
) -> Choice:
    """`choose`, once what is cheap to see was checked. `own`: the models that the user named."""
    table = read_data(data, options)
    kind = resolve(table, options.task)
    candidates = licensed(at_hand(kind, kind.models(table).names, own, only), licence)
    base = _base(data, options, candidates[0], watcher)
    other = None if target is None else _other(target, base, watcher)
    field = Field(base, budget, limits, watcher)
    field.enter(field.strangers(candidates))
    field.gather()
    field.race()
    found = _found(data, target, field, other, time.monotonic() - budget.began)
    base.store.trim()
    return found


def _base(data: Any, options: Options, first: Model, watcher: Watcher) -> Job:
    """The data, read, checked and split as a fit would."""
    said = {"model": first.name, "weights": first.weights and str(first.weights)}
    job = prepare(data, Options.check({**options.asked(), **said}), watcher)
    job.options = options
    return job


def _other(target: Any, base: Job, watcher: Watcher) -> Target:
    if not base.task.chosen(base.dataset.targets[:1]):
        rule = f"is for classes, and {base.dataset.table.source} is {base.task.name.replace('_', ' ')}"
        raise fail(f"--target {source_name(target)}", rule, "leave it out")
    return read_target(target, base, watcher)


def _found(data: Any, target: Any, field: Field, other: Target | None, seconds: float) -> Choice:
    base = field.base
    judged = judge(field.entrants)
    usable = finalists(judged)
    if other is not None:
        for one in usable:
            one.entrant.expected = expected(field.prepared(one.entrant), other)
    recommended = recommend(usable)
    return Choice(
        source_name(data),
        None if target is None else source_name(target),
        base.task.primary,
        {name: len(base.rows(name)) for name in ("train", "val", "test")},
        judged,
        recommended,
        _sentence(recommended, judged),
        field.told,
        [*base.findings, *([] if other is None else other.findings)],
        seconds,
    )


# --- what the rounds amount to


def judge(entrants: Sequence[Entrant]) -> list[Judged]:
    """All beside the one that did best in the last round, best first."""
    last = next(name for name in reversed(ROUNDS) if any(name in one.rounds for one in entrants if one.candidate))
    leader = max(
        (one for one in entrants if last in one.rounds and one.candidate), key=lambda one: one.rounds[last].mean()
    )
    top = float(leader.rounds[last].mean())
    behinds = [None if one is leader else one.against(leader, _common(one, leader)) for one in entrants]
    level = [one is leader or (_level(one, leader) and not _ahead(one, leader, last)) for one in entrants]
    values = [max(0.0, top + behind.difference) if behind else top for behind in behinds]
    # what dropped out before is not known to be as good as what went on and is level
    least = min(value for one, value, same in zip(entrants, values, level, strict=True) if same and last in one.rounds)
    most = max(0.0, least - 1 / len(leader.rounds[last]))
    values = [value if last in one.rounds else min(value, most) for one, value in zip(entrants, values, strict=True)]
    on_front = set(front(values, [one.costs.each for one in entrants]))
    places = ranks([_rank(one, entrants) for one in entrants])
    found = [
        Judged(one, _metric(one, value), behind, level[place], place in on_front, places[place])
        for place, (one, value, behind) in enumerate(zip(entrants, values, behinds, strict=True))
    ]
    return sorted(found, key=lambda one: (-one.quality["value"], one.entrant.costs.each))


def _common(one: Entrant, other: Entrant) -> str:
    return next(name for name in reversed(ROUNDS) if name in one.rounds and name in other.rounds)


def _rank(one: Entrant, entrants: Sequence[Entrant]) -> float:
    """Its place from below in the static order."""
    return float(sum(other.static < one.static for other in entrants))


def _level(one: Entrant, leader: Entrant) -> bool:
    rounds = [name for name in TELLING if name in one.rounds and name in leader.rounds]
    told = [one.against(leader, name) for name in rounds]
    return bool(rounds) and all(-each.difference <= each.error * (1 + ROUNDING) for each in told)


def _ahead(one: Entrant, leader: Entrant, last: str) -> bool:
    """Whether it is told to be better than the leader; only the baseline can be, which no fit starts from and which so does not lead."""
    if last not in one.rounds:
        return False
    told = one.against(leader, last)
    return told.difference > told.error * (1 + ROUNDING)


def _metric(one: Entrant, value: float) -> Metric:
    """With the width of the interval of its last round."""
    scores = one.rounds[one.last]
    if np.isin(scores, (0, 1)).all():
        low, high = wilson(value, len(scores))
    else:
        mean, below, above = of_mean(scores)
        low, high = value - (mean - below), value + (above - mean)
    return Metric(value=value, low=low, high=high, n=len(scores))


def finalists(judged: Sequence[Judged]) -> list[Judged]:
    """Those that went as far as the leader and cannot be told from it; networks without pretraining only where there is nothing else."""
    there = [one for one in judged if one.entrant.candidate is not None]
    leader = next(one for one in there if one.behind is None)
    usable = [one for one in there if one.within and leader.entrant.last in one.entrant.rounds]
    return [one for one in usable if one.entrant.pretrained] or usable


def recommend(usable: Sequence[Judged]) -> Judged:
    """Of what cannot be told from the best: the highest expected accuracy on the target, where there is one; else the cheapest."""
    return min(usable, key=lambda one: (-_promised(one), one.entrant.costs.each))


def _promised(one: Judged) -> float:
    expected = one.entrant.expected
    return 0.0 if expected is None else float(np.mean(list(expected.values())))


def _sentence(chosen: Judged, judged: Sequence[Judged]) -> str:
    quality, costs = chosen.quality, chosen.entrant.costs
    best = next(one for one in judged if one.entrant.candidate is not None)
    cheap = next((one for one in judged if one.entrant.candidate is None), None)
    ahead = cheap is not None and cheap.quality["value"] > best.quality["value"]
    figure = f"{quality['value']:.3f} [{quality['low']:.3f}, {quality['high']:.3f}]"
    by = ROUNDS[chosen.entrant.last]
    begin = f"Start from {chosen.entrant.title}: {figure} by {by}, at {1000 * costs.each:.2g} ms a sample"
    if chosen.entrant.expected is not None:
        also = f"; of what cannot be told from the best it is expected to be right most often on the target ({_promised(chosen):.3f})"
    elif chosen is best or chosen.behind is None:
        also = ", the best to start from" if ahead else ", the best of all"
    else:
        also = (
            f", which cannot be told from {best.entrant.title} ({1000 * best.entrant.costs.each:.2g} ms) and costs less"
        )
    beaten = ""
    if cheap is not None and (ahead or cheap.within):
        told = "cannot be told from it either" if cheap.within else "without any pretrained model does better"
        beaten = f"; {cheap.entrant.title} {told}: {cheap.quality['value']:.3f}"
    return f"{begin}{also}{beaten}."
