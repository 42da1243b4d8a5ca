"""`Job`: what a fit stands on before anything trains: checked data, a cut model, the arithmetic, the strategy's context."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from acclimate.core.device import choose_device, give_back_memory, keep_memory, set_threads
from acclimate.core.errors import Problems
from acclimate.core.recipe import Options, flag
from acclimate.core.run import Run
from acclimate.core.seeds import torch_seeded
from acclimate.core.tree import map_tree
from acclimate.data import gate
from acclimate.data.read import existing
from acclimate.data.readers import READERS, encoding
from acclimate.data.splits import cut
from acclimate.data.table import SPLITS, Table
from acclimate.engine import estimate, evaluate
from acclimate.engine.dataset import Dataset, Target
from acclimate.engine.phase import Audit, Clock, Compare, Comparison, Outcome, Phase, Remark, Trial
from acclimate.engine.precision import Precision
from acclimate.engine.store import Store
from acclimate.engine.trainer import Trainer
from acclimate.engine.watcher import Watcher
from acclimate.models.backbone import Net
from acclimate.models.card import Card, Preprocessing
from acclimate.models.load import check_weights, describe, load
from acclimate.objectives import objective_named
from acclimate.strategies import adaptation
from acclimate.strategies import strategy as strategies
from acclimate.strategies.strategy import Context, Plan, StageInfo, Strategy
from acclimate.tasks import TASKS, resolve
from acclimate.tasks.task import Came, Starts, Task
from acclimate.verbs.checks import check_augment, check_kind, check_phase, check_shares, check_training
from acclimate.verbs.reading import Inspected, inspect, read_data
from acclimate.verbs.target import NOTHING, Given, look_at_target, look_elsewhere

VAL = 0.15
VIEW_SHARE = 0.5
"""Share of the store's room that cached views may take."""
CHOOSE = "choose"
"""The name that stands for the model that `verbs.choose` recommends."""
OF_A_MODEL = {"weights": "says not for which model", "freeze": "names a stage, which belongs to one model"}
"""Options that go with a named model alone, and why."""


