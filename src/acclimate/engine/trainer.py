"""`Trainer`: runs one phase from its start weights to its outcome, and can be killed at any moment in between."""

from __future__ import annotations

import functools
import hashlib
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

import acclimate
from acclimate.core.device import give_back_memory
from acclimate.core.errors import UserError, fail
from acclimate.core.run import CHECKPOINT, Run
from acclimate.core.seeds import generator, torch_seeded
from acclimate.engine import adapters, checkpoint, elsewhere, evaluate
from acclimate.engine.activations import PLAIN, Activations, Pass, View
from acclimate.engine.batches import Batches
from acclimate.engine.bridge import bridged
from acclimate.engine.dataset import Dataset, Target
from acclimate.engine.loop import NonFinite, State, Step, train
from acclimate.engine.optim import Average, build, trained_parameters
from acclimate.engine.outcomes import Outcomes, Weights
from acclimate.engine.pace import Pace
from acclimate.engine.phase import (
    ADAPTED,
    CUT,
    HEAD,
    LEARNED,
    PASS,
    STALE,
    UNBEGUN,
    Audit,
    Clock,
    Compare,
    Comparison,
    Outcome,
    Phase,
    Remark,
    Trial,
    graded,
)
from acclimate.engine.precision import Precision
from acclimate.engine.solve import Fold, fit_head
from acclimate.engine.store import Store, content_key
from acclimate.engine.trial import cross_validate, proved
from acclimate.engine.watcher import Watcher
from acclimate.models.backbone import Net
from acclimate.models.frozen import fingerprint, freeze
from acclimate.models.norms import recentre, restate
from acclimate.models.renew import renew
from acclimate.objectives.objective import Objective
from acclimate.tasks.task import Task

Strategy = Generator[Any, Any, Any]
"""Asks for phases, trials and the clock, and returns the outcome it chose."""
RECENTRED = 32
"""Training samples that batch norm takes its statistics from, before it learns and before each look at validation."""
PROOF = 64
"""Validation samples whose loss is recorded with a checkpoint and must come out the same after a resume."""


class Stopped(Exception):
    """The user stopped the run by a signal (its number in `signal`); everything is saved."""

    def __init__(self, signal: int) -> None:
        super().__init__(f"stopped by signal {signal}")
        self.signal = signal


@dataclass
class Stopping:
    """Set from outside: the number of the signal that asks to save and stop."""

    signal: int | None = None

    def check(self) -> None:
        if self.signal is not None:
            raise Stopped(self.signal)


class OutOfTime(Exception):
    """The budget ended before a phase made its first step."""


