"""The loop: accumulation equals one big batch, memory that runs out, losses that are not finite, batches that follow their key."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY
from hypothesis import given
from hypothesis import strategies as st

from acclimate.core.errors import UserError
from acclimate.core.recipe import Options
from acclimate.core.run import CHECKPOINT, Run
from acclimate.engine.batches import Batch, Batches
from acclimate.engine.loop import State, accumulate, train
from acclimate.engine.optim import Average, build, share, trained_parameters
from acclimate.engine.phase import Phase
from acclimate.engine.precision import Precision
from acclimate.engine.watcher import Watcher
from acclimate.models.frozen import freeze
from acclimate.objectives.supervised import Supervised
from acclimate.tasks.classification import Classification
from acclimate.verbs.fit import fit
from acclimate.verbs.job import Job, prepare

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def job(digits: Path) -> Job:
    return prepare(digits, Options.check({"model": TINY, "size": 32, "strategy": "full"}), Watcher())


def phase_of(job: Job, **changes: Any) -> Phase:
    stages = (*job.stages, "head")
    return Phase("all", "test", stages, tuple(1e-3 for _ in stages), **{"batch_size": 12, "epochs": 2, **changes})


def begin(job: Job, phase: Phase, micro: int) -> State:
    torch.manual_seed(0)
    freeze(job.net.backbone, set(job.stages), norms=True)
    job.net.train()
    trained = trained_parameters(job.net, phase)
    return State(job.net, trained, build(job.net, phase), None, micro)


def stream(job: Job, phase: Phase, **more: Any) -> Batches:
    return Batches(job.task, job.dataset, job.rows("train"), phase, [], **more)


def gradients(job: Job, micro: int, balance: str = "none", several: bool = False) -> dict[str, torch.Tensor]:
    phase = phase_of(job)
    state = begin(job, phase, micro)
    batch = next(stream(job, phase).batches())
    task: Classification = job.task  # type: ignore[assignment]
    if several:
        task = Classification({"classes": task.classes, "several": True})
        batch = Batch(batch.inputs, torch.eye(4)[batch.targets], batch.rows)
        encoded = np.eye(4, dtype=np.float32)[job.dataset.targets[job.rows("train")]]
    else:
        encoded = job.dataset.targets[job.rows("train")]
    objective = Supervised(task.for_training(encoded, 0.1, balance))
    accumulate(state, objective, 0, (batch,), Precision(), CPU)
    found = {name: parameter.grad.clone() for name, parameter in state.trained.items() if parameter.grad is not None}
    state.optimizer.zero_grad()
    return found


@pytest.mark.parametrize("balance", ["none", "weights"])
@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("micro", [1, 5, 7])
def test_accumulation_equals_one_big_batch(job: Job, micro: int, balance: str, several: bool) -> None:
    """5 and 7 leave a smaller last micro-batch: dividing by the mean of means would be wrong there."""
    whole, parts = gradients(job, 12, balance, several), gradients(job, micro, balance, several)
    assert whole.keys() == parts.keys()
    for name, gradient in whole.items():
        torch.testing.assert_close(parts[name], gradient, rtol=1e-3, atol=1e-5)


class Hungry(Supervised):
    """Needs more memory than there is for more than `most` samples at a time."""

    most = 3

    def __call__(self, net: Any, first: int, *batches: Any) -> tuple[torch.Tensor, int]:
        if len(batches[0].rows) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().__call__(net, first, *batches)


def test_out_of_memory_halves_the_micro_batch_and_changes_neither_rate_nor_batch(job: Job) -> None:
    phase = phase_of(job, epochs=1)
    state = begin(job, phase, 12)
    before = {name: value.detach().clone() for name, value in state.trained.items()}
    steps = list(train(phase, state, [stream(job, phase)], Hungry(job.task), Precision(), CPU))
    assert {step.micro for step in steps} == {3}
    assert {step.samples for step in steps} <= {11, 12}
    rates = [step.rate for step in steps]
    hungry = {name: value.detach().clone() for name, value in state.trained.items()}
    _restore(state, before)
    state = begin(job, phase, 12)
    plain = list(train(phase, state, [stream(job, phase)], Supervised(job.task), Precision(), CPU))
    assert rates == [step.rate for step in plain]
    for name, value in state.trained.items():
        torch.testing.assert_close(hungry[name], value, rtol=1e-2, atol=2e-3)
    _restore(state, before)


def test_what_is_halved_is_the_batch_not_the_limit(job: Job) -> None:
    """A phase begins without a limit, so that a batch of many short texts is not parted for nothing."""
    phase = phase_of(job)
    state = begin(job, phase, 10_000)
    batch = next(stream(job, phase).batches())
    _, count, micro = accumulate(state, Hungry(job.task), 0, (batch,), Precision(), CPU)
    assert (len(batch.rows), count, micro) == (12, 12, 3)
    state.optimizer.zero_grad()


def test_the_schedule_ends_where_the_state_says(job: Job) -> None:
    phase = phase_of(job, epochs=4, warmup=0.0, schedule="linear")
    state = begin(job, phase, 12)
    before = {name: value.detach().clone() for name, value in state.trained.items()}
    rates: list[float] = []
    for step in train(phase, state, [stream(job, phase)], Supervised(job.task), Precision(), CPU):
        rates.append(step.rate / phase.lr[-1])
        if step.number == 4:
            state.end = 10
        if step.number == state.end:
            break
    assert stream(job, phase).steps > 10
    assert rates[4:] == pytest.approx([1 - step / 10 for step in range(4, 10)])
    _restore(state, before)


def _restore(state: State, before: dict[str, torch.Tensor]) -> None:
    with torch.no_grad():
        for name, value in state.trained.items():
            value.copy_(before[name])


def test_out_of_memory_with_one_sample_is_an_error(job: Job) -> None:
    phase = phase_of(job)
    objective = Hungry(job.task)
    objective.most = 0
    with pytest.raises(torch.OutOfMemoryError):
        next(train(phase, begin(job, phase, 12), [stream(job, phase)], objective, Precision(), CPU))


def test_out_of_memory_is_logged(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("acclimate.objectives.supervised.Supervised", Hungry)
    run = fit(digits, model=TINY, size=32, strategy="full", epochs=1, batch_size=12, out=tmp_path / "run")
    (event,) = [event for event in run.events() if event["event"] == "micro_batch"]
    assert (event["size"], event["batch"]) == (3, 12)
    assert event["rate"] > 0


class Poisoned(Supervised):
    """The loss of the fourth call is not a number."""

    calls = 0

    def __call__(self, net: Any, first: int, *batches: Any) -> tuple[torch.Tensor, int]:
        total, count = super().__call__(net, first, *batches)
        Poisoned.calls += 1
        return (total * float("nan"), count) if Poisoned.calls == 4 else (total, count)


def test_a_loss_that_is_not_finite_stops_before_the_update(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("acclimate.objectives.supervised.Supervised", Poisoned)
    Poisoned.calls = 0
    with pytest.raises(UserError, match=r"not finite.*\n.*smaller --lr.*\.png"):
        fit(digits, model=TINY, size=32, strategy="full", epochs=2, batch_size=16, out=tmp_path / "run")
    from acclimate.engine.checkpoint import read

    _, tensors = read(Run(tmp_path / "run").file(CHECKPOINT))
    assert all(bool(torch.isfinite(value).all()) for value in tensors.values())


def test_batches_do_not_depend_on_who_builds_them(job: Job) -> None:
    phase = phase_of(job, augment="mixup", epochs=3)
    whole = stream(job, phase)
    with ThreadPoolExecutor(4) as many, ThreadPoolExecutor(1) as one:
        for step in (0, 5, whole.steps - 1):
            first, second = whole.build(step, many), whole.build(step, one)
            assert torch.equal(first.inputs, second.inputs)
            assert torch.equal(first.targets, second.targets)


def test_samples_are_no_longer_mixed_in_the_closing_steps(job: Job) -> None:
    whole = stream(job, phase_of(job, augment="mixup", epochs=4, closing=0.5))
    with ThreadPoolExecutor(1) as pool:
        mixed = [whole.build(step, pool).targets.is_floating_point() for step in range(whole.steps)]
    assert mixed == [step < whole.steps / 2 for step in range(whole.steps)]


def test_a_sample_is_augmented_alike_in_any_batch(job: Job) -> None:
    """The batch a sample falls in changes nothing: two batch sizes, the same pictures."""
    found = []
    for size in (5, 13):
        batches = stream(job, phase_of(job, batch_size=size, augment="light"))
        pictures = {}
        for batch in batches.batches():
            if len(pictures) < len(job.rows("train")):
                pictures |= {int(row): batch.inputs[i] for i, row in enumerate(batch.rows)}
        found.append(pictures)
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(found[0][row], found[1][row]) for row in found[0])


@given(st.integers(1, 40), st.integers(1, 4), st.integers(1, 3), st.booleans())
def test_every_epoch_shows_every_sample_once_whatever_the_world(
    size: int, world: int, epochs: int, alike: bool
) -> None:
    costs = np.ones(137, int) if alike else np.random.default_rng(size).integers(1, 500, 137)
    rows = np.arange(100, 137)
    phase = Phase("p", "w", ("head",), (1e-3,), epochs=epochs, batch_size=size)
    data: Any = SimpleNamespace(costs=costs)
    streams = [Batches(None, data, rows, phase, [], None, rank, world) for rank in range(world)]  # type: ignore[arg-type]
    per = streams[0].per_epoch
    for epoch in range(epochs):
        seen = [row for one in streams for step in range(epoch * per, (epoch + 1) * per) for row in one.rows_of(step)]
        assert sorted(seen) == list(rows)
    if len(set(costs)) == 1:
        assert all(len(streams[0].rows_of(step)) <= size for step in range(streams[0].steps))


def test_batches_of_texts_are_of_one_length_and_about_one_cost() -> None:
    costs = np.random.default_rng(0).integers(5, 120, 900)
    phase = Phase("p", "w", ("head",), (1e-3,), epochs=2, batch_size=30)
    one: Any = Batches(None, SimpleNamespace(costs=costs), np.arange(900), phase, [])  # type: ignore[arg-type]
    batches = [one.rows_of(step) for step in range(one.steps)]
    padded = sum(len(rows) * costs[rows].max() for rows in batches) / (2 * costs.sum())
    assert padded < 1.1, "padding takes less than a tenth"
    tokens = np.array([costs[rows].sum() for rows in batches])
    assert tokens.max() < 1.3 * tokens.mean()
    means = np.array([costs[rows].mean() for rows in batches[:30]])
    assert abs(np.corrcoef(means, np.arange(30))[0, 1]) < 0.5, "short and long batches take turns"


def test_resuming_a_stream_goes_on_where_it_was(job: Job) -> None:
    phase = phase_of(job, epochs=2)
    rows = [batch.rows.tolist() for batch in stream(job, phase).batches()]
    assert [batch.rows.tolist() for batch in stream(job, phase).batches(4)] == rows[4:]


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_the_rate_rises_over_the_warm_up_and_ends_low(schedule: str) -> None:
    phase = Phase("p", "w", ("head",), (1.0,), schedule=schedule, warmup=0.2)
    rates = [share(phase, step, 50) for step in range(50)]
    assert rates[:10] == sorted(rates[:10])
    assert 0 < rates[0] < 0.2
    assert max(rates) <= 1
    assert rates[-1] < 0.1 or schedule == "constant"


def test_averages() -> None:
    value = torch.nn.Parameter(torch.zeros(2))
    uniform, fading = Average({"v": value}), Average({"v": value}, decay=0.5)
    for number in (1.0, 2.0, 6.0):
        with torch.no_grad():
            value.fill_(number)
        uniform.update({"v": value})
        fading.update({"v": value})
    assert uniform.values["v"][0] == pytest.approx(3.0)
    uniform.swap({"v": value})
    assert value[0].item() == pytest.approx(3.0)
    assert uniform.values["v"][0] == 6.0
    assert 3.0 < fading.values["v"][0] < 6.0
