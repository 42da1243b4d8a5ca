"""YOLO's text files, with and without a description."""

from __future__ import annotations

import pytest
from boxes import BOXES, found, rules, said, same, splits, text, yolo

from acclimate.data.boxes import mend
from acclimate.data.read import read

YAML = "train: images\nval: images\nnames: [dog, cat]\n"


@pytest.mark.parametrize("names", ["names: [dog, cat]\nnc: 2", "names:\n  0: dog\n  1: cat", "names: {1: cat, 0: dog}"])
def test_yolo_comes_back(tmp_path, names):
    for split in ("train", "val"):
        yolo(tmp_path, {f"{name}_{split}": each for name, each in BOXES.items()}, f"images/{split}", f"labels/{split}")
    file = text(tmp_path / "data.yaml", f"path: .\ntrain: images/train\nval: images/val\ntest:\n{names}\n")
    for source in (file, tmp_path):
        table = read(source)
        same(found(table), {f"{name}_{split}": each for split in ("train", "val") for name, each in BOXES.items()})
        assert table.reader == "yolo" and table.classes == ("dog", "cat")
        assert table.column("split").to_pylist() == ["train"] * 3 + ["val"] * 3 and not mend(table)[1]


def test_yolo_one_folder_for_train_and_val_is_one_set(tmp_path):
    text(yolo(tmp_path) / "data.yaml", YAML)
    table = read(tmp_path)
    same(found(table), BOXES)
    assert "split" not in table and table.notes == (
        "data.yaml names the same pictures for train and val: they are read once, as train",
    )


def test_yolo_lists_of_pictures(tmp_path):
    yolo(tmp_path)
    text(tmp_path / "lists/train.txt", "./images/a.jpg\n\nimages/c.jpg\n")
    text(tmp_path / "data.yaml", "train: [lists/train.txt]\nval: [images/b.jpg]\nnames: [dog, cat]")
    assert splits(read(tmp_path)) == {"a": "train", "c": "train", "b": "val"}


@pytest.mark.parametrize("path", ["../there/data", "/home/author/data", "data", "."])
def test_yolo_paths_may_be_those_of_another_place(tmp_path, path):
    home = yolo(tmp_path / "there/data", {"a": BOXES["a"]}, "train/images", "train/labels")
    yolo(home, {"b": BOXES["b"]}, "valid/images", "valid/labels")
    said_ = f"path: {path}\ntrain: ../train/images\nval: ../valid/images\ntest: ../test/images\nnames: [dog, cat]"
    text(home / "data.yaml", said_)
    table = read(home)
    assert splits(table) == {"a": "train", "b": "val"}
    assert "data.yaml: test is not there (../test/images)" in table.notes[0]


def test_yolo_without_a_yaml(tmp_path):
    yolo(tmp_path)
    assert "a YOLO folder without names: labels are numbers" in said(tmp_path)
    text(tmp_path / "labels/classes.txt", "dog\ncat\n")
    same(found(read(tmp_path)), BOXES)


def test_yolo_a_yaml_may_hold_the_names_alone(tmp_path):
    text(yolo(tmp_path) / "data.yaml", "names: [dog, cat]")
    same(found(read(tmp_path)), BOXES)
    text(tmp_path / "data.yaml", "names: [dog")
    assert "data.yaml: is no description of YOLO data" in said(tmp_path)


def test_yolo_beside_the_pictures_in_split_folders(tmp_path):
    for split, name in (("valid", "a"), ("train", "b")):
        yolo(tmp_path, {name: BOXES[name]}, split, split)
        text(tmp_path / split / "_darknet.labels", "dog\ncat\n")
    table = read(tmp_path)
    assert splits(table) == {"b": "train", "a": "val"} and not mend(table)[1]
    text(tmp_path / "train/_darknet.labels", "dog\ncat\nfox\n")
    assert "valid/_darknet.labels lacks 'fox': name different classes" in said(tmp_path)
    text(tmp_path / "train/_darknet.labels", "cat\ndog\n")
    assert "hold the names in another order" in said(tmp_path)


