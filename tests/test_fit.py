"""A fit from end to end: what it leaves behind, what it says, and that the same is the same again."""

from __future__ import annotations

import functools
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY, Heard
from safetensors.torch import load_file

from acclimate.core.errors import UserError
from acclimate.core.recipe import Recipe
from acclimate.core.run import Run
from acclimate.engine.saved import _digest
from acclimate.verbs.evaluate import evaluate
from acclimate.verbs.fit import Plan
from acclimate.verbs.fit import fit as remembering_fit
from acclimate.verbs.predict import load

fit = functools.partial(remembering_fit, fresh=True)
"""What is tested is training, not remembering."""
QUICK: dict[str, Any] = {"model": TINY, "size": 32, "epochs": 2, "batch_size": 16, "precision": "fp32"}


def weights(run: Run) -> dict[str, torch.Tensor]:
    return load_file(run.file("model.safetensors"))


def same(first: Run, second: Run) -> bool:
    one, two = weights(first), weights(second)
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


@pytest.fixture(scope="module")
def run(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return fit(digits, strategy="last:2", out=tmp_path_factory.mktemp("runs") / "one", **QUICK)


def test_the_run_folder_holds_what_it_should(run: Run) -> None:
    found = {str(path.relative_to(run.path)) for path in run.path.rglob("*") if path.is_file()}
    assert found == {
        ".lock",
        "checkpoint/phase-0.safetensors",
        "checkpoint/phase-1.safetensors",
        "answers.npz",
        "doubtful.csv",
        "environment.json",
        "learned.npy",
        "chose.npy",
        "log.jsonl",
        "metrics.json",
        "model.json",
        "model.safetensors",
        "recipe.yaml",
        "README.md",
        "report.html",
    }


def test_the_result_has_every_figure_with_its_interval(run: Run) -> None:
    result = run.metrics()
    assert {"run", "task", "model", "strategy", "seconds", "split", "metrics"} <= result.keys()
    assert result["split"] == "test"
    assert {"accuracy", "balanced_accuracy", "macro_f1"} <= result["metrics"].keys()
    for metric in result["metrics"].values():
        assert metric["n"] == 32
        assert metric["low"] <= metric["value"] <= metric["high"]


def test_training_learns(digits: Path, tmp_path: Path) -> None:
    done = fit(digits, strategy="full", out=tmp_path / "run", **{**QUICK, "epochs": 15})
    assert done.metrics()["metrics"]["accuracy"]["value"] > 0.7  # chance is 0.25


def test_the_log_has_a_line_for_each_phase_and_epoch(run: Run) -> None:
    events = run.events()
    assert [event["index"] for event in events if event["event"] == "outcome"] == [0, 1]
    assert [event["epoch"] for event in events if event["event"] == "epoch"] == [1, 2]


def test_evaluate_gives_the_numbers_of_the_fit(run: Run, digits: Path) -> None:
    assert evaluate(run.path, digits)["metrics"] == run.metrics()["metrics"]


def test_evaluate_of_a_cut_validation_split_gives_the_numbers_of_the_fit(digits: Path, tmp_path: Path) -> None:
    done = fit(digits / "train", strategy="probe", out=tmp_path / "run", **{"model": TINY, "size": 32})
    assert done.metrics()["split"] == "val"
    assert evaluate(done.path, digits / "train")["metrics"] == done.metrics()["metrics"]


def test_predict_answers_as_the_evaluation_counts(run: Run, digits: Path) -> None:
    model = load(run.path)
    files = sorted((digits / "test").glob("*/*.png"))
    answers = model.predict([str(file) for file in files])
    right = np.mean([answer["label"] == file.parent.name for answer, file in zip(answers, files, strict=True)])
    assert right == pytest.approx(run.metrics()["metrics"]["accuracy"]["value"])
    assert model.predict(files[0])["label"] == answers[0]["label"]


def test_the_recipe_replays_to_the_same_weights(run: Run, tmp_path: Path) -> None:
    again = fit(recipe=run.file("recipe.yaml"), out=tmp_path / "again")
    assert same(run, again)


@pytest.fixture
def empty_cache(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another cache, without activations, but with the arithmetic measured before."""
    (tmp_path / "cache").mkdir()
    shutil.copy(cache / "machine.json", tmp_path / "cache")
    monkeypatch.setenv("ACCLIMATE_CACHE", str(tmp_path / "cache"))


@pytest.mark.usefixtures("empty_cache")
def test_another_cache_changes_nothing(run: Run, digits: Path, tmp_path: Path) -> None:
    again = fit(digits, strategy="last:2", out=tmp_path / "again", **QUICK)
    assert same(run, again)


@pytest.mark.usefixtures("empty_cache")
def test_a_cache_without_room_is_said_and_the_fit_goes_on(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCLIMATE_CACHE_GB", "0.000001")
    done = fit(digits, strategy="last:2", out=tmp_path / "run", **QUICK)
    assert any("no view fits" in event["phase"]["why"] for event in done.events() if event["event"] == "outcome")
    assert done.finished


@pytest.mark.parametrize("strategy", ["probe", "full", "lp-ft", "layer-decay", "gradual", "plain", "auto"])
def test_every_strategy_reaches_its_end(strategy: str, digits: Path, tmp_path: Path) -> None:
    asked = QUICK if strategy != "probe" else {key: QUICK[key] for key in ("model", "size", "precision")}
    done = fit(digits, strategy=strategy, out=tmp_path / "run", **asked)
    assert done.finished
    assert 0 <= done.metrics()["metrics"]["accuracy"]["value"] <= 1


@pytest.mark.parametrize(
    "options",
    [
        {"augment": "mixup"},
        {"augment": "cutmix"},
        {"augment": "randaugment", "balance": "sampling"},
        {"balance": "weights", "label_smoothing": 0.2, "optimizer": "sgd", "schedule": "linear", "lr": 0.01},
        {"ema": 0.9},
        {"patience": 1},
        {"freeze": "blocks.1"},
    ],
    ids=lambda options: "-".join(options),
)
def test_every_option_takes_effect(options: dict[str, Any], digits: Path, tmp_path: Path) -> None:
    """Each gives other weights than the run without it, and the same weights twice."""
    plain = fit(digits, strategy="full", out=tmp_path / "plain", **QUICK)
    first = fit(digits, strategy="full", out=tmp_path / "first", **{**QUICK, **options})
    second = fit(digits, strategy="full", out=tmp_path / "second", **{**QUICK, **options})
    assert same(first, second)
    assert not same(plain, first) or "patience" in options


@pytest.mark.parametrize("balance", ["weights", "sampling"])
def test_a_probe_heeds_the_balance(balance: str, digits: Path, tmp_path: Path) -> None:
    shutil.copytree(digits, tmp_path / "digits")
    for file in sorted((tmp_path / "digits" / "train" / "0").iterdir())[8:]:
        file.unlink()
    options = {"strategy": "probe", "model": TINY, "size": 32, "precision": "fp32"}
    plain = fit(tmp_path / "digits", out=tmp_path / "plain", **options)
    balanced = fit(tmp_path / "digits", out=tmp_path / "balanced", balance=balance, **options)
    assert not same(plain, balanced)


def test_a_phase_that_learns_from_everything_says_so(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("acclimate.strategies.auto.better", lambda new, old: new.index > old.index)
    monkeypatch.setattr("acclimate.strategies.auto.gain", lambda new, old: (0.1, 0.01))
    done = fit(digits, out=tmp_path / "run", **QUICK)
    outcomes = [event for event in done.events() if event["event"] == "outcome"]
    assert [event["notes"].get("learned from validation", False) for event in outcomes] == [False, True]
    assert all("value" not in event for event in done.events() if event["event"] == "epoch")
    whole = [evaluate(done.path, digits, split=name) for name in ("train", "val", "test")]
    assert [one["learned"] for one in whole] == [one["metrics"]["accuracy"]["n"] for one in whole[:2]] + [0]
    assert done.metrics()["split"] == "test"


def test_plain_is_the_textbook(digits: Path) -> None:
    plan = fit(digits, strategy="plain", dry_run=True, model=TINY, size=32)
    assert isinstance(plan, Plan)
    (phase,) = plan.phases
    assert (phase.optimizer, phase.momentum, phase.epochs, phase.schedule) == ("sgd", 0.9, 25, "constant")
    assert set(phase.lr) == {0.001}
    assert phase.stages == (*plan.job.stages, "head")
    assert (phase.weight_decay, phase.label_smoothing, phase.augment, phase.warmup) == (0, 0, "none", 0)


def test_a_dry_run_writes_no_run(digits: Path, tmp_path: Path) -> None:
    fit(digits, dry_run=True, model=TINY, size=32, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_frozen_stages_keep_their_bits(run: Run, digits: Path, tmp_path: Path) -> None:
    fresh = fit(digits, strategy="probe", out=tmp_path / "run", model=TINY, size=32)
    before, after = weights(fresh), weights(run)
    manifest = run.read_json("model.json")
    trained = tuple(f"backbone.trunk.{stage}." for stage in manifest["stages"][-2:])
    backbone = [name for name in before if name.startswith("backbone.")]
    frozen = [name for name in backbone if not name.startswith(trained) and "bn2" not in name]
    assert frozen
    assert all(torch.equal(before[name], after[name]) for name in frozen)
    assert any(not torch.equal(before[name], after[name]) for name in backbone)


def test_the_budget_is_kept(digits: Path, tmp_path: Path) -> None:
    done = fit(digits, strategy="full", minutes=0.25, **{**QUICK, "epochs": 5000}, out=tmp_path / "run")
    assert done.metrics()["seconds"] < 21
    (outcome,) = (event for event in done.events() if event["event"] == "outcome")
    assert outcome["notes"]["cut by the budget"]
    ends = [value for name, value in done.decisions().items() if name.startswith("end 0 at ")]
    assert outcome["notes"]["steps"] <= ends[-1] < outcome["phase"]["epochs"]


def test_a_replay_ends_where_the_recipe_says_not_where_the_clock_does(digits: Path, tmp_path: Path) -> None:
    first = fit(digits, strategy="full", minutes=0.25, **{**QUICK, "epochs": 5000}, out=tmp_path / "first")
    recipe = Recipe.read(first.file("recipe.yaml"))
    assert "end 0 at 16" in recipe.decisions
    assert recipe.resolved["phases"][0]["epochs"] == 5000
    second = fit(recipe=first.file("recipe.yaml"), out=tmp_path / "second")
    assert same(first, second)
    again = Recipe.read(second.file("recipe.yaml"))
    assert again.decisions == recipe.decisions


def test_what_is_asked_beside_a_recipe_decides_anew(digits: Path, tmp_path: Path) -> None:
    first = fit(digits, strategy="probe", out=tmp_path / "first", model=TINY, size=32, precision="fp32")
    text = first.file("recipe.yaml").read_text()
    (tmp_path / "recipe.yaml").write_text(text.replace("why: ", "why: repeated; "))
    same_again = fit(recipe=tmp_path / "recipe.yaml", out=tmp_path / "second")
    assert "repeated" in json.dumps(same_again.decisions())
    otherwise = fit(recipe=tmp_path / "recipe.yaml", seed=3, out=tmp_path / "third")
    assert "repeated" not in json.dumps(otherwise.decisions())


def test_a_recipe_of_another_version_is_said(digits: Path, tmp_path: Path) -> None:
    watcher = Heard()
    recipe = Recipe(acclimate="9.9.9", data=str(digits), asked={"model": TINY, "size": 32, "strategy": "probe"})
    (tmp_path / "recipe.yaml").write_text(recipe.text())
    fit(recipe=tmp_path / "recipe.yaml", dry_run=True, watcher=watcher)
    assert "was written by acclimate 9.9.9" in watcher.lines[0]


def test_a_budget_too_short_for_anything_is_said(digits: Path) -> None:
    plan = fit(digits, dry_run=True, minutes=0.0001, model=TINY, size=32)
    assert isinstance(plan, Plan)
    assert [phase.name for phase in plan.phases] == ["probe"]
    assert "the budget is too short" in plan.notes[-1]


def test_a_list_of_pairs_is_data_too(digits: Path, tmp_path: Path) -> None:
    pairs = [(str(file), file.parent.name) for file in sorted((digits / "train").glob("*/*.png"))]
    done = fit(pairs, strategy="probe", out=tmp_path / "run", model=TINY, size=32)
    assert Recipe.read(done.file("recipe.yaml")).data == "<list in memory>"


def test_several_labels_a_sample(digits: Path, tmp_path: Path) -> None:
    rows = [
        json.dumps(
            {"image": str(file), "labels": [file.parent.name, "even" if int(file.parent.name) % 2 == 0 else "odd"]}
        )
        for file in sorted((digits / "train").glob("*/*.png"))
    ]
    (tmp_path / "data.jsonl").write_text("\n".join(rows))
    done = fit(tmp_path / "data.jsonl", strategy="last:1", out=tmp_path / "run", **QUICK)
    answer = load(done.path).predict(
        str(digits / "test" / "0" / sorted(p.name for p in (digits / "test" / "0").iterdir())[0])
    )
    assert set(answer["probabilities"]) == {"0", "1", "2", "3", "even", "odd"}


def test_a_changed_model_file_is_refused(digits: Path, tmp_path: Path) -> None:
    done = fit(digits, strategy="probe", out=tmp_path / "run", model=TINY, size=32)
    from safetensors.torch import save_file

    changed = weights(done)
    changed["head.linear.bias"] += 1.0
    changed["head.linear.bias"][0] -= 3.0
    save_file(changed, done.file("model.safetensors"))
    with pytest.raises(UserError, match="has another model"):
        load(done.path)
    manifest = done.read_json("model.json")
    manifest["digest"] = _digest(done.file("model.safetensors").read_bytes(), manifest, {})
    done.write_json("model.json", manifest)
    with pytest.raises(UserError, match="does not predict what it did"):
        load(done.path)


def test_a_class_renamed_by_hand_is_refused(digits: Path, tmp_path: Path) -> None:
    done = fit(digits, strategy="probe", out=tmp_path / "run", model=TINY, size=32)
    done.write("model.json", done.file("model.json").read_text().replace('"1"', '"one"', 1))
    with pytest.raises(UserError, match="has another model"):
        load(done.path)


def test_samples_that_were_learned_from_are_known_in_any_layout(run: Run, digits: Path, tmp_path: Path) -> None:
    rows = ["file,kind", *(f"{file},{file.parent.name}" for file in sorted(digits.glob("*/*/*.png")))]
    (tmp_path / "all.csv").write_text("\n".join(rows))
    found = evaluate(run.path, tmp_path / "all.csv", image="file", label="kind")
    learned = next(event["samples"]["train"] for event in run.events() if event["event"] == "begin")
    assert (found["split"], found["learned"]) == ("all", learned)


def test_a_run_that_lost_what_it_learned_from_is_told(run: Run, digits: Path, tmp_path: Path) -> None:
    shutil.copytree(run.path, tmp_path / "run")
    for damage in (b"x", None):
        (tmp_path / "run" / "learned.npy").write_bytes(damage) if damage else (
            tmp_path / "run" / "learned.npy"
        ).unlink()
        with pytest.raises(UserError, match="is not there or damaged"):
            evaluate(tmp_path / "run", digits)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_what_was_passed_over_is_named_in_the_log(digits: Path, tmp_path: Path) -> None:
    shutil.copytree(digits, tmp_path / "digits")
    (tmp_path / "digits" / "train" / "0" / "notes.txt").write_text("x")
    os.mkfifo(tmp_path / "digits" / "train" / "0" / "pipe.png")
    done = fit(tmp_path / "digits", strategy="probe", out=tmp_path / "run", model=TINY, size=32)
    (begun,) = [event for event in done.events() if event["event"] == "begin"]
    passed = begun["passed_over"]["files that are no pictures passed over"]
    assert passed == [2, ["train/0/pipe.png", "train/0/notes.txt"]]


def test_the_same_again_is_remembered_and_gives_the_same_weights(run: Run, digits: Path, tmp_path: Path) -> None:
    first = remembering_fit(digits, strategy="last:2", out=tmp_path / "first", **QUICK)
    second = remembering_fit(digits, strategy="last:2", out=tmp_path / "second", **QUICK)
    assert same(run, first)
    assert same(first, second)
    assert first.metrics()["metrics"] == second.metrics()["metrics"]
    assert all(event["notes"].get("remembered") for event in second.events() if event["event"] == "outcome")
    curves = [[phase.get("curve") for phase in one.metrics()["phases"]] for one in (first, second)]
    assert curves[0] == curves[1] and any(curves[0]), "remembered with its curve"
    assert [phase.get("remembered") for phase in second.metrics()["phases"]] == [True] * len(curves[1])
    other = remembering_fit(digits, strategy="last:2", out=tmp_path / "other", **{**QUICK, "seed": 1})
    assert not any(event["notes"].get("remembered") for event in other.events() if event["event"] == "outcome")


def test_the_clock_of_a_run_stands_still_between_processes(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.start(time.monotonic() - 100)
    run.log("begin")
    run.log("epoch")
    later = Run(tmp_path)
    later.start(time.monotonic() - 10)
    assert 110 <= later.elapsed() < 111
