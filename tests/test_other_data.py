"""evaluate and compare on data that are not those of the fit: other columns, other targets, files that cannot be read."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest
from conftest import TINY, Heard

from acclimate.core.errors import UserError
from acclimate.core.run import Run
from acclimate.verbs.compare import compare
from acclimate.verbs.evaluate import evaluate
from acclimate.verbs.fit import fit


def table(digits: Path, file: Path, part: str, labels: dict[str, str], columns: tuple[str, ...]) -> Path:
    """A table of the pictures of a split, each class by the label that it gets; then a number and a hand."""
    with file.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(columns)
        for place, path in enumerate(sorted((digits / part).rglob("*.png"))):
            writer.writerow([path, labels[path.parent.name], place, f"hand {place // 3}"][: len(columns)])
    return file


@pytest.fixture(scope="module")
def home(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs from tables whose columns are named: of one class a sample, and of several labels."""
    home = tmp_path_factory.mktemp("other")
    names = sorted(one.name for one in (digits / "train").iterdir())
    columns = ("picture", "kind", "number")
    table(digits, home / "one.csv", "train", dict(zip(names, names, strict=True)), columns)
    labels = {
        name: "|".join(["even" if int(name) % 2 == 0 else "odd", *(["large"] * (int(name) > 1))]) for name in names
    }
    table(digits, home / "many.csv", "train", labels, (*columns, "hand"))
    asked = {"image": "picture", "label": "kind", "strategy": "probe", "model": TINY, "size": 32}
    fit(home / "one.csv", group="number", out=home / "one", **asked)
    fit(home / "many.csv", separator="|", out=home / "many", **asked)
    return home


def test_what_other_data_do_not_have_is_not_asked_of_them(home: Path, digits: Path, tmp_path: Path) -> None:
    found = evaluate(home / "one", digits / "test")
    assert (found["split"], found["metrics"]["accuracy"]["n"]) == ("all", 32)
    names = {one.name: one.name for one in (digits / "test").iterdir()}
    other = table(digits, tmp_path / "other.csv", "test", names, ("picture", "kind", "place"))
    assert evaluate(home / "one", other)["metrics"] == found["metrics"], "without a column of groups"
    shutil.copytree(home / "one", tmp_path / "copy")
    assert compare(home / "one", tmp_path / "copy", data=other)["samples"] == 32
    renamed = table(digits, tmp_path / "renamed.csv", "test", names, ("picture", "class of it", "place"))
    assert evaluate(home / "one", renamed, label="class of it", image="picture")["metrics"] == found["metrics"]


def test_targets_of_another_kind_are_refused_in_words(home: Path, digits: Path) -> None:
    with pytest.raises(UserError, match="targets of one class a sample: do not fit a model of several labels"):
        evaluate(home / "many", digits / "test")
    with pytest.raises(UserError, match="targets of several labels a sample: do not fit a model of one class"):
        evaluate(home / "one", home / "many.csv", separator="|", image="picture", label="kind")
    with pytest.raises(UserError, match="are judged by different figures, accuracy and sample_f1"):
        compare(home / "one", home / "many")


def test_what_lacks_is_said_of_the_run_that_lacks_it(home: Path, digits: Path, tmp_path: Path) -> None:
    fit(digits / "train", strategy="probe", model=TINY, size=32, out=tmp_path / "folders")
    names = {one.name: one.name for one in (digits / "test").iterdir()}
    other = table(digits, tmp_path / "other.csv", "test", names, ("picture", "what it is", "what number"))
    with pytest.raises(UserError, match=r"^run one: "):
        compare(home / "one", tmp_path / "folders", data=other)
    said = {"image": "picture", "label": "what it is"}
    assert compare(home / "one", tmp_path / "folders", data=other, **said)["samples"] == 32