@dataclass
class Job:
    """Everything a fit has decided from the data, the model and what was asked."""

    options: Options
    entry: Strategy
    argument: int | None
    task: Task
    card: Card
    preprocessing: Preprocessing
    dataset: Dataset
    findings: list[gate.Finding]
    net: Net
    device: torch.device
    store: Store
    said: Options | None = None
    """What the user asked, where a choice has settled some of `options`."""
    target: Target | None = None
    shares: tuple[float, ...] = ()
    """Class shares of the target, where they were declared."""

    def plan(self, context: Context) -> Plan:
        """The strategy's plan, and with a target what is done about it."""
        plan = self.entry.plan(context)
        if self.target is None:
            return plan
        found = adaptation.find(self.options.adapt or adaptation.AUTO)
        return adaptation.adapted(context, plan, found, audited=len(self.target.known) > 0)

    @property
    def asked(self) -> dict[str, Any]:
        """What the user asked, as JSON."""
        return (self.said or self.options).asked()

    def rows(self, split: str) -> np.ndarray:
        return self.dataset.split(split)

    @property
    def samples(self) -> dict[str, int]:
        """How many of each split, without copies."""
        return {split: len(self.dataset.own(split)) for split in SPLITS}

    @property
    def stages(self) -> list[str]:
        return [stage.name for stage in self.net.backbone.stages]

    def example(self, samples: int = 16) -> Any:
        """An input batch of training samples of about the mean cost, so that it stands for the others; on the device."""
        rows = self.rows("train")
        costs = self.dataset.costs[rows]
        near = np.argsort(abs(costs - costs.mean()), kind="stable")[:samples]
        return map_tree(lambda leaf: leaf.to(self.device), self.dataset.batch(rows[np.sort(near)]))

    def looking(self) -> Precision:
        """What is fast for a forward pass alone, found in a tenth of the time that training in every arithmetic would take."""
        self.net.requires_grad_(False)
        found = Precision.measure(self.net, self.example(), self.device, asked=self.options.precision)
        self.net.requires_grad_(True)
        return found

    def answering(self, precision: Precision) -> Precision:
        """The arithmetic that a saved model answers in: where samples are padded, one in which a batch of one equals the batched output."""
        if not self.preprocessing.padded or precision.forward == "fp32":
            return precision
        return replace(precision, forward="fp32", why=f"{precision.why}; once saved it predicts in fp32")

    def trainer(self, run: Run, precision: Precision, watcher: Watcher, **settings: Any) -> Trainer:
        """What runs the phases of a strategy in a run folder. `settings`: other fields of `Trainer`."""
        return Trainer(
            run=run,
            net=self.net,
            task=self.task,
            dataset=self.dataset,
            train_rows=self.rows("train"),
            val_rows=self.rows("val"),
            store=self.store,
            precision=precision,
            device=self.device,
            objective=lambda phase, targets: objective_named(phase.objective)(
                self.task.for_training(targets, phase.label_smoothing, phase.balance), phase.strength
            ),
            watcher=watcher,
            **settings,
        )

    def moved(
        self,
        name: str,
        weights: Path | None,
        size: int | None,
        rows: np.ndarray | None = None,
        watcher: Watcher | None = None,
    ) -> Job:
        """The same data, splits and task for another model at another size, of some `rows` or of all.

        What was found when these samples were checked stands; they are prepared anew as far as the cache does not hold them.
        """
        kind, whole = type(self.task), self.dataset
        asked = self.options.model_copy(update={"model": name, "size": size})
        shown = kind.suit(describe(name)[1].preprocessing, whole.table, asked)
        backbone, card = load(name, weights=weights, shown=shown)
        rows = np.arange(len(whole)) if rows is None else rows
        progress = functools.partial((watcher or Watcher()).work, f"preparing samples for {name}")
        dataset = whole.shown(kind.inputs(shown), self.store, rows, progress)
        net = assemble(backbone, self.task, dataset, self.options.seed).to(self.device)
        return replace(self, card=card, preprocessing=shown, dataset=dataset, net=net)

    def came(self, precision: Precision) -> Came | None:
        """The pretrained model with the head it came with; None where it came without one, or with random weights."""
        head: Any = next(iter(self.net.backbone.kept), None)
        if head is None or head.tuned == "fresh" or self.card.weights == "random":
            return None
        net = Net(self.net.backbone, head.to(self.device))

        def predict(rows: np.ndarray) -> np.ndarray:
            return evaluate.predict(net, self.task, evaluate.over_samples(self.dataset, rows), precision, self.device)

        return Came(head.classes, predict)

    def context(self, speed: estimate.Speed, room: int) -> Context:
        """What the strategy decides from. `room`: bytes of the store that cached views may take."""
        parameters = dict(self.net.backbone.named_parameters())
        infos = tuple(
            StageInfo(stage.name, sum(parameters[name].numel() for name in stage.parameters), share, size)
            for stage, share, size in zip(self.net.backbone.stages, speed.shares, speed.bytes, strict=False)
        )
        train, val, tested = len(self.rows("train")), len(self.rows("val")), len(self.rows("test")) > 0

        def seconds(phase: Phase) -> float:
            return estimate.seconds(phase, speed, self.stages, train, val)

        tuning = self.task.tuning(self.net.head, self.preprocessing)
        return Context(
            infos,
            train,
            val,
            self.options,
            self.argument,
            room,
            seconds,
            tested,
            tuning,
            self.dataset.inputs.views,
            speed.bytes[-1],
            self.shares,
        )


def look(data: Any, options: Options, problems: Problems, given: Given = NOTHING) -> None:
    """Collect the mistakes that cost nothing to see, so that they are told together."""
    found = problems.attempt(strategies.find, options.strategy)
    if found is not None:
        problems.attempt(strategies.check, *found, options)
    problems.attempt(choose_device, options.device)
    look_at_target(options, problems, given)
    problems.attempt(encoding.check, options.encoding)
    if options.format is not None:
        problems.attempt(READERS.__getitem__, options.format)
    if options.task is not None:
        problems.attempt(TASKS.__getitem__, options.task)
    if isinstance(data, str | Path):
        problems.attempt(existing, data)
    if options.model is None:
        if options.weights is not None:
            problems.add(
                f"--weights {options.weights}", "says not for which model", "name its architecture with --model"
            )
    elif options.model == CHOOSE:
        for name in set(OF_A_MODEL) & set(options.asked()):
            problems.add(
                f"{flag(name)} {getattr(options, name)} with --model {CHOOSE}", OF_A_MODEL[name], "leave one out"
            )
    elif problems.attempt(describe, options.model) is not None and options.weights is not None:
        problems.attempt(check_weights, options.model, Path(options.weights))


