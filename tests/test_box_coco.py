"""COCO's JSON: one file, one a split, ids with gaps."""

from __future__ import annotations

import json

import pytest
from boxes import BOXES, coco, coco_json, dump, found, rules, said, same, splits, text

from acclimate.data.boxes import mend
from acclimate.data.read import read


@pytest.mark.parametrize("pictures", ["", "images", "val2017", "images/val2017"])
def test_coco_comes_back_from_one_file(tmp_path, pictures):
    file = coco(tmp_path, coco_json(), pictures, "annotations/instances_val2017.json")
    for source in (file, tmp_path):
        table = read(source)
        same(found(table), BOXES)
        assert table.reader == "coco" and table.classes == ("dog", "cat") and "split" not in table
        assert table.column("said_width").to_pylist() == [40] * 3
        assert table.column("target")[0].as_py()[0]["area"] == 12.5 and not mend(table)[1]


def test_coco_files_named_by_split(tmp_path):
    for split, name in (("val", "a"), ("train", "b")):
        coco(tmp_path, coco_json({name: BOXES[name]}), f"{split}2017", f"annotations/instances_{split}2017.json")
    dump(tmp_path / "annotations/captions_train2017.json", coco_json())
    table = read(tmp_path)
    assert splits(table) == {"b": "train", "a": "val"}
    assert table.column("sample").to_pylist() == ["train2017/b.jpg", "val2017/a.jpg"]


def test_coco_in_split_folders_without_the_class_above_all(tmp_path):
    for split, name in (("valid", "a"), ("train", "b")):
        content = coco_json({name: BOXES[name]})
        content["categories"] = [{**one, "supercategory": "pets"} for one in content["categories"]]
        content["categories"].append({"id": 0, "name": "pets", "supercategory": "none"})
        coco(tmp_path / split, content, "", "_annotations.coco.json")
    table = read(tmp_path)
    assert splits(table) == {"b": "train", "a": "val"} and table.classes == ("dog", "cat")
    assert "category 'pets' has no box" in table.notes[0]


def test_coco_names_of_pictures_may_hold_folders(tmp_path):
    file = coco(tmp_path, coco_json(folder="deep/er/"), "")
    assert read(file).column("sample")[0].as_py() == "deep/er/a.jpg"
    content = coco_json(folder="C:\\data\\er\\")
    assert read(dump(tmp_path / "deep/other.json", content)).column("sample")[0].as_py() == "er/a.jpg"


def test_coco_crowd_is_kept_and_counted(tmp_path):
    content = coco_json()
    content["annotations"][0]["iscrowd"] = 1
    table, findings = mend(read(coco(tmp_path, content)))
    assert [box["crowd"] for box in table.column("target")[0].as_py()] == [True, False]
    assert [(one.rule, one.samples) for one in findings] == [("crowd", ["images/a.jpg, object 1 (cat)"])]


def test_coco_annotations_of_nothing_are_named_and_too_many_refused(tmp_path):
    content = coco_json({"a": [("cat", number, 0, number + 5, 5) for number in range(30)]})
    content["annotations"] += [
        {"id": 900, "image_id": 77, "category_id": 7, "bbox": [1, 1, 1, 1]},
        {"id": 901, "image_id": 0, "category_id": 8, "bbox": [1, 1, 1, 1]},
        {"id": 902, "image_id": 0, "category_id": 7, "bbox": []},
        {"id": 903, "image_id": 0, "category_id": 7, "segmentation": [[1, 2, 3]]},
    ]
    file = coco(tmp_path, content)
    seen = rules(file)
    assert seen["labels without a picture"].samples == ["annotations.json, annotation 900: image_id 77"]
    assert seen["unknown class"].samples == ["annotations.json, annotation 901: category_id 8"]
    assert seen["no box"].count == 2
    content["annotations"] += [
        {"id": 1000 + n, "image_id": 78, "category_id": 9, "bbox": [1, 1, 1, 1]} for n in range(2)
    ]
    assert "labels without a picture: 3 of 33: more than 5%" in said(coco(tmp_path, content))
    for one in content["annotations"][-2:]:
        one["image_id"] = 0
    assert "boxes of a class that has no name: 3 of 33" in said(coco(tmp_path, content))


def test_coco_a_missing_picture_is_left_for_the_gate_to_name(tmp_path):
    file = coco(tmp_path, coco_json())
    (tmp_path / "images/b.jpg").unlink()
    table, findings = mend(read(file))
    assert found(table)["b"] is None and not findings
    assert table.column("width").to_pylist() == [40, None, 40]


def test_coco_ids_that_are_there_twice_are_refused_together(tmp_path):
    content = coco_json()
    content["images"].append({"id": 0, "file_name": "d.jpg"})
    content["categories"].append({"id": 7, "name": "fox"})
    message = said(coco(tmp_path, content))
    assert "images: id 0: is there twice" in message and "categories: id 7: is there twice" in message


def test_coco_that_is_broken_is_refused(tmp_path):
    file = coco(tmp_path, coco_json())
    text(file, file.read_text()[:-30])
    assert "annotations.json: cannot be read as JSON" in said(file)
    dump(file, {"images": [], "annotations": [3], "categories": []})
    assert "has no list of annotations" in said(file)
    content = coco_json()
    del content["images"][0]["file_name"]
    assert "lack id or file_name" in said(dump(file, content))


def test_coco_splits_with_different_names_are_refused(tmp_path):
    for split, names in (("train", ("dog", "cat")), ("test", ("dog", "cat", "fox"))):
        coco(tmp_path, coco_json({split: BOXES["b"]}, names=names), "images", f"{split}.json")
    assert "train lacks 'fox': name different classes" in said(tmp_path)


def test_coco_files_that_are_not_one_a_split_are_refused(tmp_path):
    for name in ("one.json", "two.json"):
        coco(tmp_path, coco_json(), file=name)
    assert "one.json, two.json: are several COCO files" in said(tmp_path)


def test_coco_categories_of_one_name_are_one_class(tmp_path):
    content = coco_json()
    content["categories"].append({"id": 90, "name": "cat"})
    table = read(coco(tmp_path, content))
    assert table.classes == ("dog", "cat") and "categories 17, 90 are all called 'cat'" in table.notes[0]


def test_coco_is_seen_by_its_beginning_where_it_is_large(tmp_path, monkeypatch):
    monkeypatch.setattr("acclimate.data.readers.coco.BEGINNING", 100)
    same(found(read(coco(tmp_path, coco_json()))), BOXES)
    file = text(tmp_path / "rows.json", (json.dumps({"images": ["x"], "text": "a b", "label": "c"}) + "\n") * 9)
    assert read(file).form == "text"


def test_json_lines_are_no_coco(tmp_path):
    rows = [{"images": ["x"], "annotations": ["y"], "categories": ["z"], "text": "a b c", "label": "d"}] * 2
    file = text(tmp_path / "rows.json", "\n".join(map(json.dumps, rows)))
    assert read(file).form == "text"