def test_a_model_is_not_told_to_be_of_another_task(home: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.csv").write_text("text,label\nhere is one,0\nthere is another,1\n")
    with pytest.raises(UserError, match="give data like those that the model learned from"):
        evaluate(home / "one", tmp_path / "texts.csv")


def test_samples_that_are_set_aside_are_named(home: Path, digits: Path, tmp_path: Path) -> None:
    shutil.copytree(digits / "test", tmp_path / "test")
    broken = sorted((tmp_path / "test").rglob("*.png"))[0]
    broken.write_bytes(broken.read_bytes()[:60])
    ear = Heard()
    found = evaluate(home / "one", tmp_path / "test", watcher=ear)
    assert found["metrics"]["accuracy"]["n"] == 31
    assert any(broken.name in line for line in ear.lines)
    assert any(one["severity"] == "set aside" and broken.name in str(one["samples"]) for one in found["findings"])


def test_a_slice_of_many_numbers_is_cut_and_what_is_not_shown_is_said(home: Path) -> None:
    ear = Heard()
    found = evaluate(home / "many", home / "many.csv", split="train", slice=("number", "hand"), watcher=ear)
    n = found["metrics"]["sample_f1"]["n"]
    assert sum(figures["sample_f1"]["n"] for figures in found["slices"]["number"].values()) == n
    assert 2 <= len(found["slices"]["number"]) <= 4
    (line,) = (line for line in ear.lines if line.startswith("--slice"))
    assert line.startswith(f"--slice hand: 0 values with 0 of {n} samples; values with fewer than 5 samples")


def test_validation_that_chose_is_told_again(home: Path) -> None:
    ear, told = Heard(), Run(home / "one").metrics()
    again = evaluate(home / "one", home / "one.csv", watcher=ear)
    assert (again["split"], again["verdict"]) == ("val", told["verdict"])
    n = again["metrics"]["accuracy"]["n"]
    assert again["chose"] == n and any(line.startswith(f"{n} of these {n} samples") for line in ear.lines)


def test_validation_samples_are_known_in_other_data(home: Path, digits: Path) -> None:
    everything = evaluate(home / "one", digits / "train")
    assert everything["chose"] == Run(home / "one").metrics()["metrics"]["accuracy"]["n"]
    assert everything["chose"] + everything["learned"] == everything["metrics"]["accuracy"]["n"]
    assert evaluate(home / "one", digits / "test")["chose"] == 0


def test_a_run_whose_figures_are_damaged_still_answers(home: Path, digits: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "one", tmp_path / "run")
    (tmp_path / "run" / "metrics.json").write_text("{")
    assert evaluate(tmp_path / "run", digits / "test")["metrics"] == evaluate(home / "one", digits / "test")["metrics"]


def test_the_same_run_by_another_path_is_named_twice(home: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(home / "one")
    with pytest.raises(UserError, match="is named twice"):
        compare(home / "one", tmp_path / "link")


def test_equal_samples_count_once_and_that_is_said(digits: Path, tmp_path: Path) -> None:
    shutil.copytree(digits, tmp_path / "data")
    one = sorted((tmp_path / "data/test").rglob("*.png"))[0]
    shutil.copy(one, one.with_name("again.png"))
    for name in ("a", "b"):
        fit(tmp_path / "data", strategy="probe", model=TINY, size=32, out=tmp_path / name)
    found = compare(tmp_path / "a", tmp_path / "b")
    assert found["samples"] == 32
    assert found["notes"] == ["1 samples are the same as others and count once"]


def test_only_what_is_lacking_is_left_out_and_that_is_said(home: Path, digits: Path, tmp_path: Path) -> None:
    """Another column that looks like labels does not take the place of the one that was named."""
    names = {one.name: one.name for one in (digits / "test").iterdir()}
    plain = table(digits, tmp_path / "plain.csv", "test", names, ("image", "kind", "label"))
    ear = Heard()
    assert evaluate(home / "one", plain, watcher=ear)["metrics"] == evaluate(home / "one", digits / "test")["metrics"]
    assert any(
        "have nothing like --image picture --group number of the fit; labels are taken from 'kind'" in line
        for line in ear.lines
    )


def test_a_split_that_is_none_is_refused_as_by_fit(digits: Path, tmp_path: Path) -> None:
    rows = sorted((digits / "train").rglob("*.png"))
    lines = [f"{path},{path.parent.name},{'test' if place % 4 == 0 else 'train'}" for place, path in enumerate(rows)]
    (tmp_path / "data.csv").write_text("\n".join(["image,label,part", *lines]))
    fit(tmp_path / "data.csv", split="part", strategy="probe", model=TINY, size=32, out=tmp_path / "run")
    (tmp_path / "other.csv").write_text(
        "\n".join(["image,label,part", *lines[:-1], lines[-1].replace("train", "holdout")])
    )
    with pytest.raises(UserError, match="holdout"):
        evaluate(tmp_path / "run", tmp_path / "other.csv")
    found = evaluate(tmp_path / "run", tmp_path / "data.csv", slice="part")
    assert list(found["slices"]["split"]) == ["test"]


def test_repeated_samples_are_named(home: Path, digits: Path, tmp_path: Path) -> None:
    shutil.copytree(digits / "test", tmp_path / "test")
    one = sorted((tmp_path / "test").rglob("*.png"))[0]
    shutil.copy(one, one.with_name("again.png"))
    ear = Heard()
    assert evaluate(home / "one", tmp_path / "test", watcher=ear)["metrics"]["accuracy"]["n"] == 33
    assert any("1 repeat another" in line and "training" not in line for line in ear.lines)