def prepare(data: Any, options: Options, watcher: Watcher, given: Given = NOTHING) -> Job:
    """Read, check and split the data; load and cut the model. Nothing is written but the cache.

    `given`: what options that name data mean, where it is in memory.

    Raises `UserError` for every mistake that can be seen before training.
    """
    entry, argument = strategies.find(options.strategy)
    strategies.check(entry, argument, options)
    device = choose_device(options.device)
    keep_memory()
    set_threads()
    table = read_data(data, options)
    check_shares(table, options)
    kind = resolve(table, options.task)
    check_training(options, kind)
    name, why = (options.model, "") if options.model else at_hand(kind.models(table))
    check_kind(name, kind)
    if why:
        table = replace(table, notes=(*table.notes, why))
    weights = Path(options.weights) if options.weights else None
    table, mended = kind.mend(table)
    preprocessing = kind.suit(describe(name)[1].preprocessing, table, options)
    backbone, card = load(name, weights=weights, shown=preprocessing)
    give_back_memory()
    strategies.check(entry, argument, options, [stage.name for stage in backbone.stages])
    store = Store()
    inputs = kind.inputs(preprocessing)
    check_augment(entry, options, inputs, kind)
    found = inspect(table, kind, inputs, store, watcher, options.leaks or "keep")
    table = found.table
    task = kind(kind.from_table(table))
    table = split(table, task, found, options)
    findings = mended + found.findings + task.check(table)
    dataset = found.dataset(table, task, inputs)
    net = assemble(backbone, task, dataset, options.seed).to(device)
    job = Job(options, entry, argument, task, card, preprocessing, dataset, findings, net, device, store)
    if options.target is not None:
        look_elsewhere(job, given, watcher)
    phases, _ = preview(
        job.plan, job.context(estimate.unknown(len(job.stages)), 0), float("inf")
    )  # what a strategy refuses
    for phase in phases:
        check_phase(job, phase)
    return job


def at_hand(starts: Starts) -> tuple[str, str]:
    """(the first model whose weights are on this machine, or the first of all where none is; what is to be said about that)."""
    best = starts.names[0]
    name = next((name for name in starts.names if describe(name)[1].offline), best)
    if not starts.why:
        return name, ""
    said = f"begins from {name}" if name == best else f"{best} would suit better (acclimate models get {best})"
    return name, f"{starts.why}: {said}"


def split(table: Table, task: Task, found: Inspected, options: Options) -> Table:
    """The table with its split column complete."""
    given = {name: table.column(name) if name in table else None for name in ("split", "group")}
    names = cut(
        task.strata(table.column("target")),
        given["split"],
        given["group"],
        val=options.val or VAL,
        test=options.test or 0.0,
        seed=options.seed,
        keys=found.digests[:, 0],
        duplicates=found.same,
    )
    return table.with_column("split", names)


def assemble(backbone: Any, task: Task, dataset: Dataset, seed: int) -> Net:
    """The backbone with a fresh head for the task."""
    with torch.no_grad():
        features = backbone.eval()(dataset.batch(np.arange(min(2, len(dataset)))))
    with torch_seeded("head", seed):
        return Net(backbone, task.head(features, backbone))


def preview(plan_of: Callable[[Context], Plan], context: Context, left: float) -> tuple[list[Phase], list[Trial]]:
    """The phases and trials a strategy will ask for if every one of them gains: it is driven with made-up outcomes.

    `left`: seconds of the budget.
    """
    plan, phases, trials = plan_of(context), list[Phase](), list[Trial]()
    answer: Any = None
    try:
        while True:
            asked = plan.send(answer)
            if isinstance(asked, Clock):
                answer = left
            elif isinstance(asked, Remark):
                answer = None
            elif isinstance(asked, Compare):
                answer = DIFFERENT
            elif isinstance(asked, Audit):
                answer = (float(asked.start > 0 or bool(asked.align)),) * 20
            elif isinstance(asked, Trial):
                answer = [_imagined(i, phase) for i, phase in enumerate(asked.phases)]
                trials.append(asked)
                left -= context.trial_seconds(asked)
            else:
                left -= context.seconds(asked)
                answer = _imagined(len(phases), asked)
                phases.append(asked)
    except StopIteration:
        return phases, trials


DIFFERENT = Comparison(0.0, 1.0, 1.0, 1.0, 1.0, "looks", (0.5, 0.5), (0.5, 0.5), 1.0, (0.0, 0.0), 0.0)
"""A target that speaks for adapting, for plans that are made before anything is compared."""


def _imagined(index: int, phase: Phase) -> Outcome:
    """Better than every outcome with a smaller index."""
    rising = np.full(8, float(index))
    return Outcome(index, phase.name, float(index), 0.0, phase.epochs, rising, -rising)
