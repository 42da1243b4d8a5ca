"""`shift` as a person uses it: on pictures and texts, what it says, what it writes, and what it refuses."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import TINY, write_digits
from PIL import Image, ImageOps
from scenes import write_voc

from acclimate.cli.shift import lines
from acclimate.core.errors import UserError
from acclimate.data.read import read
from acclimate.metrics.expected import ALARM
from acclimate.metrics.metric import Metric
from acclimate.metrics.mismatch import Expected, Shares
from acclimate.metrics.shares import Confused
from acclimate.tasks.text_traits import traits
from acclimate.verbs.shift import Shift, shift

QUICK: dict[str, Any] = {"model": TINY, "size": 32, "precision": "fp32"}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("plain") / "digits", 3, 120)


@pytest.fixture(scope="module")
def others(plain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every other one of the digits: they lie by writer, so the second half would be another hand."""
    folder = tmp_path_factory.mktemp("others") / "digits"
    for path in sorted(plain.rglob("*.png"), key=lambda path: int(path.stem))[::2]:
        new = folder / path.relative_to(plain)
        new.parent.mkdir(parents=True, exist_ok=True)
        path.rename(new)
    return folder


@pytest.fixture(scope="module")
def dark(others: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The others in black on white, in one folder without labels, one of them no picture."""
    folder = tmp_path_factory.mktemp("dark")
    for path in others.rglob("*.png"):
        ImageOps.invert(Image.open(path)).save(folder / f"{path.parent.name}-{path.name}")
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def found(plain: Path, dark: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Shift, Path]:
    folder = tmp_path_factory.mktemp("out") / "shift"
    return shift(plain, dark, out=folder, ask=12, **QUICK), folder


def test_other_samples_of_the_same_kind_are_no_shift(plain: Path, others: Path) -> None:
    result = shift(plain, others, **QUICK)
    assert result.verdict == "no_shift"
    assert result.found.kind == "none"
    assert [finding.rule for finding in result.findings] == ["labels of the target"]


def test_a_shift_is_told_in_plain_words(found: tuple[Shift, Path]) -> None:
    result, _ = found
    assert result.found.gate.shifted
    assert any(one.trait.told.startswith("brighter: brightness") for one in result.differences)
    assert [finding.rule for finding in result.findings] == ["unreadable"]
    assert all(name.endswith(".png") for side in result.unlike for name in side)


def test_the_folder_holds_what_was_said(found: tuple[Shift, Path]) -> None:
    result, folder = found
    assert {path.name for path in folder.iterdir()} == {"shift.json", "clouds.svg", "clouds.png", "ask.csv"}
    said = json.loads((folder / "shift.json").read_text())
    assert said == json.loads(json.dumps(result.json()))
    assert said["verdict"] in ("shift_no_drop", "drop_expected")
    assert {"tests", "expected_accuracy", "shares"} <= said.keys()
    assert Image.open(folder / "clouds.png").size[0] > 500


@pytest.mark.parametrize(
    ("there", "about"),
    [(0.30, "At least 48 points lower"), (0.80, "About 12 points lower"), (0.86, "About 6 points lower")],
)
def test_a_lower_bound_is_one(there: float, about: str, found: tuple[Shift, Path]) -> None:
    """What is left once the samples' numbers are taken off, rounded down; where that is nothing, the estimate."""
    source = Metric(value=0.92, low=0.87, high=0.95, n=40)
    expected = Expected(source, {ALARM: there, "confidence difference": there + 0.02}, samples=40)
    result = replace(found[0], found=replace(found[0].found, expected=expected))
    assert result.verdict == "drop_expected"
    assert about in lines(result)[1]
    assert ("unsure" in "".join(lines(result))) == (there < 0.82)


def test_as_a_string_it_is_a_line(found: tuple[Shift, Path], dark: Path) -> None:
    result, _ = found
    tests = result.json()["tests"]
    figures = f"AUC {tests['classifier']['auc']:.2f}, p {tests['p']:.2g}"
    assert str(result) == f"{result.verdict} from digits to {dark.name}: {figures}"


@pytest.mark.parametrize(("fewest", "rough"), [(100, False), (3, True)])
def test_words_and_json_agree_on_shares(fewest: int, rough: bool, found: tuple[Shift, Path]) -> None:
    even = np.ones(3) / 3
    shares = Shares(even, even, Confused(np.ones(3), even, 0.2, 0.1, fewest), even)
    result = replace(found[0], found=replace(found[0].found, shares=shares, kind="shares"))
    assert any("roughly" in line for line in lines(result)) == rough
    assert result.json()["shares"]["reliable"] == (not rough)
    looks = replace(result, found=replace(result.found, kind="looks"))
    assert any("those cannot be told from here" in line for line in lines(looks))
    assert looks.json()["shares"]["target"] is None


def test_the_table_to_fill_in_is_data_once_it_is_filled_in(found: tuple[Shift, Path], dark: Path) -> None:
    result, folder = found
    rows = list(csv.DictReader((folder / "ask.csv").open()))
    assert len(rows) == len(result.asked) == 12
    assert {row["label"] for row in rows} == {""}
    assert len({row["predicted"] for row in rows[:3]}) > 1  # the predicted classes take turns
    for row in rows:
        row["label"] = Path(row["image"]).name[0]
    with (folder / "filled.csv").open("w") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    table = read(folder / "filled.csv")
    assert len(table) == 12
    assert table.raw(0) == (dark / Path(rows[0]["image"]).name).read_bytes()
    (folder / "filled.csv").unlink()


def test_pictures_inside_a_table_are_written_as_files_to_be_looked_at(plain: Path, dark: Path, tmp_path: Path) -> None:
    samples = [Image.open(path) for path in sorted(dark.glob("[0-9]*.png"))]
    result = shift(plain, samples, out=tmp_path / "out", ask=5, **QUICK)
    rows = list(csv.DictReader((tmp_path / "out" / "ask.csv").open()))
    assert len(rows) == len(result.asked) == 5
    assert all(Image.open(tmp_path / "out" / row["image"]).size == (32, 32) for row in rows)


def test_that_fewer_can_be_labelled_than_were_asked_for_is_said(plain: Path, dark: Path, tmp_path: Path) -> None:
    result = shift(plain, dark, out=tmp_path / "out", ask=5000, **QUICK)
    there = len(result.asked)
    said = f"5,000 samples to be labelled were asked for, and {there} of {dark.name} are looked at"
    assert said in [finding["what"] for finding in result.json()["findings"]]
    assert f"note: {said}; all of these are in ask.csv" in lines(result)


@pytest.mark.parametrize("same", [True, False])
def test_two_tables_in_memory_are_told_apart(same: bool, plain: Path, dark: Path) -> None:
    ours, theirs = (
        pd.DataFrame({"image": [str(path) for path in sorted(folder.rglob("*.png"))]}) for folder in (plain, dark)
    )
    ours["label"] = [Path(path).parent.name for path in ours["image"]]
    if same:
        with pytest.raises(UserError, match=r"^the target: all 180 samples are among those of the source\n"):
            shift(ours, ours, **QUICK)
    else:
        result = shift(ours, theirs, **QUICK)
        assert result.names == ("the source", "the target")
        assert result.findings[0].what.startswith("the target: ")


def test_the_same_again_is_the_same(found: tuple[Shift, Path], plain: Path, dark: Path) -> None:
    assert shift(plain, dark, ask=None, **QUICK).json()["tests"] == found[0].json()["tests"]


def test_texts(texts_data: Path, tiny_bert: Path, tmp_path: Path) -> None:
    lines = tmp_path / "letters.txt"
    words = ["WRITE TO US", "<b>CALL</b> NOW", "BUY THREE", "50 % OFF"]
    lines.write_text("\n".join(f"{one} TODAY {i} &amp; WIN {i * 7}" for one in words for i in range(10)))
    result = shift(texts_data, lines, model=str(tiny_bert), precision="fp32", out=tmp_path / "out", ask=4)
    assert result.verdict != "no_shift"
    told = {one.trait.group for one in result.differences}
    assert {"casing", "markup", "vocabulary"} <= told
    rows = list(csv.DictReader((tmp_path / "out" / "ask.csv").open()))
    assert {row["text"] for row in rows} <= set(lines.read_text().splitlines())


PLAIN = [f"the old man and the sea sat by the river {number}" for number in range(24)]
BARE = [f"<br /> &amp; {number}" for number in range(24)]
RARE = [f"{one} {'amp' if i % 4 == 0 else 'abcdefghijklmnopqrstuvwxyz'[i] + 'x'}" for i, one in enumerate(PLAIN)]
OTHER = "of another language: in"


@pytest.mark.parametrize(
    ("ours", "theirs", "group", "told"),
    [
        (PLAIN, BARE, "language", f"{OTHER} 'en' 100% -> 0% (no language recognised)"),
        (BARE, PLAIN, "language", f"{OTHER} no language that is recognised 100% -> 0% (en)"),
        (PLAIN[:20] + BARE[:16], BARE[:6] + PLAIN, "language", "more in 'en': in 'en' 56% -> 80%"),
        (PLAIN, [f"{one} zebra" for one in PLAIN], "vocabulary", "with more new words: new words 0% -> 9% (zebra)"),
        (RARE, [f"{one} amp" for one in PLAIN], "vocabulary", "with fewer new words: new words 9% -> 0%"),
    ],
)
def test_only_what_bears_it_out_is_named(ours: list[str], theirs: list[str], group: str, told: str) -> None:
    (found,) = (one for one in traits(ours, theirs) if one.group == group)
    assert found.told == told


def test_several_labels_a_sample_are_refused(plain: Path, dark: Path, tmp_path: Path) -> None:
    """How right a classifier is on the mean over labels says little: most of them are absent."""
    table = tmp_path / "data.csv"
    names = {"0": "round|even", "1": "odd", "2": "even"}
    rows = [f"{path},{names[path.parent.name]}" for path in sorted(plain.rglob("*.png"))]
    table.write_text("\n".join(["image,label", *rows]))
    with pytest.raises(UserError, match="one class a sample"):
        shift(table, dark, separator="|", **QUICK)


def test_a_target_with_boxes_is_of_another_task(plain: Path, tmp_path: Path) -> None:
    write_voc(tmp_path / "boxes", {"train": 12})
    with pytest.raises(UserError, match="both must be of one task"):
        shift(plain, tmp_path / "boxes", **QUICK)


def test_the_command_line(cli: Any, plain: Path, others: Path, tmp_path: Path) -> None:
    line = f"shift {plain} {others} --model {TINY} --size 32 --precision fp32"
    out, _, code = cli(f"{line} --json")
    assert code == 0
    assert json.loads(out)["verdict"] == "no_shift"
    out, _, code = cli(line)
    assert code == 0
    assert "No shift. Nothing tells the two apart." in out


def test_samples_that_the_source_calls_test_are_not_looked_at(digits: Path, dark: Path) -> None:
    said = shift(digits, dark, **QUICK).json()
    assert not any(name.startswith("test/") for name in said["least_alike"]["source"])


def test_the_targets_own_test_samples_are_left_alone(plain: Path, digits: Path) -> None:
    result = shift(plain, digits, **QUICK)
    assert not any(name.startswith("test/") for name in result.unlike[1])


def test_other_class_names_are_listed_on_both_sides(plain: Path, tmp_path: Path) -> None:
    write_digits(tmp_path / "digits", 3, 30, first=140)
    (tmp_path / "digits" / "0").rename(tmp_path / "digits" / "zero")
    findings = shift(plain, tmp_path / "digits", **QUICK).findings
    (finding,) = (one for one in findings if one.rule == "labels of the target")
    assert "only in source: 0" in finding.what
    assert "only in target: zero" in finding.what


def test_samples_of_both_sides_are_named(plain: Path, others: Path, tmp_path: Path) -> None:
    for i, path in enumerate(sorted(others.rglob("*.png"))[:40]):
        (tmp_path / f"{i}.png").write_bytes(path.read_bytes())
    (tmp_path / "known.png").write_bytes(next(plain.rglob("*.png")).read_bytes())
    (finding,) = shift(plain, tmp_path, **QUICK).findings
    assert (finding.rule, finding.count) == ("samples of both sides", 1)


@pytest.mark.parametrize(
    ("target", "options", "about"),
    [
        ("plain", {}, "all 180 samples are among those of"),
        ("empty", {}, "is an empty folder\n.*no classes are needed"),
        ("few.xyz", {}, "pictures and text files come as folders$"),
        ("few", {}, "holds 3 samples that can be used, too few"),
        ("texts", {}, "holds texts, and .* holds pictures"),
        ("broken", {}, "cannot be read"),
        ("nowhere", {}, "is not there"),
        ("dark", {"ask": 3}, "name a folder with --out"),
        ("dark", {"ask": 0, "out": "new"}, "must be 1 or more"),
        ("dark", {"out": "full"}, "is there already"),
        ("dark", {"model": "efficientnet_lite9"}, "did you mean"),
    ],
)
def test_wrong_input_is_one_error(
    target: str, options: dict[str, Any], about: str, plain: Path, dark: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    (tmp_path / "few.xyz").touch()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.csv").write_text("text,label\nred,x\ngreen,y\n")
    (tmp_path / "few").mkdir()
    for path in sorted(dark.glob("[0-9]*.png"))[:3]:
        (tmp_path / "few" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "broken").mkdir()
    for i in range(5):
        (tmp_path / "broken" / f"{i}.png").write_bytes(b"rubbish")
    places = {"plain": plain, "dark": dark, "texts": tmp_path / "texts" / "a.csv"}
    said = {**QUICK, **options, **({"out": tmp_path / options["out"]} if "out" in options else {})}
    with pytest.raises(UserError, match=about):
        shift(plain, places.get(target, tmp_path / target), **said)
    assert not (tmp_path / "new").exists()


def test_boxes_are_refused(dark: Path, tmp_path: Path) -> None:
    write_voc(tmp_path / "boxes", {"train": 6, "val": 3})
    with pytest.raises(UserError, match="is detection with boxes of 2 classes, and shift is for one class"):
        shift(tmp_path / "boxes", dark, model="random:fasterrcnn:test_efficientnet", precision="fp32", size=64)
