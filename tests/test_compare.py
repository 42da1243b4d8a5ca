"""compare and runs: which run is better on the same samples, what cannot be compared, and what a folder of runs holds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY

from acclimate.core.errors import UserError
from acclimate.core.run import Run
from acclimate.verbs.compare import compare
from acclimate.verbs.fit import fit
from acclimate.verbs.runs import runs


@pytest.fixture(scope="module")
def home(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of digits: one by features, one that hardly learned, one with an unlike task."""
    home = tmp_path_factory.mktemp("runs")
    fit(digits, strategy="probe", model=TINY, size=32, out=home / "good")
    fit(digits, strategy="plain", lr=1e-6, epochs=1, model=TINY, size=32, out=home / "bad")
    return home


def test_the_better_run_is_told_and_comes_first(home: Path) -> None:
    found = compare(home / "bad", home / "good")
    assert [one["name"] for one in found["runs"]] == ["good", "bad"]
    (pair,) = found["pairs"]
    assert (pair["better"], pair["than"], pair["told"], pair["needed"]) == ("good", "bad", True, None)
    figures = {one["name"]: one["metrics"]["accuracy"] for one in found["runs"]}
    assert figures["good"] == Run(home / "good").metrics()["metrics"]["accuracy"]
    assert pair["difference"]["value"] == pytest.approx(figures["good"]["value"] - figures["bad"]["value"], abs=0.05)
    assert found["verdict"].startswith("good is better by ") and found["samples"] == 32
    told = [Run(home / name).metrics()["metrics"] for name in ("good", "bad")]
    for name in ("macro_f1", "log_loss"):
        assert pair["also"][name]["value"] == pytest.approx(told[0][name]["value"] - told[1][name]["value"], abs=1e-5)
    assert pair["also"]["macro_f1"]["low"] > 0 > pair["also"]["log_loss"]["high"]
    assert found["runs"][0]["cost"]["latency_ms"] > 0 and found["runs"][0]["cost"]["disk_bytes"] > 100_000


def test_a_run_and_its_copy_are_within_noise(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "good", tmp_path / "copy")
    found = compare(home / "good", tmp_path / "copy")
    assert found["verdict"].startswith("within noise: ")
    assert "there is no difference to tell" in found["verdict"]
    three = compare(home / "good", tmp_path / "copy", home / "bad")
    assert len(three["pairs"]) == 3
    assert all(one["adjusted"] >= one["p"] for one in three["pairs"])
    assert {(one["better"], one["told"]) for one in three["pairs"] if one["than"] == "bad"} == {
        ("good", True),
        ("copy", True),
    }


def few(digits: Path, folder: Path) -> Path:
    """One test picture of each class."""
    for one in (digits / "test").iterdir():
        (folder / one.name).mkdir(parents=True)
        shutil.copy(next(one.iterdir()), folder / one.name)
    return folder


def test_other_data_are_answered_anew(home: Path, digits: Path, tmp_path: Path) -> None:
    """The same samples by way of --data: the same figures; samples that were learned from are left out."""
    kept, asked = compare(home / "good", home / "bad"), compare(home / "good", home / "bad", data=digits / "test")
    assert asked["pairs"] == kept["pairs"] and asked["runs"] == kept["runs"]
    held = compare(home / "good", home / "bad", data=digits / "train")
    assert held["samples"] == 14  # those that validated
    assert held["notes"] == ["82 samples are left out, since one of the runs has learned from them or from near copies"]
    with pytest.raises(UserError, match=r"have 4 samples in common(?s:.*)name other labelled data"):
        compare(home / "good", home / "bad", data=few(digits, tmp_path / "few"))


def test_what_cannot_be_compared_is_told(home: Path, tmp_path: Path, cli: Any) -> None:
    assert "name two or more" in cli(f"compare {home / 'good'}")[1]
    out, err, code = cli(f"compare {home / 'good'} {tmp_path / 'none'} --device tpu")
    assert code == 2 and out == "" and "'tpu'" in err and "is not there" in err
    err = cli(f"compare {home / 'good'} {home / 'bad'} --split test")[1]
    assert "--split: has no effect without --data" in err
    other = tmp_path / "other"
    shutil.copytree(home / "good", other)
    manifest = json.loads((other / "model.json").read_text())
    manifest["task"]["spec"]["classes"][0] = "naught"
    (other / "model.json").write_text(json.dumps(manifest))
    assert "tell different classes apart: '0', 'naught'" in cli(f"compare {home / 'good'} {other}")[1]
    manifest["task"]["name"] = "detection"
    (other / "model.json").write_text(json.dumps(manifest))
    assert "have different tasks, image_classification and detection" in cli(f"compare {home / 'good'} {other}")[1]


def test_a_folder_of_runs_is_listed(home: Path, digits: Path, tmp_path: Path, cli: Any) -> None:
    folder = tmp_path / "runs"
    shutil.copytree(home / "good", folder / "a")
    shutil.copytree(home / "bad", folder / "deeper" / "b")
    shutil.copytree(home / "bad", folder / "c")
    (folder / "c" / "metrics.json").unlink()
    shutil.copytree(home / "bad", folder / "d")
    (folder / "d" / "metrics.json").write_text("{")
    (folder / "not a run").mkdir()
    found = {Path(one["run"]).name: one for one in runs(folder)}
    assert {name: one["state"] for name, one in found.items()} == {
        "a": "finished",
        "b": "finished",
        "c": "unfinished",
        "d": "damaged",
    }
    assert found["a"]["figure"] == Run(home / "good").metrics()["metrics"]["accuracy"]
    assert (found["c"]["figure"], found["c"]["model"], found["a"]["strategy"]) == (None, TINY, "probe")
    out, _, code = cli(f"runs {folder}")
    assert code == 0 and "unfinished" in out and "damaged" in out and "accuracy" in out
    assert len(json.loads(cli(f"runs {folder} --json")[0])) == 4
    assert "no runs in" in cli(f"runs '{folder / 'not a run'}'")[0]
    assert "name a folder of runs" in cli(f"runs {tmp_path / 'none'}")[1]
