"""`choose` as a person uses it: on pictures, texts and boxes, what it says and writes, and what it refuses."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import yaml
from conftest import TINY, Heard, write_digits
from PIL import Image, ImageOps
from safetensors.torch import save_file
from scenes import write_voc

from acclimate.core.errors import UserError
from acclimate.core.recipe import Options
from acclimate.core.run import Run
from acclimate.engine import costs
from acclimate.engine.phase import Phase
from acclimate.engine.trainer import Trainer
from acclimate.metrics.front import front, ranks
from acclimate.metrics.suitability import suitability
from acclimate.models.load import describe
from acclimate.verbs import candidates, field
from acclimate.verbs import chosen as verbs_chosen
from acclimate.verbs.candidates import Candidate, Model, licensed
from acclimate.verbs.choose import Choice, _sentence, choose, finalists, judge, recommend
from acclimate.verbs.entrant import Entrant
from acclimate.verbs.fit import fit
from acclimate.verbs.race import shortened

OTHER = "random:timm:test_resnet"
QUICK: dict[str, Any] = {"models": [TINY, OTHER], "only": True, "size": 32, "precision": "fp32", "strategy": "probe"}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("choose") / "digits", 3, 40)


@pytest.fixture(scope="module")
def dark(plain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Others, in black on white, without labels."""
    folder = tmp_path_factory.mktemp("dark")
    for path in write_digits(folder / "white", 3, 20, first=60).rglob("*.png"):
        ImageOps.invert(Image.open(path)).save(folder / f"{path.parent.name}-{path.name}")
    shutil.rmtree(folder / "white")
    return folder


@pytest.fixture(scope="module")
def found(plain: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Choice, Path]:
    folder = tmp_path_factory.mktemp("out") / "choice"
    return choose(plain, out=folder, **QUICK), folder


def test_every_candidate_has_a_quality_with_an_interval_and_measured_costs(found: tuple[Choice, Path]) -> None:
    said = found[0].json()
    assert {one["model"] for one in said["candidates"]} == {TINY, OTHER}
    for one in said["candidates"]:
        quality, cost = one["quality"], one["costs"]
        assert quality["low"] <= quality["value"] <= quality["high"]
        assert 0 < cost["batch_ms"] <= cost["latency_ms"] * 1.5
        assert cost["memory_bytes"] > cost["disk_bytes"] > 4 * 0.9 * cost["parameters"] > 0
        assert cost["training_seconds"] > 0
        assert {"left-out ridge", "nearest neighbours", "log evidence", "H-score"} == one["scores"].keys()
        assert one["static_rank"] == 1  # random weights: nothing is known of either
        assert (one["licence"], one["source"]) != ("", "")


def test_the_recommendation_is_on_the_front_and_not_told_from_the_best(found: tuple[Choice, Path]) -> None:
    result = found[0]
    said = result.json()
    assert said["recommended"]["title"] in said["front"]
    assert said["recommended"]["title"] in said["within_noise"]
    assert said["recommended"].items() >= {"model": result.settings["model"], "size": 32}.items()
    assert said["recommended"]["why"].startswith(f"Start from {said['recommended']['title']}: ")


def test_the_folder_holds_what_was_said(found: tuple[Choice, Path]) -> None:
    result, folder = found
    assert {path.name for path in folder.iterdir()} == {"choose.json", "front.svg", "front.png"}
    assert json.loads((folder / "choose.json").read_text()) == json.loads(json.dumps(result.json()))
    assert Image.open(folder / "front.png").size[0] > 500


def test_the_same_again_is_the_same_but_for_what_is_timed(found: tuple[Choice, Path], plain: Path) -> None:
    both = [
        {one["model"]: (one["quality"], one["scores"], one["rounds"]) for one in result.json()["candidates"]}
        for result in (found[0], choose(plain, **QUICK))
    ]
    assert both[0] == both[1]


