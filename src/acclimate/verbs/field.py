"""`Field`: candidates on their way through the rounds of `choose`: costs, features of a sample, features of all, races."""

from __future__ import annotations

import functools
import math
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from acclimate.core.device import give_back_memory
from acclimate.core.errors import UserError, fail
from acclimate.core.seeds import generator
from acclimate.engine import costs, estimate
from acclimate.engine.activations import Pass
from acclimate.engine.precision import Precision
from acclimate.engine.saved import known_to
from acclimate.engine.watcher import Watcher
from acclimate.metrics.suitability import left_out, suitability
from acclimate.metrics.two_samples import standardised
from acclimate.strategies.strategy import better
from acclimate.verbs.candidates import Candidate, Limits, Model, nobody
from acclimate.verbs.entrant import Entrant, Ready
from acclimate.verbs.job import VIEW_SHARE, Job
from acclimate.verbs.race import RATES, Course, out_of_fold, race

SAMPLE = 300
"""Samples whose features every candidate is judged by."""
MOST = 2000
"""Samples whose features those are judged by that stay: to leave each of them out takes the cube of their number."""
STAY, RACE, FINAL = 4, 3, 2
"""Candidates at most whose features of all samples are computed; that race; that race over all epochs."""
THIRD = 3
"""Of so many candidates one stays, two at least: choosing is to cost a fraction of fitting all of them."""
SHORT = 0.25
"""Share of the epochs of the short race."""
ENTERING = 0.5
"""Share of a budget after which no further candidate is looked at, where features do not judge: races have to."""


@dataclass(frozen=True)
class Budget:
    """A share of so many minutes from `began` (time.monotonic()) on; None: without end."""

    minutes: float | None
    began: float
    share: float = 1.0

    def left(self, share: float = 1.0) -> float:
        """Seconds of this share of it."""
        whole = math.inf if self.minutes is None else 60 * self.share * self.minutes
        return share * whole - (time.monotonic() - self.began)

    def short(self, what: str, needed: float) -> UserError:
        """That what no candidate can do without takes so many seconds more."""
        spent = time.monotonic() - self.began
        minutes = math.ceil((spent + needed) / (6 * self.share)) / 10
        part = "" if self.share == 1 else f", and choosing may take {self.share:.0%} of it"
        rule = f"is too short for one candidate: {what} takes about {needed:.1f} s after {spent:.0f} s of reading and measuring{part}"
        remedy = f"give about {minutes:g} or more; what was computed stays in the cache"
        return fail(f"--minutes {self.minutes:g}", rule, remedy)


