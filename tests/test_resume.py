"""Nothing is lost: a run killed at any moment goes on to the same weights, bit for bit."""

from __future__ import annotations

import functools
import multiprocessing
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY
from safetensors.torch import load_file, save_file
from scenes import write_voc

from acclimate.core.errors import UserError
from acclimate.core.run import CHECKPOINT, Run
from acclimate.engine.trainer import Stopped
from acclimate.engine.watcher import Watcher
from acclimate.strategies import STRATEGIES
from acclimate.verbs.fit import fit as remembering_fit

fit = functools.partial(remembering_fit, fresh=True)
"""What is tested is training, not remembering."""
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["acclimate.verbs.fit", "acclimate.models.load", "timm", "peft", "sklearn.datasets"])
PATIENCE = 90.0
"""Seconds after which a process is taken to hang."""


def options(strategy: str) -> dict[str, Any]:
    asked: dict[str, Any] = {"model": TINY, "size": 32, "strategy": strategy, "precision": "fp32"}
    if strategy != "probe":
        asked |= {"epochs": 3, "batch_size": 8}
    return asked


def work(data: Path, out: Path, asked: dict[str, Any], trap: str | None) -> None:
    """The process under test: checkpoints after every step; with a trap it dies in the middle of writing a file of that name."""
    torch.set_num_threads(1)
    if trap is not None:
        _set(trap)
    fit(data, out=out, resume=True, checkpoint_every=0.0, **asked)


