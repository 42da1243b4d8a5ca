"""Trackers: curves go on over phases and resumes without doubling, and what was written can be read back."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY, Heard
from PIL import Image
from test_imports import BLOCK

from acclimate.core.errors import Problems, UserError
from acclimate.core.recipe import Recipe
from acclimate.core.run import Run
from acclimate.engine.phase import Outcome, Phase
from acclimate.engine.trial import Aside
from acclimate.engine.watcher import Mistake, Watcher, Watchers
from acclimate.tracking import tracker as trackers
from acclimate.tracking.flat import figures, settings
from acclimate.tracking.tensorboard import TensorBoard
from acclimate.tracking.tracker import MOST, Tracker, books, followed
from acclimate.verbs.fit import fit

ASKED: dict[str, Any] = {
    "model": TINY,
    "size": 32,
    "strategy": "last:1",
    "epochs": 2,
    "precision": "fp32",
    "fresh": True,
}
"""A probe, then two epochs of three steps."""
PATIENCE = 30.0
"""Seconds after which what another process writes is taken never to come."""


class Noted:
    """A book that can be looked into."""

    name, where = "noted", "in the test"

    def __init__(self, refuses: str = "") -> None:
        self.refuses, self.ended, self.opened, self.full = refuses, "", list[Any](), False
        self.told: dict[str, list[tuple[int, float]]] = defaultdict(list)

    def open(self, run: Run, folder: Path, known: str | None, settings: Mapping[str, Any]) -> str:
        if self.refuses:
            raise ConnectionError(self.refuses)
        self.opened.append(known)
        return known or "first"

    def points(self, axis: str, place: int, values: Mapping[str, float]) -> None:
        if self.full:
            raise OSError("the disk is full")
        for name, value in values.items():
            self.told[name].append((place, value))

    def flush(self) -> None: ...

    def result(
        self, run: Run, settings: Mapping[str, Any], figures: Mapping[str, float], samples: Sequence[Mistake]
    ) -> None:
        self.figures, self.samples = figures, samples

    def close(self, ended: str) -> None:
        self.ended = ended


class Breaking(Watcher):
    """Stops a run after so many steps."""

    def __init__(self, after: int) -> None:
        self.left = after

    def step(self, step: int, loss: torch.Tensor, rate: float) -> None:
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1


def outcome(index: int, steps: int = 0, **notes: Any) -> Outcome:
    notes |= {"steps": steps} if steps else {}
    return Outcome(index, f"phase {index}", 0.5 + index / 10, 1.0, 1, np.zeros(4), np.ones(4), notes)


@pytest.fixture
def begun(tmp_path: Path) -> Run:
    """A run folder in which nothing was done yet."""
    run = Run(tmp_path / "run")
    run.write("recipe.yaml", Recipe(acclimate="0", data="data", asked={"lr": 0.1}, resolved={"seed": 0}).text())
    return run


def steps(watcher: Watcher, first: int, last: int) -> None:
    for step in range(first, last + 1):
        watcher.step(step, torch.tensor(1 / step), 0.1)


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows of a folder."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0, "tensors": 0}).Reload()
    return {tag: [(event.step, event.value) for event in read.Scalars(tag)] for tag in read.Tags()["scalars"]}


# --- how steps become points


def test_steps_are_counted_over_phases(begun: Run) -> None:
    book = Noted()
    with Tracker(book, print) as tracker:
        tracker.begun(begun)
        tracker.outcome(outcome(0))
        steps(tracker, 1, 3)
        tracker.validated(1, 0.75, 0.5)
        tracker.outcome(outcome(1, steps=3))
        tracker.outcome(outcome(2, steps=7, remembered=True))
        steps(tracker, 1, 2)
        tracker.outcome(outcome(3, steps=2))
    assert [step for step, _ in book.told["train/loss"]] == [1, 2, 3, 4, 5]
    assert book.told["train/loss"][3][1] == 1.0
    assert book.told["validation/primary"] == [(3, 0.75)]
    assert book.told["phase/primary"] == [(0, 0.5), (1, 0.6), (2, 0.7), (3, 0.8)]
    assert book.ended == "failed"  # nobody said that the run was finished


def test_all_who_look_on_are_told_everything() -> None:
    ears = Heard(), Heard()
    both = Watchers(*ears)
    both.work("looking", 1, of=3)
    both.say("done")
    assert [ear.lines for ear in ears] == [["done"], ["done"]]


def test_what_the_cache_remembered_has_its_curve(begun: Run) -> None:
    book = Noted()
    curve = [{"epoch": 1, "step": 2, "loss": 0.9, "value": 0.5, "val_loss": 0.8}, {"epoch": 2, "step": 4, "loss": 0.6}]
    with Tracker(book, print) as tracker:
        tracker.begun(begun)
        tracker.outcome(outcome(0, steps=4, remembered=True, curve=curve))
        steps(tracker, 1, 1)
        tracker.validated(1, 0.75, None)
        tracker.outcome(outcome(1, steps=1))
    assert book.told["train/loss"] == [(2, 0.9), (4, 0.6), (5, 1.0)]
    assert book.told["validation/primary"] == [(2, 0.5), (5, 0.75)]
    assert book.told["validation/loss"] == [(2, 0.8)], "of boxes there is none"


def test_losses_are_looked_at_seldom(begun: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(trackers.time, "monotonic", lambda: now)
    book = Noted()
    with Tracker(book, print) as tracker:
        tracker.begun(begun)
        steps(tracker, 1, 1000)
        assert not book.told
        now = 2.0
        steps(tracker, 1001, 1002)
        (told,) = (book.told["train/loss"],)
        assert 2 <= len(told) <= MOST
        assert told[-1][0] == 1001
        assert len({later[0] - one[0] for one, later in pairwise(told)}) == 1


def test_a_curve_goes_on_where_it_was(begun: Run) -> None:
    first, second = Noted(), Noted()
    with pytest.raises(KeyboardInterrupt), Tracker(first, print) as tracker:
        tracker.begun(begun)
        tracker.outcome(outcome(0))
        steps(tracker, 1, 5)
        raise KeyboardInterrupt
    assert first.ended == "stopped"
    with Tracker(second, print) as tracker:
        tracker.begun(begun)
        tracker.outcome(outcome(0))  # replayed
        steps(tracker, 4, 7)  # from a checkpoint before the stop
        tracker.validated(1, 0.5, 0.5)
    assert second.opened == ["first"]
    assert [step for step, _ in second.told["train/loss"]] == [6, 7]
    assert "phase/primary" not in second.told
    assert second.told["validation/primary"] == [(7, 0.5)]


def test_steps_of_a_trial_are_not_of_the_run() -> None:
    class Steps(Watcher):
        def __init__(self) -> None:
            self.seen: list[Any] = []

        def step(self, step: int, loss: torch.Tensor, rate: float) -> None:
            self.seen.append(step)

        def work(self, what: str, done: int, of: int) -> None:
            self.seen.append((what, done, of))

    outer = Steps()
    aside = Aside(outer, "fold 1")
    aside.phase(Phase("all layers", "", ("head",), (0.1,)), 4)
    steps(aside, 1, 1)
    assert outer.seen == [("fold 1: all layers", 0, 4), ("fold 1: all layers", 1, 4)]


def test_a_tracker_that_cannot_begin_is_told(begun: Run) -> None:
    with (
        pytest.raises(UserError, match="--track noted: cannot be begun: no route"),
        followed(Heard(), [Noted("no  route")]) as watcher,
    ):
        watcher.begun(begun)


def test_a_tracker_that_fails_does_not_end_the_run(begun: Run) -> None:
    book, heard = Noted(), Heard()
    with followed(heard, [book]) as watcher:
        watcher.begun(begun)
        watcher.outcome(outcome(0))
        book.full = True
        watcher.outcome(outcome(1))
        book.full = False
        watcher.outcome(outcome(2))
    assert book.told["phase/primary"] == [(0, 0.5)]
    assert heard.lines == [
        "noted: in the test",
        "--track noted failed, and the run goes on without it: the disk is full",
    ]
    assert json.loads(begun.file("track/noted.json").read_text())["held"]["phase/primary"] == 0


# --- through a fit


def test_tensorboard_shows_a_run(digits: Path, tmp_path: Path) -> None:
    run = fit(digits, out=tmp_path / "run", track="tensorboard", **ASKED)
    shown = curves(run.file("track/tensorboard"))
    epochs = [event for event in run.events() if event["event"] == "epoch"]
    assert [step for step, _ in shown["train/loss"]] == [1, 2, 3, 4, 5, 6]
    assert [step for step, _ in shown["train/learning rate"]] == [1, 2, 3, 4, 5, 6]
    for name, kept in (("accuracy", "value"), ("loss", "val_loss")):
        assert [step for step, _ in shown[f"validation/{name}"]] == [3, 6]
        assert [value for _, value in shown[f"validation/{name}"]] == pytest.approx([event[kept] for event in epochs])
    assert len(shown["phase/accuracy"]) == 2
    for name, metric in run.metrics()["metrics"].items():
        assert shown[f"test/{name}"] == [(0, pytest.approx(metric["value"]))]
        assert shown[f"test/{name} low"] == [(0, pytest.approx(metric["low"]))]
    assert "track" not in Recipe.read(run.file("recipe.yaml")).asked


def test_tensorboard_compares_settings(digits: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    run = fit(digits, out=tmp_path / "run", track=["tensorboard"], lr=0.01, **ASKED)
    read = EventAccumulator(str(run.file("track/tensorboard"))).Reload()
    told = read.PluginTagToContent("hparams")
    values = HParamsPluginData.FromString(told["_hparams_/session_start_info"]).session_start_info.hparams
    assert values["lr"].number_value == 0.01
    assert values["strategy"].string_value == "last:1"
    assert values["samples.train"].number_value == 82
    assert values["phase.epochs"].number_value == 2
    infos = HParamsPluginData.FromString(told["_hparams_/experiment"]).experiment.metric_infos
    assert {info.name.tag for info in infos} == {f"test/{name}" for name in run.metrics()["metrics"]}
    assert settings(run)["chosen"] == run.metrics()["chosen"]


def test_an_interrupted_fit_leaves_the_curves_of_one_that_was_not(digits: Path, tmp_path: Path) -> None:
    asked = ASKED | {"track": "tensorboard", "checkpoint_every": 0.0}
    whole = fit(digits, out=tmp_path / "whole", **asked)
    with pytest.raises(KeyboardInterrupt):
        fit(digits, out=tmp_path / "run", watcher=Breaking(4), **asked)
    run = fit(digits, out=tmp_path / "run", resume=True, **asked)
    assert len(list(run.file("track/tensorboard").iterdir())) == 2
    expected, found = (curves(one.file("track/tensorboard")) for one in (whole, run))
    assert expected.keys() == found.keys()
    for name in expected.keys() - {"seconds", "phase/seconds"}:
        assert found[name] == expected[name], name


def test_a_run_may_be_gone_on_with_without_its_tracker(digits: Path, tmp_path: Path) -> None:
    asked = ASKED | {"checkpoint_every": 0.0, "out": tmp_path / "run"}
    with pytest.raises(KeyboardInterrupt):
        fit(digits, watcher=Breaking(4), track="tensorboard", **asked)
    assert fit(digits, resume=True, **asked).finished


def test_mistakes_are_shown_in_tensorboard(digits: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = fit(digits, out=tmp_path / "run", **ASKED)
    book = TensorBoard()
    book.open(run, run.file("track"), None, settings(run))
    book.result(run, settings(run), figures(run), (picture(), Mistake("b", "text", "<b>is</b>\n# shown")))
    book.close("finished")
    read = EventAccumulator(str(run.file("track/tensorboard"))).Reload()
    (image,) = read.Images("mistakes/001 3 for 5")
    shown = np.asarray(Image.open(io.BytesIO(image.encoded_image_string)))
    assert shown.shape == (4, 6, 3)
    assert (shown == 200).all()
    (text,) = read.Tensors("mistakes/002 b/text_summary")
    assert text.tensor_proto.string_val[0].decode() == "    <b>is</b>\n    # shown\n"


def picture() -> Mistake:
    file = io.BytesIO()
    Image.new("RGB", (6, 4), (200, 200, 200)).save(file, "PNG")
    return Mistake("3 for 5", "picture", file.getvalue())


def test_mlflow_holds_a_run(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
    asked = ASKED | {"track": "mlflow", "checkpoint_every": 0.0, "out": tmp_path / "run"}
    with pytest.raises(KeyboardInterrupt):
        fit(digits, watcher=Breaking(4), **asked)
    client = mlflow.MlflowClient()
    (stopped,) = client.search_runs(["0"])
    assert stopped.info.status == "KILLED"
    run = fit(digits, resume=True, **asked)
    (kept,) = client.search_runs(["0"])
    assert (kept.info.status, kept.info.run_name) == ("FINISHED", "run")
    points = client.get_metric_history(kept.info.run_id, "train/loss")
    assert sorted(point.step for point in points) == [1, 2, 3, 4, 5, 6]
    assert kept.data.metrics["test/accuracy"] == run.metrics()["metrics"]["accuracy"]["value"]
    assert kept.data.params["strategy"] == "last:1"
    assert kept.data.params["phase.batch_size"] == "32"
    files = {file.path for file in client.list_artifacts(kept.info.run_id)}
    assert {"recipe.yaml", "metrics.json", "README.md"} <= files


def test_mlflow_keeps_mistakes(begun: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
    (book,) = books("mlflow", Problems())
    begun.write_json("metrics.json", {"verdict": "as good as its baseline"})
    id = book.open(begun, tmp_path, None, {"lr": 0.1})
    book.result(
        begun, {"lr": 0.1, "chosen": "probe"}, {"test/ap: ../<b>": 0.5}, (picture(), Mistake("../a b", "text", "said"))
    )
    book.close("finished")
    client = mlflow.MlflowClient()
    assert client.get_run(id).data.tags["mlflow.note.content"] == "as good as its baseline"
    names = [file.path for file in client.list_artifacts(id, "mistakes")]
    assert names == ["mistakes/001 3 for 5.png", "mistakes/002 _a b.txt"]
    assert client.get_run(id).data.metrics == {"test/ap: ..__b_": 0.5}
    assert client.get_run(id).data.params == {"lr": "0.1", "chosen": "probe"}


def test_wandb_keeps_a_run_without_a_network(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    asked = ASKED | {"track": "wandb", "checkpoint_every": 0.0, "out": tmp_path / "run"}
    with pytest.raises(KeyboardInterrupt):
        fit(digits, watcher=Breaking(4), **asked)
    run = fit(digits, resume=True, **asked)
    id = json.loads(run.file("track/wandb.json").read_text())["known"]
    rows, end = list[dict[str, Any]](), time.monotonic() + PATIENCE
    while not any(row.get("phase") == 1 for row in rows) and time.monotonic() < end:  # its own process writes the end
        time.sleep(0.05)
        parts = sorted(run.file("track/wandb").glob(f"offline-run-*-{id}*/run-{id}.wandb"))
        rows = [row for part in parts for row in history(part)]
    assert len(parts) == 2
    for axis, curve, places in (
        ("step", "train/loss", [1, 2, 3, 4, 5, 6]),
        ("step", "validation/accuracy", [3, 6]),
        ("phase", "phase/accuracy", [0, 1]),
    ):
        assert [row[axis] for row in rows if curve in row] == places


def history(file: Path) -> list[dict[str, Any]]:
    """The rows of an offline file of Weights & Biases: 7 bytes, then records as LevelDB's log has them, in blocks of 32 KiB."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, place, whole, rows = file.read_bytes(), 7, b"", []
    while place + 7 < len(data):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        whole += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part of one
            record, whole = Record.FromString(whole), b""
            if record.WhichOneof("record_type") == "history":
                items = record.history.item
                rows.append({item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items})
    return rows


