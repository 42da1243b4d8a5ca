"""What a finished fit leaves to be told: phases with what they gained, where the time went, the choice corrected, baselines."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TINY, sentences
from conftest import write_digits as write
from PIL import Image

from acclimate.core.errors import UserError
from acclimate.core.run import Run
from acclimate.engine.answers import Answers
from acclimate.engine.trainer import Trainer
from acclimate.verbs.compare import compare
from acclimate.verbs.evaluate import evaluate
from acclimate.verbs.fit import fit


@pytest.fixture(scope="module")
def tested(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    home = tmp_path_factory.mktemp("tested")
    made = fit(digits, strategy="full", epochs=2, lr=0.01, model=TINY, size=32, out=home / "run")
    assert isinstance(made, Run)
    return made


def test_a_strategy_without_a_probe_stands_beside_one(tested: Run) -> None:
    told, answers = tested.metrics(), Answers.load(tested.path)
    assert [one["name"] for one in told["baselines"]] == ["majority class", "frozen probe"]
    assert [one["name"] for one in told["phases"]] == ["all layers"]  # the comparison is no phase of the run
    for one in told["baselines"]:
        right = (answers.beside[one["name"]].argmax(1) == answers.targets).mean()
        own = (answers.predictions.argmax(1) == answers.targets).mean()
        assert one["metrics"]["accuracy"]["value"] == pytest.approx(right)
        assert one["better by"]["value"] == pytest.approx(own - right, abs=0.04)  # of Bonett and Price
    assert told["baselines"][0]["metrics"]["accuracy"]["value"] == 0.25


def test_evaluate_on_the_same_data_says_the_same(tested: Run, digits: Path) -> None:
    told, again = tested.metrics(), evaluate(tested.path, digits)
    for name in ("verdict", "primary", "metrics", "by class", "confusion", "baselines", "slices", "calibration"):
        assert again[name] == told[name], name
    other = evaluate(tested.path, digits / "test")
    assert other["metrics"] == told["metrics"]
    assert (other["split"], other["learned"]) == ("all", 0)


def test_where_the_time_went_adds_up(tested: Run) -> None:
    told = tested.metrics()
    parts = told["cost"]["seconds"]
    assert list(parts)[:3] == ["reading and checking", "measuring what is fast", "baselines"]
    assert {"training", "judging", "drawing samples"} <= parts.keys()
    assert sum(parts.values()) == pytest.approx(told["seconds"], abs=0.5)
    assert told["cost"]["macs"] > 1000 and told["cost"]["parameters"] > 100_000
    assert told["cost"]["latency_ms"] > 0 and told["cost"]["fit_memory_bytes"] > 1e8


def test_what_validation_chose_among_is_corrected(tmp_path: Path) -> None:
    """Without test samples the figure is that of the best of several: never below what it is corrected to."""
    data = write(tmp_path / "data", 3, 30)
    run = fit(data, strategy="gradual", epochs=1, lr=0.005, model=TINY, size=32, out=tmp_path / "run")
    assert isinstance(run, Run)
    told = run.metrics()
    among = told["selection"]
    assert told["split"] == "val" and among["tried"] == len(told["phases"]) > 1
    best = max(one["value"] for one in told["phases"])
    assert among["corrected"]["value"] <= best + 1e-9
    gains = [one for one in told["phases"] if "gain" in one]
    assert gains and all(one["gain"]["low"] <= one["gain"]["value"] <= one["gain"]["high"] for one in gains)


def test_texts_stand_beside_tf_idf_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text_models: Any) -> None:
    monkeypatch.setattr("acclimate.verbs.job.read_data", lambda data, options: sentences(20))
    run = fit([], model=text_models["bert"], strategy="last:1", epochs=1, out=tmp_path / "run")
    assert isinstance(run, Run)
    assert [one["name"] for one in run.metrics()["baselines"]] == ["majority class", "TF-IDF", "frozen probe"]


def test_places_that_samples_come_from_are_slices(tmp_path: Path) -> None:
    folder = write(tmp_path / "data", 3, 30)
    lines = ["image,label,camera,nurse"]
    for i, path in enumerate(sorted(folder.glob("*/*.png"))):
        lines.append(f"{path},{path.parent.name},{'ab'[i % 2]},{'xyz'[i % 3]}")
    (tmp_path / "table.csv").write_text("\n".join(lines))
    run = fit(
        tmp_path / "table.csv", label="label", test=0.4, strategy="probe", model=TINY, size=32, out=tmp_path / "run"
    )
    assert isinstance(run, Run)
    assert set(run.metrics()["slices"]["camera"]) == {"a", "b"}
    assert "nurse" not in run.metrics()["slices"]
    found = evaluate(run.path, tmp_path / "table.csv", slice="nurse")
    assert sum(one["accuracy"]["n"] for one in found["slices"]["nurse"].values()) == 36
    assert np.isfinite(found["slices"]["nurse"]["x"]["accuracy"]["value"])


def test_one_sample_that_judges_is_enough_for_figures(digits: Path, tmp_path: Path) -> None:
    """Its difference to a baseline cannot be told, which is no reason to end without a model."""
    data = tmp_path / "data"
    shutil.copytree(digits / "train", data / "train")
    (data / "test" / "2").mkdir(parents=True)
    shutil.copy(next((digits / "test" / "2").iterdir()), data / "test" / "2")
    run = fit(data, strategy="last:1", epochs=1, model=TINY, size=32, out=tmp_path / "run")
    assert isinstance(run, Run)
    told = run.metrics()
    assert told["metrics"]["accuracy"]["n"] == 1 and told["verdict"].startswith("NOT told better than its ")
    assert all((one["better by"]["low"], one["better by"]["high"]) == (-1, 1) for one in told["baselines"])
    assert run.file("report.html").is_file()


def test_copies_of_training_samples_are_told_in_the_verdict_and_left_out_of_comparisons(
    digits: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(digits, data)
    for i, path in enumerate(sorted((data / "train" / "1").iterdir())[:3]):
        with Image.open(path) as picture:
            picture.convert("RGB").save(data / "test" / "1" / f"copy{i}.jpg", quality=95)
    run = fit(data, strategy="probe", model=TINY, size=32, out=tmp_path / "run")
    assert isinstance(run, Run)
    told = run.metrics()
    found = told["leaks"]["count"]  # of the three those whose originals did not go to validation
    assert 1 <= found <= 3 and f"without the {found} that it learned from" in told["verdict"]
    assert told["leaks"]["metrics"]["accuracy"]["n"] == 35 - found
    shutil.copytree(run.path, tmp_path / "again")
    assert compare(run.path, tmp_path / "again")["samples"] == 35 - found


def test_other_samples_have_no_baselines_but_one_and_that_is_said(tested: Run, digits: Path, tmp_path: Path) -> None:
    shutil.copytree(tested.path, tmp_path / "run")
    (tmp_path / "run" / "answers.npz").write_bytes(b"rubbish")
    found = evaluate(tmp_path / "run", digits / "test")
    assert [one["name"] for one in found["baselines"]] == ["majority class"]
    assert found["verdict"].endswith("; frozen probe cannot be asked about these samples")


@pytest.mark.parametrize("content", ["{", "[1]", "{}"])
def test_damaged_figures_are_told(content: str, tested: Run, tmp_path: Path) -> None:
    shutil.copytree(tested.path, tmp_path / "run")
    (tmp_path / "run" / "metrics.json").write_text(content)
    with pytest.raises(UserError, match=r"metrics\.json(?s:.*)is damaged"):
        compare(tested.path, tmp_path / "run")


def test_a_column_that_is_read_already_is_no_slice(tested: Run, digits: Path, tmp_path: Path) -> None:
    lines = ["image,label,site"]
    lines += [f"{path},{path.parent.name},a" for path in sorted((digits / "test").glob("*/*.png"))]
    (tmp_path / "table.csv").write_text("\n".join(lines))
    with pytest.raises(
        UserError, match=r"--slice label: is the column of labels(?s:.*)--slice image: is the column of samples"
    ):
        evaluate(tested.path, tmp_path / "table.csv", slice=("label", "image"))
    with pytest.raises(UserError, match=r"--slice ward: is not a column(?s:.*)known: site"):
        evaluate(tested.path, tmp_path / "table.csv", slice="ward")


def test_a_phase_that_never_began_is_not_what_was_chosen(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the budget ends first: the model is that of the phase before."""
    cut = Trainer._cut
    monkeypatch.setattr(Trainer, "_cut", lambda self, index: 0 if index == 1 else cut(self, index))
    run = fit(digits, strategy="last:1", epochs=1, model=TINY, size=32, out=tmp_path / "run", fresh=True)
    assert isinstance(run, Run)
    told = run.metrics()
    first, second = told["phases"]
    assert told["chosen"] == first["name"] == "probe" and first["chosen"] and not second["chosen"]
    assert second["unbegun"] and "gain" not in second
    assert told["remarks"] == [f"{second['name']}: the budget ended before its first step"]
    assert [one["name"] for one in told["baselines"]] == ["majority class"], "the probe is no rival to itself"
    assert "the budget ended before its first step</td>" in run.file("report.html").read_text(encoding="utf-8")