def test_races_run_the_strategy_at_several_rates(plain: Path) -> None:
    said = choose(plain, **{**QUICK, "strategy": "last:1"}).json()
    for one in said["candidates"]:
        assert {"sample", "probe", "short race", "race"} <= one["rounds"].keys() | {"features"}
        assert one["judged_by"] == "all epochs, on validation"
    assert "no time" not in str(said["notes"])


def test_a_race_is_the_strategys_own_trial_where_validation_is_small_and_a_fit_finds_it(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {**QUICK, "strategy": "auto", "epochs": 2}
    said = choose(plain, **asked).json()
    for one in said["candidates"]:
        assert {"short race", "trial"} <= one["rounds"].keys()
        assert one["judged_by"] == "the strategy's own trial, out of fold"
        assert one["quality"]["n"] == said["samples"]["train"] + said["samples"]["val"]
    trained, real = [], Trainer._trimmed
    monkeypatch.setattr(Trainer, "_trimmed", lambda self, *of: trained.append(self.run.path.name) or real(self, *of))
    recommended = said["recommended"]
    settings = {name: recommended[name] for name in ("model", "size", "lr") if name in recommended}
    run = fit(
        plain, out=tmp_path / "run", **settings, **{name: asked[name] for name in ("strategy", "epochs", "precision")}
    )
    assert isinstance(run, Run)
    assert any(event["event"] == "trial" for event in run.events())
    assert set(trained) <= {"run"}  # no fold of it


def test_test_samples_change_nothing(digits: Path, tmp_path: Path) -> None:
    """The test pictures are replaced by noise of the same names."""
    other = shutil.copytree(digits, tmp_path / "digits")
    draw = np.random.default_rng(0)
    for path in (other / "test").rglob("*.png"):
        Image.fromarray(draw.integers(0, 255, (32, 32), dtype=np.uint8)).save(path)
    asked = {**QUICK, "models": [TINY]}
    both = [choose(data, **asked).json()["candidates"][0] for data in (digits, other)]
    assert [one["rounds"] for one in both[:1]] == [one["rounds"] for one in both[1:]]


def test_texts_have_a_cheapest_candidate_of_their_own(texts_data: Path, tiny_bert: Path, tiny_gpt2: Path) -> None:
    said = choose(texts_data, models=f"{tiny_bert},{tiny_gpt2}", only=True, precision="fp32", strategy="probe").json()
    cheap = next(one for one in said["candidates"] if one["title"] == "TF-IDF")
    assert cheap["model"] is None
    assert cheap["costs"]["latency_ms"] > 0
    assert cheap["rounds"].keys() == {"probe"}
    assert said["recommended"]["model"] in (str(tiny_bert), str(tiny_gpt2))
    assert {one["size"] for one in said["candidates"] if one["model"]} == {
        64
    }  # no text is longer than a shorter reading


def test_several_labels(plain: Path, tmp_path: Path) -> None:
    table = tmp_path / "data.csv"
    names = {"0": "round|even", "1": "odd", "2": "even"}
    rows = [f"{path},{names[path.parent.name]}" for path in sorted(plain.rglob("*.png"))]
    table.write_text("\n".join(["image,label", *rows]))
    said = choose(table, separator="|", **{**QUICK, "models": [TINY]}).json()
    assert 0 < said["candidates"][0]["scores"]["left-out ridge"] <= 1


def test_boxes_are_raced_since_features_do_not_tell(tmp_path: Path) -> None:
    write_voc(tmp_path / "boxes", {"train": 8, "val": 4})
    names = [f"random:{kind}:test_efficientnet" for kind in ("fcos", "retinanet", "fasterrcnn")]
    asked: dict[str, Any] = {"only": True, "precision": "fp32", "size": 64, "strategy": "last:1", "epochs": 1}
    said = choose(tmp_path / "boxes", models=names, **asked).json()
    assert len({one["model"] for one in said["candidates"]} & set(names)) == 2  # the cheapest to fit
    assert any(note.startswith("measured, but not raced") for note in said["notes"])
    assert all(one["scores"] == {} and "race" in one["rounds"] for one in said["candidates"])
    assert said["metric"] == "map"
    alone = choose(tmp_path / "boxes", models=names[:1], **asked).json()
    assert alone["candidates"][0]["rounds"].keys() == {"short race"}  # no rival


def test_of_what_is_within_noise_the_target_decides(plain: Path, dark: Path) -> None:
    result = choose(plain, target=dark, **QUICK)
    told = {one.entrant.title: one.entrant.expected for one in result.candidates if one.within}
    assert all(expected and all(0 <= value <= 1 for value in expected.values()) for expected in told.values())
    means = {title: np.mean(list(expected.values())) for title, expected in told.items() if expected}
    assert means[result.recommended.entrant.title] == max(means.values())
    assert result.json()["target"] == dark.name


def test_what_there_is_no_time_for_is_told(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock jumps once the first candidate was judged."""
    left = iter([60.0, *[-1.0] * 1000])
    monkeypatch.setattr(field.Budget, "left", lambda self, share=1.0: next(left))
    said = choose(plain, minutes=1.0, **QUICK).json()
    assert [one["model"] for one in said["candidates"]] == [TINY]
    assert f"no time was left for {OTHER} at 32 px" in said["notes"]
    assert f"no time was left for the probe of {TINY} at 32 px" in said["notes"]


def test_rivals_go_over_all_epochs_together_or_not_at_all(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = field.Course.of
    monkeypatch.setattr(field.Course, "of", lambda *of: replace(real(*of), judging=20 * 60.0))  # one would fit
    said = choose(plain, minutes=30, **{**QUICK, "strategy": "last:1"}).json()
    assert {one["judged_by"] for one in said["candidates"]} == {"a part of the epochs, on validation"}
    assert sum(f"all epochs of {name}" in " ".join(said["notes"]) for name in (TINY, OTHER)) == 2


def test_the_command_line(cli: Any, plain: Path) -> None:
    line = f"choose {plain} --models {TINY},{OTHER} --only --size 32 --precision fp32 --strategy probe"
    out, _, code = cli(f"{line} --json")
    assert code == 0
    said = json.loads(out)
    assert {"candidates", "front", "recommended"} <= said.keys()
    out, _, code = cli(line)
    assert code == 0
    assert out.startswith("Start from ")
    assert f"acclimate fit {plain} --model" in out


# --- what is refused


@pytest.mark.parametrize(
    ("asked", "about"),
    [
        ({"minutes": 1e-4}, "is too short for one candidate: to look at .* takes about .* give about 0.1 or more"),
        ({"minutes": 1e-4, "max_params": 0.001}, "--max-params 0.001: .* 1 of the 1 .*no time was left for 1 others"),
        ({"minutes": 0}, "--minutes 0: must be above 0"),
        ({"licence": "GPL-9"}, "is that of none of the 2 candidates"),
        ({"licence": "permissive", "models": ["efficientnet_lite0"]}, "none of the 1 candidates.*have: not stated"),
        ({"models": ["efficientnet_lite9"]}, "did you mean 'efficientnet_lite"),
        ({"models": ["nothing", "nobody"]}, "nothing.*\n.*\n.*nobody"),
        ({"models": []}, "--only: leaves no candidate"),
        ({"max_latency": 1e-6}, "--max-latency 1e-06: is below what 2 of the 2 candidates take"),
        ({"max_params": 0.001}, "--max-params 0.001: is below what 2 of the 2"),
        ({"max_params": -1}, "must be above 0"),
        ({"model": TINY}, "is what is to be found"),
        ({"target": "texts"}, "holds texts, and .* holds pictures"),
        ({"target": "nowhere"}, "is not there"),
        ({"models": ["minilm"]}, "reads texts, and the samples are pictures"),
        ({"out": "full"}, "is there already"),
    ],
)
def test_wrong_input_is_one_error(asked: dict[str, Any], about: str, plain: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    (tmp_path / "texts.csv").write_text("text,label\nred,x\ngreen,y\n")
    places = {"texts": tmp_path / "texts.csv", "nowhere": tmp_path / "nowhere"}
    asked = {"out": "new", **asked}
    asked["out"] = tmp_path / asked["out"]
    if "target" in asked:
        asked["target"] = places[asked["target"]]
    with pytest.raises(UserError, match=f"(?s){about}"):
        choose(plain, **{**QUICK, **asked})
    assert not (tmp_path / "new").exists()


def test_mistakes_are_told_together(plain: Path) -> None:
    with pytest.raises(UserError) as told:
        choose(plain, **{**QUICK, "models": ["nothing"], "max_params": -1, "strategy": "guess"})
    assert len(told.value.problems) == 3


def test_a_target_of_boxes_is_refused(tmp_path: Path, dark: Path) -> None:
    write_voc(tmp_path / "boxes", {"train": 6, "val": 3})
    with pytest.raises(UserError, match="is for classes"):
        choose(
            tmp_path / "boxes",
            target=dark,
            models="random:fcos:test_efficientnet",
            only=True,
            size=64,
            precision="fp32",
        )


# --- the parts


def test_the_front_is_what_nothing_beats() -> None:
    assert front([0.9, 0.8, 0.9, 0.7], [3.0, 1.0, 2.0, 1.5]) == [1, 2]
    assert front([0.5, 0.5], [1.0, 1.0]) == [0]
    assert front([0.9, 0.3], [1.0, 0.95]) == [0]  # no cheaper than a timing is off by
    assert ranks([0.2, 0.7, 0.2]) == [2, 1, 2]


def test_features_that_are_constant_are_no_better_than_chance() -> None:
    targets = np.repeat([0, 1], 20)
    said = suitability([("flat", lambda: np.ones((40, 3)))], [targets])
    assert said.scores["left-out ridge"] <= 0.5


def test_the_best_reading_is_taken() -> None:
    targets = np.repeat([0, 1], 20)
    draw = np.random.default_rng(0)
    told = draw.normal(size=(40, 3)) + 3 * targets[:, None]
    found = suitability([("noise", lambda: draw.normal(size=(40, 3))), ("told", lambda: told)], [targets])
    assert found.reading == "told"
    assert found.right.mean() > 0.9


def entrant(title: str, each: float, **rounds: list[float]) -> Entrant:
    made = Candidate(Model(TINY, describe(TINY)[1]), 32)
    known = costs.Costs(each, 1, each, 1, 1, 1)
    return Entrant(title, made, known, 1.0, rounds={name: np.array(scores) for name, scores in rounds.items()})


def test_a_candidate_that_dropped_out_is_judged_by_the_last_round_that_it_shares_with_the_leader() -> None:
    right, half = [1.0] * 40, [1.0, 0.0] * 20
    leader = entrant("leader", 2.0, sample=half, race=[1.0] * 19 + [0.0])
    lost = entrant("lost", 1.0, sample=[0.0] * 40)
    lucky = entrant("lucky", 3.0, sample=right)
    found = {one.entrant.title: one for one in judge([lost, leader, lucky])}
    assert found["leader"].quality["value"] == pytest.approx(0.95)
    assert found["lost"].quality["value"] == pytest.approx(0.45)
    assert found["lucky"].quality["value"] == pytest.approx(0.9)  # it has not raced: it is not known to be as good
    assert not found["lucky"].within
    assert [found[name].on_front for name in ("lost", "leader", "lucky")] == [True, True, False]


def test_what_a_candidate_is_behind_by_leaves_no_quality_below_0() -> None:
    """It was behind by more samples, in the round before, than the leader has right in the last."""
    leader = entrant("leader", 2.0, sample=[1.0] * 40, race=[1.0] + [0.0] * 19)
    lost, right = entrant("lost", 1.0, sample=[0.0] * 40), entrant("right", 1.0, sample=[1.0] * 40)
    qualities = [one.quality for one in judge([leader, lost, right])]
    assert [quality["value"] for quality in qualities] == pytest.approx([0.05, 0, 0])
    assert all(0 <= quality["low"] <= quality["value"] <= quality["high"] <= 1 for quality in qualities)


def test_what_did_not_race_is_not_recommended_for_being_cheap() -> None:
    leader = entrant("leader", 3.0, features=[1.0, 0.0] * 20, trial=[1.0] * 36 + [0.0] * 4)
    rival = entrant("rival", 2.0, features=[1.0, 0.0] * 20, trial=[1.0] * 35 + [0.0] * 5)
    cheap = entrant("cheap", 1.0, features=[1.0, 0.0] * 20)
    judged = judge([cheap, leader, rival])
    assert [one.entrant.title for one in judged] == ["leader", "rival", "cheap"]
    assert all(one.within for one in judged)
    assert recommend(finalists(judged)).entrant.title == "rival"
    assert all(one.on_front for one in judged)


def test_a_baseline_that_beats_every_candidate_is_told_to() -> None:
    """No fit starts from it, so it is not what is recommended, but its figure is its own."""
    leader = entrant("leader", 2.0, probe=[1.0] * 20 + [0.0] * 20)
    baseline = replace(entrant("TF-IDF", 3.0, probe=[1.0] * 35 + [0.0] * 5), candidate=None)
    found = {one.entrant.title: one for one in judge([leader, baseline])}
    assert found["TF-IDF"].quality["value"] == pytest.approx(35 / 40)
    assert found["leader"].within and not found["TF-IDF"].within
    assert found["leader"].on_front and found["TF-IDF"].on_front
    assert "TF-IDF without any pretrained model does better: 0.875" in _sentence(found["leader"], list(found.values()))
    level = replace(entrant("TF-IDF", 3.0, probe=[1.0] * 21 + [0.0] * 19), candidate=None)
    found = {one.entrant.title: one for one in judge([leader, level])}
    said = _sentence(found["leader"], list(found.values()))
    assert "the best to start from; TF-IDF cannot be told from it either: 0.525" in said
    raced = entrant("leader", 2.0, probe=[1.0] * 20 + [0.0] * 20, race=[1.0] * 39 + [0.0])
    found = {one.entrant.title: one for one in judge([raced, baseline])}
    assert found["TF-IDF"].quality["value"] <= found["leader"].quality["value"]  # it was ahead before the race only


def test_a_race_shortens_what_trains_by_steps() -> None:
    phase = Phase("tail", "", ("a", "head"), (1e-3, 2e-3), epochs=8, views=4, patience=3)
    short = shortened(phase, 0.25, 3.0)
    assert (short.epochs, short.views, short.patience) == (2, 1, None)
    assert short.lr == pytest.approx((3e-3, 6e-3))
    solved = Phase("probe", "", ("head",), (), epochs=0, solve=True)
    assert shortened(solved, 0.25, 3.0) == solved


def test_licences_are_those_of_all_parts() -> None:
    models = [Model(name, describe(name)[1]) for name in ("minilm", "e5-small", "efficientnet_lite0")]
    assert licensed(models, None) == models
    assert licensed(models, "permissive") == models[:2]
    assert [model.name for model in licensed(models, "apache-2.0")] == ["minilm"]


def test_memory_is_what_is_held_at_the_same_time() -> None:
    import torch

    def step() -> None:
        for _ in range(5):
            made = torch.ones(1000, 1000)
            del made

    assert costs.peak(step, torch.device("cpu")) == 4_000_000


def test_options_know_nothing_of_choosing() -> None:
    assert "licence" not in Options.model_fields


# --- fit --model choose


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two tiny networks are all that is on this machine."""
    monkeypatch.setattr(candidates, "find", lambda: [describe(name)[1] for name in (TINY, OTHER)])


def refused(*asked: Any, **more: Any) -> Choice:
    raise AssertionError("it was to be chosen once")


ASKED: dict[str, Any] = {"model": "choose", "strategy": "probe", "size": 32, "precision": "fp32"}


def test_fit_goes_on_with_what_was_chosen(
    two: None, plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = fit(plain, out=tmp_path / "run", **ASKED)
    recipe = yaml.safe_load(run.file("recipe.yaml").read_text())
    assert recipe["asked"] == ASKED
    model, size = recipe["resolved"]["model"], recipe["resolved"]["preprocessing"]["size"]
    assert recipe["decisions"]["chosen model"] == {"model": model, "size": size}
    assert (model in (TINY, OTHER), size) == (True, 32)
    monkeypatch.setattr(verbs_chosen, "among", refused)
    again = fit(recipe=run.file("recipe.yaml"), out=tmp_path / "again")
    assert again.metrics()["model"] == run.metrics()["model"]
    assert again.metrics()["metrics"] == run.metrics()["metrics"]


def test_a_fit_chooses_for_its_target(two: None, plain: Path, dark: Path, tmp_path: Path) -> None:
    watcher = Heard()
    pictures = [(Image.open(path), None) for path in sorted(dark.glob("*.png"))]
    fit(plain, out=tmp_path / "run", watcher=watcher, target=pictures, adapt="none", **ASKED)
    assert any("expected to be right most often on the target" in line for line in watcher.lines)


def test_a_fit_finds_what_a_choice_has_computed(plain: Path, tmp_path: Path) -> None:
    settings = choose(plain, seed=3, **QUICK).settings
    run = fit(plain, out=tmp_path / "run", strategy="probe", precision="fp32", seed=3, **settings)
    (outcome,) = (event for event in run.events() if event["event"] == "outcome")
    assert outcome["notes"]["remembered"]


def test_weights_of_a_file_can_be_a_candidate(plain: Path, tmp_path: Path) -> None:
    save_file(timm.create_model("test_efficientnet").state_dict(), tmp_path / "own.safetensors")
    name = f"timm:test_efficientnet={tmp_path / 'own.safetensors'}"
    settings = choose(plain, **{**QUICK, "models": name}).settings
    assert settings == {"model": "timm:test_efficientnet", "weights": str(tmp_path / "own.safetensors"), "size": 32}
    assert fit(plain, strategy="probe", dry_run=True, **settings).job.card.weights == settings["weights"]  # type: ignore[union-attr]


def test_a_resume_does_not_choose_again(
    two: None, plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = fit(plain, out=tmp_path / "run", **ASKED)
    known = run.metrics()["model"]
    run.file("metrics.json").unlink()
    monkeypatch.setattr(verbs_chosen, "among", refused)
    assert fit(plain, out=tmp_path / "run", resume=True, **ASKED).metrics()["model"] == known


def test_a_fit_says_how_much_of_its_minutes_were_too_few(two: None, plain: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--minutes 0\.0003: is too short .* choosing may take 33% of it"):
        fit(plain, out=tmp_path / "run", **{**ASKED, "strategy": "auto"}, minutes=0.0003)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("name", "value"), [("weights", "a.safetensors"), ("freeze", "stem")])
def test_what_belongs_to_one_model_is_refused(name: str, value: str, plain: Path) -> None:
    with pytest.raises(UserError, match=f"--{name} {value} with --model choose"):
        fit(plain, model="choose", **{name: value})


def test_a_run_that_knows_the_samples_is_no_candidate(
    two: None, plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = fit(plain, **{**ASKED, "model": TINY})
    result = choose(plain, **{**QUICK, "models": [], "only": False})
    assert f"left out, having learned from samples that judge here: {run.path}" in result.notes
    assert {one.entrant.candidate.model.name for one in result.candidates if one.entrant.candidate} == {TINY, OTHER}
    with pytest.raises(UserError, match="learned from the samples that would judge it"):
        choose(plain, **{**QUICK, "models": [str(run.path)]})