@dataclass
class Trainer:
    """Everything phases share. `train_rows`, `val_rows`: rows of the data set; test rows are not known here."""

    run: Run
    net: Net
    task: Task
    dataset: Dataset
    train_rows: np.ndarray
    val_rows: np.ndarray
    store: Store
    precision: Precision
    device: torch.device
    objective: Callable[[Phase, np.ndarray], Objective]
    """From a phase and the encoded targets that it learns from."""
    watcher: Watcher = field(default_factory=Watcher)
    deadline: float = float("inf")
    """time.monotonic() at which the budget ends."""
    remember: bool = True
    """Take a phase's outcome from the cache where the very same phase was trained before."""
    every: float = 30.0
    """Seconds between checkpoints within a phase."""
    stopping: Stopping = field(default_factory=Stopping)
    target: Target | None = None
    """Unlabelled samples from elsewhere, which phases that adapt read besides."""

    def __post_init__(self) -> None:
        self.base = {name: value.detach().clone() for name, value in self.net.state_dict().items()}
        self.outcomes = Outcomes(self.run, self.store)
        self.held: dict[tuple[str, int, View], Activations] = {}
        self.judging = 0.0  # seconds that validation took last: a phase that the budget ends is judged within it
        self.pass_rows = np.sort(np.concatenate([self.train_rows, self.val_rows]))

    # --- from a strategy to its outcome

    def drive(self, strategy: Strategy) -> Any:
        """Run a strategy to its end. Finished phases are replayed from the log, the interrupted one from its checkpoint."""
        answer: Any = None
        phases, questions, trials, remarks, looks, audits = 0, 0, 0, 0, 0, 0
        try:
            while True:
                asked = strategy.send(answer)
                if isinstance(asked, Clock):
                    answer = self.run.recorded(f"clock {questions}", self.seconds_left)
                    answer, questions = float("inf") if answer is None else answer, questions + 1
                elif isinstance(asked, Remark):
                    self.watcher.say(self.run.decide(f"remark {remarks}", asked.text))
                    answer, remarks = None, remarks + 1
                elif isinstance(asked, Compare):
                    told = self.run.recorded(
                        f"compare {looks}", functools.partial(elsewhere.comparison, self, asked.start)
                    )
                    answer, looks = Comparison.of(told), looks + 1
                elif isinstance(asked, Audit):
                    answer = tuple(
                        self.run.recorded(f"audit {audits}", functools.partial(elsewhere.audit, self, asked))
                    )
                    audits += 1
                elif isinstance(asked, Trial):
                    answer, trials = cross_validate(self, trials, asked), trials + 1
                else:
                    answer, phases = self.outcome(phases, asked), phases + 1
                    self.watcher.outcome(answer)
        except StopIteration as end:
            return end.value

    def seconds_left(self) -> float | None:
        """None without a budget."""
        return None if self.deadline == float("inf") else max(0.0, self.deadline - time.monotonic())

    def outcome(self, index: int, phase: Phase) -> Outcome:
        """The recorded outcome of phase `index`; else what the cache remembers of the very same phase; else that of running it now."""
        recorded = self.outcomes.recorded(index, phase)
        if recorded is not None:
            return recorded
        self.restore(phase.start)
        key = self._key(phase)
        known = self.outcomes.remembered(key, index, phase.name) if self.remember else None
        adapter: Weights = {}
        if known is not None:
            outcome, changed, adapter = known
            self.net.restore({**self.base, **changed})
        else:
            try:
                if self._cut(index) == 0:
                    outcome = self._left_alone(index, phase)
                else:
                    outcome, adapter = self._run(index, phase)
            except OutOfTime:
                self.run.decide(f"cut {index}", 0)
                outcome = self._left_alone(index, phase)
            if self.remember and CUT not in outcome.notes:
                self.outcomes.remember(key, outcome, self._changed(), adapter)
        self.outcomes.write(outcome, phase, self._changed(), adapter)
        give_back_memory()
        return outcome

    def _left_alone(self, index: int, phase: Phase) -> Outcome:
        """The outcome of a phase for which the budget left no step: the weights it would have started from."""
        assert phase.start is not None
        self.watcher.say(f"{phase.name}: the budget ended before its first step")
        self.restore(phase.start)
        begun = self.outcomes.read(phase.start)
        notes = {CUT: True, UNBEGUN: True, **({LEARNED: True} if begun.learned_from_validation else {})}
        return replace(begun, index=index, phase=phase.name, seconds=0.0, epochs=0, notes=notes)

    def _run(self, index: int, phase: Phase) -> tuple[Outcome, Weights]:
        """The outcome, and the adapter that was merged into the weights."""
        if phase.merge:
            self._merge(phase.merge)
        if phase.restate:
            elsewhere.restated(self, phase.restate)
        renew(self.net.backbone, phase.reinit, phase.seed)
        freeze(self.net.backbone, set(phase.stages) - {HEAD}, norms=phase.norm == "frozen")
        limit = float("inf") if phase.start is None else self.deadline
        self.work = self.feature_pass(self.dataset, limit)
        self.beside = None if self.target is None else self.feature_pass(self.target.dataset, limit)
        whole = phase.adapter or phase.only  # then every stage has something that stays
        frozen = [one.name for one in self.net.backbone.stages if whole or one.name not in phase.stages]
        moved = (
            () if phase.adapter else {name.removeprefix("backbone.") for name in trained_parameters(self.net, phase)}
        )
        before, began = fingerprint(self.net.backbone, frozen, but=moved), time.monotonic()
        space = elsewhere.moved_in(self) if phase.bridge else None
        with adapters.attached(self.net, phase, self._example()) as adapter, bridged(self.net, phase, space):
            trained = trained_parameters(self.net, phase)
            for name, parameter in self.net.named_parameters():
                parameter.requires_grad_(name in trained)
            self.net.train()
            if phase.merge:
                epochs, notes = 0, dict[str, Any]()
            else:
                epochs, notes = self._solve(phase) if phase.solve else self._trimmed(index, phase)
        if fingerprint(self.net.backbone, frozen, but=moved) != before:
            raise RuntimeError(f"phase {phase.name!r} changed what is frozen")
        if adapter is not None:
            adapter.merge()
        value, scores, losses = self.validate(phase)
        if phase.everything or (phase.start is not None and self.outcomes.read(phase.start).learned_from_validation):
            notes[LEARNED] = True
        if elsewhere.told(self.target, phase) or (phase.start is not None and self.outcomes.read(phase.start).adapted):
            notes[ADAPTED] = True
        if HEAD not in phase.stages:
            notes[STALE] = True
        outcome = Outcome(index, phase.name, value, time.monotonic() - began, epochs, scores, losses, notes)
        return outcome, {} if adapter is None else adapter.tensors

    def _example(self) -> Any:
        """Two training samples, on the device."""
        return self.precision.move(self.dataset.batch(self.train_rows[:2]), self.device)

    def _key(self, phase: Phase) -> str:
        """Names all that an outcome follows from: code, data, splits, the weights it starts from, arithmetic, the phase."""
        state = hashlib.blake2b(digest_size=16)
        for name, value in sorted(self.net.state_dict().items()):
            state.update(name.encode())
            state.update(value.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        rows = hashlib.blake2b(self.train_rows.tobytes() + b"/" + self.val_rows.tobytes(), digest_size=16).hexdigest()
        versions = (rows, acclimate.__version__, torch.__version__, torch.get_num_threads())
        told = (
            self.dataset.fingerprint(),
            self.dataset.inputs.key,
            self.task.spec,
            self.precision.json(),
            {name: value for name, value in phase.json().items() if name not in ("name", "why", "start")},
            elsewhere.told(self.target, phase),
        )
        return content_key("outcome", *versions, state.hexdigest(), *told)

    def _merge(self, outcomes: tuple[int, ...]) -> None:
        """The mean of what these outcomes left where they differ: the mean of equal numbers is not always the number."""
        each = [{**self.base, **self.outcomes.weights(index)} for index in outcomes]
        for name, value in self.net.state_dict().items():
            own = [tensors[name] for tensors in each]
            same = all(torch.equal(one, own[0]) for one in own) or not value.is_floating_point()
            value.copy_(own[0] if same else torch.stack([one.to(value) for one in own]).mean(0))

    def _changed(self) -> dict[str, torch.Tensor]:
        """What training has changed since the pretrained weights and the fresh head."""
        state = self.net.state_dict()
        return {
            name: value.cpu().contiguous() for name, value in state.items() if not torch.equal(value, self.base[name])
        }

    def restore(self, start: int | None) -> None:
        """The pretrained weights and fresh head, or those an outcome left."""
        self.net.restore({**self.base, **(self.outcomes.weights(start) if start is not None else {})})

    # --- a phase that is solved

    def _solve(self, phase: Phase) -> tuple[int, dict[str, Any]]:
        """Fit the head to cached features."""
        self.watcher.phase(phase, 0)
        features, began = len(self.net.backbone.stages), time.monotonic()
        cached = self.cached(features, by=[phase.keep] if phase.keep else [])
        passed = time.monotonic() - began
        rows = self.pass_rows if phase.everything else self.train_rows
        targets = self.dataset.targets[rows]
        training = self.task.for_training(targets, 0.0, "none" if phase.balance == "none" else "weights")
        train = Fold(cached.rows(rows), targets)
        held = self.dataset.targets[self.val_rows]
        if phase.align:
            return 0, {**elsewhere.solved(self, phase, cached), PASS: passed}
        val = None if phase.everything or phase.blind else Fold(cached.rows(self.val_rows), held)
        found = fit_head(self.task, training, self.net.head, train, val, phase.seed, phase.reread)
        return 0, {**found, PASS: passed}

    def solved_aside(self, phase: Phase, limit: float) -> None:
        """Leave in the net what a solved phase makes of the pretrained weights; it is no outcome of the run. `limit`: as `feature_pass`'s,
        past which it raises `OutOfTime`."""
        self.restore(None)
        freeze(self.net.backbone, set())
        self.work = self.feature_pass(self.dataset, limit)
        self._solve(phase)

    # --- a phase that trains by steps

    def _trimmed(self, index: int, phase: Phase) -> tuple[int, dict[str, Any]]:
        """`_train`, and where the samples themselves are read, with no more of a table of tokens than they have."""
        if phase.first:
            return self._train(index, phase)
        samples = (self.dataset.sample(int(row)) for row in self.pass_rows)
        with self.net.backbone.trimmed(self.dataset.inputs.ids(samples)):
            return self._train(index, phase)

    def _train(self, index: int, phase: Phase) -> tuple[int, dict[str, Any]]:
        trained = trained_parameters(self.net, phase)
        rows = self.pass_rows if phase.everything else self.train_rows
        targets = self.dataset.targets[rows]
        objective = self.objective(phase, targets)
        if phase.recentre:
            self._norms(recentre, phase)
        self._ready(objective, phase)
        state = State(
            self.net, trained, build(self.net, phase, objective.modules.parameters()), extra=objective.modules
        )
        state.average = Average(state.moving, phase.ema) if phase.average or phase.ema else None
        kept = [phase.keep] if phase.keep else []
        views = [
            self.cached(phase.first, (view, phase.augment) if view else PLAIN, kept) for view in range(phase.views)
        ]
        sampling = self.task.sample_weights(targets) if phase.balance == "sampling" else None
        batches = Batches(self.task, self.dataset, rows, phase, views, sampling)
        streams = [batches, *(elsewhere.stream(self, phase, batches) for _ in range(objective.streams - 1))]
        marks: dict[str, Any] = {"best": None, "since": 0, "cut": self._cut(index)}
        if self.run.file(CHECKPOINT).exists():
            marks |= self._resume(index, phase, state)
        else:
            self.run.forget("epoch", phase=index)  # of a process that was killed before its first checkpoint
        self.watcher.phase(phase, batches.steps)
        saved, micro, pace = time.monotonic(), state.micro, Pace(state.step)
        steps = train(phase, state, streams, objective, self.precision, self.device)
        try:
            while not _over(phase, state, marks, batches.steps):
                step = next(steps)
                self.watcher.step(step.number, step.loss, step.rate)
                if step.micro != micro:
                    micro = step.micro
                    self._told_memory(index, phase, step)
                if step.number % batches.per_epoch == 0:
                    self._judge(index, phase, state, marks, step.number // batches.per_epoch, float(step.loss))
                self._look(index, state, batches.steps, pace)
                if marks["cut"] is None and time.monotonic() > self.deadline - self.judging:
                    marks["cut"] = self.run.recorded(f"cut {index}", functools.partial(int, step.number))
                if self.stopping.signal or time.monotonic() - saved > self.every:
                    self._checkpoint(index, phase, state, marks)
                    saved = time.monotonic()
                self.stopping.check()
            if state.step == batches.steps:
                next(steps, None)  # the last step is checked too
            steps.close()
        except NonFinite as error:
            self._checkpoint(index, phase, state, marks)
            raise self._not_finite(phase, error) from None
        ended = state.step == _last(state, marks, batches.steps) < batches.steps
        if ended:
            self.watcher.say(f"{phase.name}: the budget ended it after {state.step} of {batches.steps} steps")
        self._settle(state)
        if phase.recentre:
            self._norms(restate, phase)
        epochs = -(-state.step // batches.per_epoch)
        return epochs, {"steps": state.step, **({CUT: True} if ended else {})}

    def _ready(self, objective: Objective, phase: Phase) -> None:
        if objective.streams == 1:
            return
        objective.shares = phase.shares
        with torch.no_grad(), torch_seeded("objective", phase.seed):
            head: Any = self.net.head
            features = head.pooled(self.net.features(self._example()))
            objective.ready(self.net, features, head.outputs(features))
        objective.modules.to(self.device)

    def _norms(self, bring: Callable[..., None], phase: Phase) -> None:
        """Bring batch norm in what learns, the head among it, to some of the training samples (`recentre` or `restate`)."""
        rows = self.pass_rows if phase.everything else self.train_rows
        few = generator("recentre", phase.seed).permutation(rows)[:RECENTRED]
        cached = self.cached(phase.first) if phase.first else None
        batches = (
            self.dataset.batch(few[start : start + phase.batch_size])
            if cached is None
            else cached.rows(few[start : start + phase.batch_size])
            for start in range(0, len(few), phase.batch_size)
        )
        parts = [name for stage in self.net.backbone.stages if stage.name in phase.stages for name in stage.modules]
        learning = [module for name in parts for module in self.net.backbone.get_submodule(name).modules()]
        moved = (self.precision.move(batch, self.device) for batch in batches)
        bring(self.net, [*learning, *self.net.head.modules()], moved, phase.first)

    def _look(self, index: int, state: State, steps: int, pace: Pace) -> None:
        """Let the schedule end where the budget does: a rate that is still high when training is cut off costs what was gained."""
        name = f"end {index} at {state.step}"
        if name in self.run.given or (self.deadline < float("inf") and pace.known(state.step)):
            state.end = self.run.recorded(name, lambda: min(steps, pace.last(self.deadline - self.judging, state.step)))

    def _told_memory(self, index: int, phase: Phase, step: Step) -> None:
        self.run.log(
            "micro_batch", phase=index, step=step.number, size=step.micro, batch=phase.batch_size, rate=step.rate
        )
        self.watcher.say(f"out of memory: {step.micro} samples at a time from here; the batch stays {phase.batch_size}")

    def _not_finite(self, phase: Phase, error: NonFinite) -> UserError:
        names = [self.dataset.table.name(int(row)) for row in error.rows]
        listed = ", ".join(names[:8]) + (f", ... ({len(names)} in all)" if len(names) > 8 else "")
        return fail(
            f"phase {phase.name!r}, step {error.step}",
            "the loss is not finite; the weights before it are saved",
            f"give a smaller --lr, or look at the samples of that step: {listed}",
        )

    def _judge(self, index: int, phase: Phase, state: State, marks: dict[str, Any], epoch: int, loss: float) -> None:
        """Validate at the end of an epoch; remember the best where the phase may stop early."""
        if phase.everything or phase.bridge:  # of the source, whose validation says nothing of the target
            self.run.log("epoch", phase=index, epoch=epoch, step=state.step, loss=loss)
            return
        began = time.monotonic()
        if phase.recentre:
            self._norms(restate, phase)
        value, scores, losses = self.validate(phase, state)
        self.judging = time.monotonic() - began
        held = float(losses.mean()) if graded(scores, losses) else None
        besides: dict[str, Any] = {} if held is None else {"val_loss": held}
        self.run.log("epoch", phase=index, epoch=epoch, step=state.step, loss=loss, value=value, **besides)
        self.watcher.validated(epoch, value, held)
        marks["since"] += 1
        if phase.patience and (marks["best"] is None or value > marks["best"]):
            marks.update(best=value, since=0)
            state.best = {name: value.detach().clone() for name, value in state.moving.items()}

    def _settle(self, state: State) -> None:
        """Leave the weights in the net that count: the best epoch's, else the average, else the last."""
        if state.best is not None:
            with torch.no_grad():
                for name, value in state.moving.items():
                    value.copy_(state.best[name])
        elif state.average is not None and state.average.seen:
            state.average.swap(state.moving)

    def _cut(self, index: int) -> int | None:
        """The step after which the budget ended phase `index`, where that is known already; 0: it never began."""
        name = f"cut {index}"
        return self.run.decide(name, None) if name in self.run.given else self.run.decisions().get(name)

    def _checkpoint(self, index: int, phase: Phase, state: State, marks: dict[str, Any]) -> None:
        proof = self._proof(phase)
        used = self.run.log_size()
        checkpoint.save_state(
            self.run.file(CHECKPOINT), state, phase=index, log=used, proof=proof, marks=marks, shape=phase.json()
        )
        give_back_memory()

    def _resume(self, index: int, phase: Phase, state: State) -> dict[str, Any]:
        """Enter the phase where the checkpoint left it; the first evaluation must be the recorded one."""
        notes, _ = checkpoint.read(self.run.file(CHECKPOINT))
        if notes["phase"] != index:
            raise fail(
                f"checkpoint of phase {notes['phase']}",
                f"does not belong to phase {index}",
                "remove the folder 'checkpoint' and begin anew",
            )
        checkpoint.load_state(self.run.file(CHECKPOINT), state)
        self.run.cut_log(int(notes["log"]))
        proof = self._proof(phase)
        if proof != notes["proof"]:
            raise RuntimeError(
                f"the first evaluation after the resume ({proof}) is not the recorded one ({notes['proof']}): "
                "the data, the weights or the machine changed"
            )
        self.run.log("resumed", phase=index, step=state.step)
        self.watcher.say(f"resumed in phase {phase.name!r} after step {state.step}")
        return notes["marks"]

    def _proof(self, phase: Phase) -> float:
        rows = self.val_rows[:PROOF]
        return float(self._judge_rows(phase, rows)[2].sum())

    # --- validation and cached activations

    def validate(self, phase: Phase, state: State | None = None) -> tuple[float, np.ndarray, np.ndarray]:
        """(primary metric, per-sample scores, per-sample losses) on validation, of the average where there is an exponential one."""
        if state is None or state.average is None or state.average.decay is None:
            return self._judge_rows(phase, self.val_rows)
        state.average.swap(state.moving)
        judged = self._judge_rows(phase, self.val_rows)
        state.average.swap(state.moving)
        return judged

    def answers(self, chosen: Outcome) -> tuple[np.ndarray, np.ndarray, bool]:
        """(predictions, targets, whether the model has learned from these samples), for what is chosen once training is over.

        Of the validation samples as the weights are now; where these were learned from, of all samples out of fold, as far as a trial has
        proved this phase: its folds learn for half as long and from fewer samples, and say nearly the same.
        """
        known = proved(self, chosen.phase) if chosen.learned_from_validation else None
        if known is not None:
            return known, self.dataset.targets[self.pass_rows], False
        inputs = evaluate.over_samples(self.dataset, self.val_rows)
        predictions = evaluate.predict(self.net, self.task, inputs, self.precision, self.device)
        return predictions, self.dataset.targets[self.val_rows], chosen.learned_from_validation

    def answered(self, phase: Phase, rows: np.ndarray) -> np.ndarray:
        """Predictions for `rows` as the weights are now, from the boundary that the phase reads."""
        first = len(self.net.backbone.stages) if phase.solve else phase.first
        if first:
            inputs = evaluate.over_activations(self.dataset, self.cached(first), rows)
        else:
            inputs = evaluate.over_samples(self.dataset, rows)
        return evaluate.predict(self.net, self.task, inputs, self.precision, self.device, first)

    def _judge_rows(self, phase: Phase, rows: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        return self.task.judge(self.answered(phase, rows), self.dataset.targets[rows])

    def cached(self, boundary: int, view: View = PLAIN, by: list[int] | None = None) -> Activations:
        """Activations of the frozen stages of this phase, of every training and validation sample, so that all folds share them."""
        key = (self.work.keys[boundary], boundary, view)
        if key not in self.held:
            self.held[key] = self.work.bring(self.pass_rows, boundary, view, by or ())
        return self.held[key]

    def feature_pass(self, dataset: Dataset, limit: float = float("inf")) -> Pass:
        """What brings samples to boundaries; it gives up at `limit` of time.monotonic()."""
        progress = functools.partial(self.progress, limit)
        return Pass(self.net.backbone, dataset, self.store, self.precision, self.device, progress)

    def progress(self, limit: float, done: int, of: int) -> None:
        self.watcher.work("computing frozen stages once", done, of)
        self.stopping.check()
        if time.monotonic() > limit:
            raise OutOfTime


def _over(phase: Phase, state: State, marks: dict[str, Any], steps: int) -> bool:
    """Whether a phase has made all its steps, was cut by the budget, or has waited long enough for a better epoch."""
    if phase.patience and marks["since"] >= phase.patience:
        return True
    return state.step >= _last(state, marks, steps)


def _last(state: State, marks: dict[str, Any], steps: int) -> int:
    """The step that the phase ends at, which may be sooner than its last where there is a budget."""
    return min(steps, marks["cut"] or steps, state.end or steps)