def _set(trap: str) -> None:
    rename = Path.replace

    def die(path: Path, target: Path) -> Path:
        if trap in str(path):
            os.truncate(path, path.stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        return rename(path, target)

    Path.replace = die  # type: ignore[method-assign, assignment]


def start(data: Path, out: Path, asked: dict[str, Any], trap: str | None = None) -> Any:
    process = SERVER.Process(target=work, args=(data, out, asked, trap))
    process.start()
    return process


def finish(data: Path, out: Path, asked: dict[str, Any]) -> Run:
    process = start(data, out, asked)
    process.join(PATIENCE)
    assert process.exitcode == 0
    return Run(out)


def weights(run: Run) -> dict[str, torch.Tensor]:
    return load_file(run.file("model.safetensors"))


def assert_same(first: Run, second: Run) -> None:
    one, two = weights(first), weights(second)
    assert one.keys() == two.keys()
    assert [name for name in one if not torch.equal(one[name], two[name])] == []
    assert first.metrics()["metrics"] == second.metrics()["metrics"]


def wait_for(run: Path, events: int, process: Any) -> None:
    """Until the log of the run has so many lines, or the process is over."""
    end = time.monotonic() + PATIENCE
    while len(Run(run).events()) < events and process.exitcode is None and time.monotonic() < end:
        time.sleep(0.002)


def full(strategy: str) -> str:
    return f"{strategy}:2" if STRATEGIES[strategy].numbered else strategy


@pytest.mark.parametrize("strategy", list(STRATEGIES))
def test_killed_at_random_moments_it_ends_in_the_same_weights(strategy: str, digits: Path, tmp_path: Path) -> None:
    asked = options(full(strategy))
    reference = finish(digits, tmp_path / "reference", asked)
    draw = np.random.default_rng(len(strategy))
    moments = sorted(draw.integers(1, len(reference.events()), 3))
    killed = 0
    for moment in moments:
        process = start(digits, tmp_path / "killed", asked)
        wait_for(tmp_path / "killed", moment, process)
        time.sleep(draw.uniform(0, 0.05))
        killed += process.exitcode is None
        process.kill()
        process.join()
    assert killed, "every run had ended before it was to be killed"
    assert_same(reference, finish(digits, tmp_path / "killed", asked))


def test_a_killed_detector_ends_in_the_same_weights(tmp_path: Path) -> None:
    """Batch norm that learns, averages of it, cached maps of several sizes."""
    data = write_voc(tmp_path / "voc", {"train": 12, "val": 5})
    asked = {
        "model": "random:yolox:nano",
        "size": 64,
        "strategy": "lp-ft",
        "precision": "fp32",
        "epochs": 3,
        "batch_size": 4,
    }
    reference = finish(data, tmp_path / "reference", asked)
    events, killed = len(reference.events()), 0
    for moment in (events // 4, events // 2, 3 * events // 4):
        process = start(data, tmp_path / "killed", asked)
        wait_for(tmp_path / "killed", moment, process)
        killed += process.exitcode is None
        process.kill()
        process.join()
    assert killed, "every run had ended before it was to be killed"
    assert_same(reference, finish(data, tmp_path / "killed", asked))


@pytest.mark.parametrize(
    "trap", ["last.safetensors", "phase-0", "phase-1", "model.safetensors", "model.json", "metrics.json", "recipe.yaml"]
)
def test_killed_in_the_middle_of_a_file(trap: str, digits: Path, tmp_path: Path) -> None:
    asked = options("last:2")
    reference = finish(digits, tmp_path / "reference", asked)
    process = start(digits, tmp_path / "killed", asked, trap)
    process.join(PATIENCE)
    assert process.exitcode == -signal.SIGKILL
    assert_same(reference, finish(digits, tmp_path / "killed", asked))


class Killed(BaseException):
    """Nothing after it happens."""


@pytest.mark.parametrize("strategy", ["gradual", "full"])
def test_killed_before_the_checkpoint_of_a_finished_phase_is_removed(
    strategy: str, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = options(strategy) | {"epochs": 1, "batch_size": 32}
    reference = fit(digits, out=tmp_path / "reference", **asked)
    unlink = Path.unlink

    def die(path: Path, missing_ok: bool = False) -> None:
        if path.name == Path(CHECKPOINT).name and path.exists():
            raise Killed
        unlink(path, missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", die)
        with pytest.raises(Killed):
            fit(digits, out=tmp_path / "killed", checkpoint_every=0.0, **asked)
    assert (tmp_path / "killed" / CHECKPOINT).exists()
    assert_same(reference, fit(digits, out=tmp_path / "killed", resume=True, **asked))
    assert not (tmp_path / "killed" / CHECKPOINT).exists()


def test_killed_in_the_middle_of_a_cache_chunk(cache: Path, digits: Path, tmp_path: Path) -> None:
    asked = options("last:2")
    reference = finish(digits, tmp_path / "reference", asked)
    other = tmp_path / "cache"
    other.mkdir()
    shutil.copy(cache / "machine.json", other)  # the same arithmetic as measured for the reference
    process = SERVER.Process(target=other_cache, args=(other, digits, tmp_path / "killed", asked, f"{other}/chunks"))
    process.start()
    process.join(PATIENCE)
    assert process.exitcode == -signal.SIGKILL
    process = SERVER.Process(target=other_cache, args=(other, digits, tmp_path / "killed", asked, None))
    process.start()
    process.join(PATIENCE)
    assert_same(reference, Run(tmp_path / "killed"))


def other_cache(cache: Path, *rest: Any) -> None:
    os.environ["ACCLIMATE_CACHE"] = str(cache)
    work(*rest)


def test_two_at_once_share_the_cache(cache: Path, digits: Path, tmp_path: Path) -> None:
    asked = options("last:2")
    (tmp_path / "cache").mkdir()
    shutil.copy(cache / "machine.json", tmp_path / "cache")
    both = [
        SERVER.Process(target=other_cache, args=(tmp_path / "cache", digits, tmp_path / name, asked, None))
        for name in ("a", "b")
    ]
    for process in both:
        process.start()
    for process in both:
        process.join(PATIENCE)
    assert [process.exitcode for process in both] == [0, 0]
    assert_same(Run(tmp_path / "a"), Run(tmp_path / "b"))


class StopAt(Watcher):
    """Sends the signal to its own process at a step, as a user would from outside."""

    def __init__(self, number: int, step: int) -> None:
        self.number, self.at = number, step

    def step(self, step: int, loss: torch.Tensor, rate: float) -> None:
        if step == self.at:
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_stops_and_the_run_goes_on(number: int, digits: Path, tmp_path: Path) -> None:
    asked = options("full")
    reference = fit(digits, out=tmp_path / "reference", **asked)
    with pytest.raises(Stopped) as stopped:
        fit(digits, out=tmp_path / "stopped", watcher=StopAt(number, 7), **asked)
    assert stopped.value.signal == number
    assert Run(tmp_path / "stopped").file(CHECKPOINT).exists()
    assert_same(reference, fit(digits, out=tmp_path / "stopped", resume=True, **asked))


def stopped_run(data: Path, out: Path, **more: Any) -> Run:
    with pytest.raises(Stopped):
        fit(data, out=out, watcher=StopAt(signal.SIGTERM, 5), **{**options("full"), **more})
    return Run(out)


def test_another_command_is_refused(digits: Path, tmp_path: Path) -> None:
    run = stopped_run(digits, tmp_path / "run")
    with pytest.raises(UserError, match="another command"):
        fit(digits, out=run.path, resume=True, **{**options("full"), "epochs": 4})


def test_changed_data_are_refused(tmp_path: Path) -> None:
    from conftest import write_digits

    data = write_digits(tmp_path / "data", 3, 16)
    run = stopped_run(data, tmp_path / "run")
    next((data / "0").iterdir()).unlink()
    with pytest.raises(UserError, match="content has changed"):
        fit(data, out=run.path, resume=True, **options("full"))


def test_another_version_is_refused(digits: Path, tmp_path: Path) -> None:
    run = stopped_run(digits, tmp_path / "run")
    recipe = run.file("recipe.yaml")
    recipe.write_text(recipe.read_text().replace("acclimate: ", "acclimate: 9."))
    with pytest.raises(UserError, match="another"):
        fit(digits, out=run.path, resume=True, **options("full"))


def test_a_corrupt_checkpoint_is_named(digits: Path, tmp_path: Path) -> None:
    run = stopped_run(digits, tmp_path / "run")
    content = run.file(CHECKPOINT).read_bytes()
    run.file(CHECKPOINT).write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="cannot be read"):
        fit(digits, out=run.path, resume=True, **options("full"))


def test_weights_changed_in_a_checkpoint_fail_the_first_evaluation(digits: Path, tmp_path: Path) -> None:
    from safetensors import safe_open

    run = stopped_run(digits, tmp_path / "run")
    with safe_open(run.file(CHECKPOINT), "pt") as file:
        notes, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    tensors["net/head.linear.bias"] += 1e-2 * torch.arange(4)
    save_file(tensors, run.file(CHECKPOINT), notes)
    with pytest.raises(RuntimeError, match="not the recorded one"):
        fit(digits, out=run.path, resume=True, **options("full"))


def test_resume_of_a_finished_run_gives_it_back(digits: Path, tmp_path: Path) -> None:
    run = fit(digits, out=tmp_path / "run", **options("probe"))
    before = run.file("metrics.json").stat().st_mtime_ns
    assert fit(digits, out=tmp_path / "run", resume=True, **options("probe")).path == run.path
    assert run.file("metrics.json").stat().st_mtime_ns == before


def test_a_folder_that_cannot_be_made_is_named(digits: Path) -> None:
    if not Path("/proc/self").exists():
        pytest.skip("no /proc on this system")
    with pytest.raises(UserError, match="cannot be made there"):
        fit(digits, out="/proc/acclimate-run", **options("probe"))


def test_a_run_in_use_is_not_entered(digits: Path, tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    with run.locked():
        process = start(digits, run.path, options("probe"))
        process.join(PATIENCE)
    assert process.exitcode == 1