# --- what is refused before anything is written


def test_unknown_trackers_are_refused_with_the_other_mistakes(digits: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError) as told:
        fit(digits, track=["tensorbord", "tensorboard"], lr=-1, out=tmp_path / "run")
    assert "tracker 'tensorbord': is not a known tracker\n  did you mean 'tensorboard'?" in str(told.value)
    assert "--lr -1" in str(told.value)
    assert not (tmp_path / "run").exists()


def test_a_tracker_that_is_not_installed_names_the_line_that_installs_it() -> None:
    code = f"{BLOCK}\nfrom acclimate.core.errors import Problems\nfrom acclimate.tracking.tracker import books\n"
    code += "problems = Problems()\nassert books(['tensorboard', 'mlflow', 'wandb'], problems) == []\nprint(*problems.found)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    for name, extra in (("tensorboard", "track"), ("mlflow", "mlflow"), ("wandb", "wandb")):
        line = f"--track {name}: needs the extra '{extra}', which is not installed\n  pip install 'acclimate[{extra}]'"
        assert line in done.stdout, done.stderr


def test_the_command_line_takes_several(cli: Any, digits: Path, tmp_path: Path) -> None:
    _, err, code = cli(f"fit {digits} --track tensorboard --track wandbb --out {tmp_path / 'run'}")
    assert code == 2
    assert "tracker 'wandbb'" in err and "did you mean 'wandb'?" in err