class Field:
    """Test samples are never among the rows. `told`: what there is to say in the end."""

    def __init__(self, base: Job, budget: Budget, limits: Limits, watcher: Watcher) -> None:
        self.base, self.budget, self.limits, self.watcher = base, budget, limits, watcher
        self.rows = np.sort(np.concatenate([base.rows("train"), base.rows("val")]))
        self.entrants: list[Entrant] = []
        self.racing: list[Entrant] = []
        self.told: list[str] = []
        self.pace = 1.0
        """How many times as long as was thought the last step took: others may use the machine, and the clock goes on."""
        self.arithmetic: dict[str, Precision] = {}
        """Of each model, measured at the first of its sizes."""

    # --- who takes part, and what it costs

    def strangers(self, models: list[Model]) -> list[Model]:
        """Without runs that have learned from the samples that would judge them. Raises `UserError` where no other is left."""
        task, dataset = self.base.task, self.base.dataset
        known = [model.name for model in models if known_to(model.name, task, dataset, self.rows).any()]
        left = [model for model in models if model.name not in known]
        if known:
            self.told.append(f"left out, having learned from samples that judge here: {', '.join(known)}")
        if not left:
            raise fail(", ".join(known), "learned from the samples that would judge it", "name other candidates")
        return left

    def enter(self, models: list[Model]) -> None:
        """Measure what each costs, leave out what is above a limit, and judge the others by features of the same samples.

        Raises `UserError` where nothing is left, or the budget is too short for one."""
        wanted = [Candidate(model, size) for model in models for size in self._sizes(model)]
        sample, over, unseen = self._few(self.rows, SAMPLE), [], list[Candidate]()
        for number, candidate in enumerate(wanted):
            if number and self.budget.left(self._entering()) <= 0:
                unseen = wanted[number:]
                break
            self.watcher.work("looking at candidates", number, len(wanted))
            exceeded = self._entered(candidate, sample)
            if exceeded:
                over.append((candidate.title, exceeded))
            give_back_memory()
        if not self.entrants:
            raise nobody(over, len(unseen))
        if unseen:
            self._unseen(*(one.title for one in unseen))
        if over:
            self.told.append(f"above a limit: {', '.join(title for title, _ in over)}")

    def _sizes(self, model: Model) -> tuple[int, ...]:
        """The asked size, else those that the task finds worth a look; none where a model that nobody named does not read the asked one."""
        task, dataset, asked = self.base.task, self.base.dataset, self.base.options
        try:
            shown = task.suit(model.card.preprocessing, dataset.table, asked)
        except UserError:
            if model.named:
                raise
            self.told.append(f"left out, for it does not read --size {asked.size}: {model.name}")
            return ()
        return (shown.size,) if asked.size else task.resolutions(shown, dataset.sizes)

    def _entering(self) -> float:
        """The share of the budget for looking at candidates."""
        return ENTERING if self.entrants and not self.entrants[0].rounds else 1.0

    def _entered(self, candidate: Candidate, sample: np.ndarray) -> dict[str, float]:
        """What of it is above a limit, by limit; where nothing is, it takes part."""
        began, own = time.monotonic(), time.thread_time()
        job = self._job(candidate, sample)
        parameters = sum(value.numel() for value in job.net.parameters())
        if exceeded := self.limits.exceeded(parameters):
            return exceeded
        precision = self._arithmetic(job)
        speed = estimate.measure(job.net, job.example(), precision, job.device)
        self._enough_for_one(candidate, len(sample) * sum(speed.forward))
        whole = replace(job, dataset=self.base.dataset)
        course = Course.of(whole, speed, self._room())
        found = costs.measure(job.net, job.example, job.answering(precision), job.device)
        if exceeded := self.limits.exceeded(parameters, found.latency):
            return exceeded
        if torch.get_num_threads() == 1:  # what was measured is this thread's own time
            self.pace = max(1.0, (time.monotonic() - began) / (time.thread_time() - own))
        entrant = Entrant(candidate.title, candidate, found, course.seconds, how=(precision, course))
        entrant.ready = Ready(job, precision, course)
        self._by_sample(entrant)
        entrant.ready = None
        self.entrants.append(entrant)
        return {}

    def _arithmetic(self, job: Job) -> Precision:
        name = job.card.name
        if name not in self.arithmetic:
            self.arithmetic[name] = job.looking()
        return self.arithmetic[name]

    def _enough_for_one(self, candidate: Candidate, needed: float) -> None:
        if not self.entrants and needed > self.budget.left():
            raise self.budget.short(f"to look at {candidate.title}", needed)

    def _job(self, candidate: Candidate, rows: np.ndarray | None = None) -> Job:
        model = candidate.model
        return self.base.moved(model.name, model.weights, candidate.size, rows, self.watcher)

    def _room(self) -> int:
        return int(self.base.store.room() * VIEW_SHARE)

    def _few(self, rows: np.ndarray, most: int) -> np.ndarray:
        """At most so many of the rows, as many of each kind as its share, in order."""
        if len(rows) <= most:
            return rows
        strata = self.base.task.strata(self.base.dataset.table.take(rows).column("target"))
        draw = generator("choose", self.base.options.seed).permutation(len(rows))
        turn = np.zeros(len(rows))  # of its kind, the share of those drawn before it
        for kind in np.unique(strata):
            own = draw[strata[draw] == kind]
            turn[own] = (np.arange(len(own)) + 0.5) / len(own)
        return np.sort(rows[draw[np.argsort(turn[draw], kind="stable")[:most]]])

    def _unseen(self, *titles: str) -> None:
        self.told.append(f"no time was left for {', '.join(titles)}")

    # --- by features

    def _by_sample(self, entrant: Entrant) -> None:
        assert entrant.ready is not None
        job = entrant.ready.job
        if not job.task.tuning(job.net.head, job.preprocessing).solved:
            return  # features do not say how good it is
        began = time.monotonic()
        features, head = self._features(entrant, np.arange(len(job.dataset))), job.net.head
        self.pace = max(1.0, (time.monotonic() - began) / (len(job.dataset) * entrant.costs.each))
        readings = [(name, functools.partial(_read, head, features, name)) for name in head.readings]  # type: ignore[union-attr]
        found = suitability(readings, job.task.chosen(job.dataset.targets))
        entrant.scores, entrant.reading, entrant.rounds["sample"] = found.scores, found.reading, found.right

    def _features(self, entrant: Entrant, rows: np.ndarray, some: np.ndarray | None = None) -> Any:
        """What flows into the head, of `some` of the rows; all of them are computed. Of all samples what the phases of a fit would keep on
        the way is kept as well, so that none of them makes the same pass again."""
        assert entrant.ready is not None
        job, whole = entrant.ready.job, rows is self.rows
        kept = [phase.keep for phase in entrant.ready.course.phases if whole and phase.solve and phase.keep]

        def progress(done: int, of: int) -> None:
            self.watcher.work(f"features of {entrant.title}", done, of)

        work = Pass(job.net.backbone, job.dataset, job.store, entrant.ready.precision, job.device, progress)
        return work.bring(rows, len(job.net.backbone.stages), by=kept).rows(rows if some is None else some)

    def gather(self) -> None:
        """Those that stay, with all samples: judged by the features of these, and by the probe itself where that is solved."""
        scored = [one for one in self.entrants if "sample" in one.rounds]
        most = min(STAY, max(FINAL, math.ceil(len(self.entrants) / THIRD)))
        stay = self._best("sample", most, known=True) if scored else sorted(self.entrants, key=_by_cost)[:most]
        for entrant in stay:
            if entrant is not stay[0] and self.budget.left() < self.pace * len(self.rows) * entrant.costs.each:
                self._unseen(f"all samples of {entrant.title}")
            else:
                self.prepared(entrant)
                if scored:
                    self._by_features(entrant)
        self.racing = self._best("features", RACE) if scored else [one for one in stay if one.ready]
        for entrant in stay:
            if entrant not in self.racing:
                entrant.ready = None
        for entrant in self.racing:
            if self.budget.left() <= 0 and entrant.rounds:
                self._unseen(f"the probe of {entrant.title}")
                continue
            if scored:
                self._as_in_a_fit(entrant)
                self._probe(entrant)
        if self.budget.left() > 0 and any("probe" in one.rounds for one in self.entrants):
            self._baseline()

    def prepared(self, entrant: Entrant) -> Ready:
        """With all samples, in the arithmetic that is fast for a forward pass, which is most often the one that a fit would choose."""
        assert entrant.candidate is not None and entrant.how is not None
        if entrant.ready is None:
            precision, course = entrant.how
            entrant.ready = Ready(self._job(entrant.candidate), precision, course)
        return entrant.ready

    def _as_in_a_fit(self, entrant: Entrant) -> None:
        """In the arithmetic that a fit would choose, so that it finds what is computed here. Only for those that race: to time training
        takes a minute where a network is large."""
        job = self.prepared(entrant).job
        precision = Precision.measure(job.net, job.example(), job.device, asked=job.options.precision)
        speed = estimate.measure(job.net, job.example(), precision, job.device)
        entrant.ready = Ready(job, precision, Course.of(job, speed, self._room()), as_in_a_fit=True)
        entrant.training = entrant.ready.course.seconds

    def _by_features(self, entrant: Entrant) -> None:
        assert entrant.ready is not None
        job, few = entrant.ready.job, self._few(self.rows, MOST)
        read = _read(job.net.head, self._features(entrant, self.rows, few), entrant.reading)
        entrant.rounds["features"] = left_out(standardised(read), job.task.chosen(job.dataset.targets[few]))

    def _best(self, round_: str, most: int, known: bool = False) -> list[Entrant]:
        """Those that the round does not tell to be worse than its best, best first, at most so many, the first of them in the static order
        among them, since no score orders models well everywhere; with `known` the first of all, for a sample tells little."""
        there = sorted(
            (one for one in self.entrants if round_ in one.rounds), key=lambda one: -one.rounds[round_].mean()
        )
        near = [one for one in there if one is there[0] or one.against(there[0], round_).high >= 0]
        first = max(there if known else near, key=lambda one: one.static)
        return near[:most] if first in near[:most] else [*near[: most - 1], first]

    def _baseline(self) -> None:
        """The task's own cheap model is the cheapest candidate."""
        job, began = self.base, time.monotonic()
        val = job.rows("val")
        self.watcher.work("fitting the baseline", 0, 1)
        made = job.task.baseline(job.dataset.table, job.rows("train"), val, val, None)
        if made is None or made.predict is None:
            return
        took, answer, many = time.monotonic() - began, made.predict, val[:32]
        alone, together = (min(costs.seconds(functools.partial(answer, rows))) for rows in (val[:1], many))
        found = costs.Costs(alone, len(many), together / len(many), None, None, None)
        _, scores, _ = job.task.judge(made.predictions, job.dataset.targets[val])
        self.entrants.append(Entrant(made.name, None, found, took, timed=True, rounds={"probe": scores}))

    # --- by races

    def race(self) -> None:
        """Successive halving: a part of the epochs, what is left of the field at other learning rates too, and what is then left over all
        epochs at the best of them. A round without a rival is run only where nothing else says how good the one is."""
        trains = any(one.ready and one.ready.course.trains for one in self.racing)
        if trains and (len(self.racing) > 1 or not self.racing[0].rounds):
            for entrant in self.racing:
                self._short(entrant, RATES[0])
            for rate in RATES[1:] if self.base.options.lr is None else ():
                for entrant in self._rivals():
                    if entrant.ready and entrant.ready.course.trains:
                        self._short(entrant, rate)
            self._full(self._rivals())
        self._leave_out_unjudged()

    def _rivals(self) -> list[Entrant]:
        """Those that the short race leaves; none where it leaves one."""
        left = self._best("short race", FINAL)
        return left if len(left) > 1 else []

    def _leave_out_unjudged(self) -> None:
        """Raises `UserError` where that would be all."""
        without = [one.title for one in self.entrants if not one.rounds]
        if len(without) == len(self.entrants):
            least = min(self.racing, key=lambda one: one.training)
            raise self.budget.short(f"the race of {least.title}", self.pace * SHORT * least.training)
        if without:
            self.told.append(f"measured, but not raced, since others take less to fit: {', '.join(without)}")
        self.entrants = [one for one in self.entrants if one.rounds]

    def _short(self, entrant: Entrant, rate: float) -> None:
        """A part of the epochs at a multiple of the strategy's rates; what is best of several counts."""
        assert entrant.ready is not None
        if self.budget.left() < self.pace * SHORT * entrant.training:
            at = "" if rate == 1 else f" at {rate:.2g} of its learning rate"
            self._unseen(f"the race of {entrant.title}{at}")
            return
        if not entrant.ready.as_in_a_fit:
            self._as_in_a_fit(entrant)
        made = race(entrant.ready.job, entrant.ready.precision, entrant.ready.course.phases, self.watcher, SHORT, rate)
        if made.seconds is not None:
            self.pace = max(1.0, made.seconds / (SHORT * entrant.training))
        if entrant.raced is None or better(made.outcome, entrant.raced):
            entrant.raced, entrant.rate, entrant.lr = made.outcome, rate, made.lr
            entrant.rounds["short race"] = made.outcome.scores

    def _probe(self, entrant: Entrant) -> None:
        """As far as it is solved."""
        assert entrant.ready is not None
        plan = [phase for phase in entrant.ready.course.phases if phase.solve][:1]
        if plan:
            made = race(entrant.ready.job, entrant.ready.precision, plan, self.watcher)
            entrant.rounds["probe"] = made.outcome.scores

    def _full(self, rivals: list[Entrant]) -> None:
        """All of them or none: the figure of one alone would not compare."""
        needed = self.pace * sum(one.ready.course.judging for one in rivals if one.ready)
        if rivals and self.budget.left() < needed:
            self._unseen(*(f"all epochs of {one.title}" for one in rivals))
            return
        for entrant in rivals:
            self._over_all_epochs(entrant)

    def _over_all_epochs(self, entrant: Entrant) -> None:
        """Where the strategy itself finds validation too small to judge by, as it judges, by folds of all samples: a fit that follows makes
        the same trial and finds it in the cache."""
        assert entrant.ready is not None
        job, precision, course = entrant.ready.job, entrant.ready.precision, entrant.ready.course
        if course.trial is not None:
            entrant.rounds["trial"] = out_of_fold(job, precision, course.trial, self.watcher, entrant.rate).scores
            return
        made = race(job, precision, course.phases, self.watcher, 1.0, entrant.rate)
        entrant.rounds["race"] = made.outcome.scores
        if made.seconds is not None:
            entrant.training, entrant.timed = made.seconds, True


def _read(head: Any, features: Any, reading: str) -> np.ndarray:
    """float64 [n, D]: what a reading takes of the features."""
    return head.read(features, reading).double().numpy()


def _by_cost(entrant: Entrant) -> tuple[bool, float]:
    """Those that the user named, then the cheapest to fit."""
    assert entrant.candidate is not None
    return not entrant.candidate.model.named, entrant.training
