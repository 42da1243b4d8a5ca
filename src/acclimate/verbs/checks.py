"""What was asked, checked against the task, the data and the model once these are known: each check raises `UserError`, before training."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc
import torch
from torch import nn

from acclimate.core.errors import Problems, UserError, fail, near
from acclimate.core.recipe import Options, flag
from acclimate.core.seeds import torch_seeded
from acclimate.core.tree import leaves
from acclimate.data.table import Table
from acclimate.engine.adapters import attached
from acclimate.engine.optim import trained_parameters
from acclimate.engine.phase import HEAD, Phase
from acclimate.models.backbone import Net
from acclimate.models.frozen import freeze
from acclimate.models.load import describe
from acclimate.objectives import OBJECTIVES, objective_named
from acclimate.strategies import adaptation
from acclimate.strategies.strategy import Strategy
from acclimate.tasks.task import Inputs, Task

if TYPE_CHECKING:
    from acclimate.verbs.job import Job


def check_kind(name: str, kind: type[Task]) -> None:
    """Raises `UserError` for a model that reads another kind of input than the task's."""
    card = describe(name)[1]
    if card.preprocessing.kind != kind.kind:
        raise fail(
            f"--model {name}",
            f"reads {card.preprocessing.kind}, and the samples are {kind.kind}",
            f"leave it out, or {_wrapped(name, kind) or 'see acclimate models'}",
        )


def _wrapped(name: str, kind: type[Task]) -> str:
    """Which models of the task's kind stand on the one of this name; empty where none does."""
    found = []
    for source in kind.wraps:
        with suppress(UserError):
            describe(f"{source}:{name}")
            found.append(f"{source}:{name}")
    return f"build on it: --model {', '.join(found)}" if found else ""


def check_augment(entry: Strategy, options: Options, inputs: Inputs, kind: type[Task]) -> None:
    """Raises `UserError` for a way of augmenting that these samples do not have, or the strategy cannot follow."""
    known = (*inputs.policies, *inputs.mixes)
    if options.augment is not None and options.augment not in known:
        hint = "leave it out" if known == ("none",) else near(options.augment, known)
        raise fail(f"--augment {options.augment}", f"has no effect on {kind.kind}", hint)
    if options.augment is not None and entry.cached and options.augment not in inputs.views:
        raise fail(
            f"--augment {options.augment}",
            f"has no effect with --strategy {entry.name}, which trains on cached views",
            f"one of {', '.join(inputs.views)}, or --strategy full",
        )


def check_training(options: Options, kind: type[Task]) -> None:
    """Raises `UserError` for what was asked of the loss that the task does not have."""
    problems = Problems()
    for said in kind.heedless:
        name, _, only = said.partition(" ")
        if (value := getattr(options, name)) is not None and only in ("", value):
            problems.add(f"{flag(name)} {value}", f"has no effect on {kind.name.replace('_', ' ')}", "leave it out")
    if options.objective is not None and options.objective not in kind.objectives:
        problems.add(
            f"--objective {options.objective}",
            f"is not for {kind.name.replace('_', ' ')}",
            near(options.objective, kind.objectives),
        )
    problems.stop()


def check_shares(table: Table, options: Options) -> None:
    """Refuse a share for a split that the data name themselves."""
    problems = Problems()
    there = set(pc.unique(table.column("split")).to_pylist()) if "split" in table else set()
    for name, said, samples in (("val", options.val, "validation"), ("test", options.test, "test")):
        if said is not None and name in there:
            problems.add(f"--{name} {said}", f"has no effect: the data name their {samples} samples", "leave it out")
    problems.stop()


def check_phase(job: Job, phase: Phase) -> None:
    """Raises `UserError` where a phase asks for what the model does not have: layers to adapt, biases, dropout."""
    net, example = job.net, job.example(2)
    if phase.objective in OBJECTIVES and phase.objective not in job.task.objectives:
        rule = f"is not for {job.task.name.replace('_', ' ')}, which learns by {', '.join(job.task.objectives)}"
        raise fail(f"--strategy {job.entry.name}", rule, "leave it out")
    if phase.restate and not any(isinstance(one, nn.modules.batchnorm._BatchNorm) for one in net.backbone.modules()):
        raise fail(
            f"--adapt {job.options.adapt}",
            f"moves batch norm, and {job.card.name} has none",
            f"another of {', '.join(name for name in adaptation.known() if name != adaptation.STATISTICS)}",
        )
    with attached(net, phase, example):
        learned = trained_parameters(net, phase)
        if phase.only and not any(name.startswith("backbone.") for name in learned):
            raise fail(
                f"--strategy {job.entry.name}",
                f"finds no parameter called {phase.only!r} in the stages that learn",
                "use --strategy lora, last or full",
            )
        if objective_named(phase.objective).noisy and not phase.solve and not _varies(net, phase, example):
            raise fail(
                f"--objective {phase.objective}",
                f"has no effect on phase {phase.name!r}: {job.card.name} has no dropout in what learns, so two passes are equal",
                "leave it out, or use --objective fgm",
            )


def _varies(net: Net, phase: Phase, example: Any) -> bool:
    """Whether two passes of one batch differ while the phase trains."""
    freeze(net.backbone, set(phase.stages) - {HEAD}, norms=True)
    net.train()
    with torch.no_grad(), torch_seeded("varies"):
        one, other = leaves(net(example)), leaves(net(example))
    freeze(net.backbone, {stage.name for stage in net.backbone.stages})
    net.eval()
    return not all(map(torch.equal, one, other))
