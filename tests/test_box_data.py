"""Boxes whatever their layout: their column, which layout a folder holds, and real sets."""

from __future__ import annotations

import os
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from boxes import BOXES, WHOLE, coco, coco_json, frame, picture, real, said, text, voc, yolo

from acclimate.data import gate
from acclimate.data.boxes import mend
from acclimate.data.decode import decode
from acclimate.data.headers import header
from acclimate.data.read import read
from acclimate.data.readers.boxes import TARGET, Boxes

# the form


def test_the_column_holds_boxes_and_comes_back_unchanged():
    box = {"label": "cat", "x1": 1.0, "y1": 2.0, "x2": 3.0, "y2": 4.5, "crowd": True, "difficult": False, "area": None}
    target = pa.chunked_array([[[box], None], [[], [box, {**box, "label": "dog", "area": 7.0}]]], TARGET)
    boxes = Boxes.of(target)
    assert boxes.counts.tolist() == [1, -1, 0, 2] and boxes.picture.tolist() == [0, 3, 3]
    assert boxes.number.tolist() == [1, 1, 2]
    assert boxes.column().to_pylist() == target.to_pylist() and boxes.column().type == TARGET
    assert boxes.where(np.array([False, True, False])).column().to_pylist() == [[], None, [], [box]]
    assert Boxes.of(target.slice(2)).counts.tolist() == [0, 2]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpg", "png", "tif", "webp"])
def test_a_header_says_the_size_of_the_upright_picture(tmp_path, kind, orientation):
    path = picture(tmp_path / f"a.{kind}", (20, 10), orientation)
    seen = header(path)
    assert seen == header(path.read_bytes()) == (*decode(path.read_bytes()).size, orientation)


def test_a_header_that_cannot_be_read_is_none(tmp_path):
    assert header(tmp_path / "absent.jpg") is None
    assert header(text(tmp_path / "a.jpg", "no picture")) is None
    assert header(tmp_path) is None
    os.mkfifo(tmp_path / "pipe.jpg")
    assert header(tmp_path / "pipe.jpg") is None


# which layout


def test_two_layouts_in_one_folder_are_refused_until_one_is_named(tmp_path):
    yolo(voc(tmp_path, pictures="images"))
    text(tmp_path / "classes.txt", "dog\ncat\n")
    message = said(tmp_path)
    assert "holds boxes in 2 layouts: voc (XML files) and yolo" in message and "--format voc" in message
    assert read(tmp_path, format="voc").reader == "voc" and read(tmp_path, format="yolo").reader == "yolo"
    coco(tmp_path, coco_json())
    assert "voc (XML files) and coco (JSON files) and yolo" in said(tmp_path)


def test_tables_beside_another_layout_are_seen(tmp_path):
    voc(tmp_path)
    frame().to_csv(tmp_path / "train.csv", index=False)
    assert "voc (XML files) and box-table (tables named by split)" in said(tmp_path)


def test_formats_are_known_by_name(tmp_path):
    voc(tmp_path)
    assert "--format vok: is no layout of data\n  did you mean 'voc'" in said(tmp_path, format="vok")
    assert "--format table: does not fit" in said(tmp_path, format="table")
    assert "holds no .json file with images, annotations, categories" in said(tmp_path, format="coco")
    assert "a YOLO folder without names" in said(tmp_path, format="yolo")
    assert "holds no .xml file" in said(yolo(tmp_path / "other"), format="voc")
    assert "--format voc: does not fit DataFrame in memory" in said(frame(), format="voc")


def test_a_table_of_boxes_can_be_read_as_one_of_classes(tmp_path):
    picture(tmp_path / "a.jpg")
    frame({"a": WHOLE["a"]}).to_csv(tmp_path / "t.csv", index=False)
    assert read(tmp_path / "t.csv", format="table").column("target").to_pylist() == ["cat", "dog"]
    assert read(tmp_path / "t.csv", format="box-table").column("target").type == TARGET
    text(tmp_path / "classes.csv", "image,label\na.jpg,cat\n")
    assert "has no columns known to hold boxes" in said(tmp_path / "classes.csv", format="box-table")


def test_other_data_are_not_taken_for_boxes(tmp_path):
    for name in ("images", "labels"):
        picture(tmp_path / "classes" / name / "1.jpg")
    assert read(tmp_path / "classes").column("target").to_pylist() == ["images", "labels"]
    picture(tmp_path / "captioned/train/1.jpg")
    text(tmp_path / "captioned/train/1.txt", "1 cat and 2 dogs on the mat")
    assert "holds 1 pictures but no class folders" in said(tmp_path / "captioned")
    text(tmp_path / "t.csv", "image,label,width,height\na.jpg,cat,40,30\n")
    picture(tmp_path / "a.jpg")
    assert read(tmp_path / "t.csv").column("target").to_pylist() == ["cat"]
    text(tmp_path / "t.csv", "text,label,x,y,width,height\nsome words,cat,1,2,3,4\n")
    assert read(tmp_path / "t.csv").form == "text"


def test_without_labels_a_folder_with_boxes_is_one_of_pictures(tmp_path):
    assert read(voc(tmp_path), labels=False).column("sample").to_pylist() == [
        f"JPEGImages/{name}.jpg" for name in BOXES
    ]


@pytest.mark.parametrize("write", [voc, yolo])
def test_no_box_and_no_picture_are_refused(tmp_path, write):
    text(tmp_path / "classes.txt", "dog\ncat\n")
    write(tmp_path, {"a": []})
    name = write.__name__
    assert "names 1 pictures and not one box" in said(tmp_path, format=name)
    for path in tmp_path.rglob("*.jpg"):
        path.unlink()
    assert "holds no picture with labels" in said(tmp_path, format=name)


# real data


def test_bccd():
    table, findings = mend(read_ := real("bccd"))
    assert len(table) == 364 and Counter(table.column("split").to_pylist()) == {"train": 205, "val": 87, "test": 72}
    assert Counter(Boxes.of(read_.column("target")).labels.to_pylist()) == {"RBC": 4155, "WBC": 372, "Platelets": 361}
    assert [(one.rule, one.count) for one in findings] == [("box without area", 2)]
    points = ["JPEGImages/BloodImage_00343.jpg, object 4 (RBC)", "JPEGImages/BloodImage_00338.jpg, object 13 (RBC)"]
    assert findings[0].samples == points
    assert Boxes.of(table.column("target")).corners.min() == 0 and "counted from 1" in table.notes[0]


def test_raccoon():
    table = real("raccoon")
    boxes = Boxes.of(table.column("target"))
    assert len(table) == 200 and set(boxes.labels.to_pylist()) == {"raccoon"} and len(boxes) == 217
    assert mend(table)[1] == []
    hashes = gate.digests([one.hash for one in gate.scan(table)])
    _, findings = gate.check_samples(table, hashes, {})
    assert [(one.rule, one.count) for one in findings] == [("same sample, different labels", 4)]


def test_coco128():
    table, findings = mend(real("coco128"))
    boxes = Boxes.of(table.column("target"))
    assert len(table) == 128 and "split" not in table and len(boxes) == 929
    assert len(table.classes) == 80 and len(set(boxes.labels.to_pylist())) == 71
    assert {one.rule: one.samples for one in findings} == {
        "label file missing": [f"images/train2017/{name}.jpg" for name in ("000000000250", "000000000508")],
        "labels without a picture": [f"labels/train2017/{name}.txt" for name in ("000000000656", "000000000659")],
    }