def test_yolo_missing_and_left_over_label_files_are_named(tmp_path):
    text(yolo(tmp_path) / "data.yaml", YAML)
    (tmp_path / "labels/b.txt").rename(tmp_path / "labels/z.txt")
    seen = rules(tmp_path)
    assert seen["label file missing"].samples == ["images/b.jpg"] and found(read(tmp_path))["b"] == []
    assert seen["labels without a picture"].samples == ["labels/z.txt"]
    assert mend(read(tmp_path))[0].passed == {}


def test_yolo_rows_of_other_kinds(tmp_path):
    text(yolo(tmp_path) / "data.yaml", YAML)
    rows = (
        ["0 .1 .1 .5 .1 .5 .5", "1 .5 .5 .5 .5 .9", "0 .5 .5 .2 .2"]
        + ["0 .5 .5 .2 .2"] * 57
        + ["0 1 2", "0 a b c d", "0.5 1 1 1 1"]
    )
    text(tmp_path / "labels/c.txt", "\n".join(rows))
    seen = rules(tmp_path)
    assert seen["polygon"].samples == ["labels/c.txt, line 1"]
    assert seen["row with a sixth value"].samples == ["labels/c.txt, line 2"]
    assert seen["no box"].samples == [
        f"labels/c.txt, line {n}: {row!r}" for n, row in zip((61, 62, 63), rows[-3:], strict=True)
    ]
    same(
        {"c": found(read(tmp_path))["c"][:3]},
        {"c": [("dog", 4, 3, 20, 15), ("cat", 10, 7.5, 30, 22.5), ("dog", 16, 12, 24, 18)]},
    )
    text(tmp_path / "labels/c.txt", "0 1 2")
    assert "objects or rows that say no box: 1 of 4" in said(tmp_path)


def test_yolo_key_points_are_not_read(tmp_path):
    text(yolo(tmp_path, {"a": []}) / "data.yaml", YAML + "kpt_shape: [2, 3]")
    text(tmp_path / "labels/a.txt", "0 .5 .5 .2 .2 .1 .1 2 .9 .9 2")
    same(found(read(tmp_path)), {"a": [("dog", 16, 12, 24, 18)]})


def test_yolo_classes_beyond_the_names_are_named_and_too_many_refused(tmp_path):
    text(yolo(tmp_path) / "data.yaml", YAML)
    text(tmp_path / "labels/c.txt", "\n".join(["0 .5 .5 .2 .2"] * 40 + ["2 .5 .5 .1 .1"]))
    assert rules(tmp_path)["unknown class"].samples == ["labels/c.txt, line 41: class 2"]
    text(tmp_path / "labels/c.txt", "-1 .5 .5 .2 .2")
    message = said(tmp_path)
    assert "boxes of a class that has no name: 1 of 4" in message and "the names are 2, for class 0 to 1" in message


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("train: images\nnames: [dog, cat]\nnc: 3", "is not the number of its names, 2"),
        ("train: images\nnames: 7", "is no list and no mapping of numbers to names"),
        ("train: images\nnames: [dog, dog]", "'dog' in the names of"),
        ("train: absent\nnames: [dog, cat]", "train: absent in"),
        ("train: images\nval: absent\nnc: 2", "a YOLO folder without names"),
        ("test: absent\nnames: [dog, cat]", "names no pictures that are there"),
    ],
)
def test_yolo_descriptions_that_are_wrong(tmp_path, yaml, message):
    text(yolo(tmp_path) / "data.yaml", yaml)
    assert message in said(tmp_path)


def test_yolo_names_stay_as_they_are_written(tmp_path):
    text(yolo(tmp_path) / "data.yaml", "train: images\nnames: [no, 007]")
    assert read(tmp_path).classes == ("no", "007")
