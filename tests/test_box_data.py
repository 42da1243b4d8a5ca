"""Boxes: every layout becomes the same column, and what is wrong with boxes or their files is named, mended or refused."""

from __future__ import annotations

import io
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Sequence, Value
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow

from acclimate.core.errors import UserError
from acclimate.data import gate
from acclimate.data.boxes import mend, repeated
from acclimate.data.decode import decode
from acclimate.data.headers import header
from acclimate.data.read import read
from acclimate.data.readers.boxes import TARGET, Boxes
from acclimate.data.table import Table

DATA = Path(os.environ.get("ACCLIMATE_DATA") or Path(__file__).parents[2] / "shared" / "data")
"""Real data sets, where there are any."""
ORIENTATION = 0x0112
SIZE = (40, 30)
BOXES = {
    "a": [("cat", 1.5, 2.25, 10.125, 20.0), ("dog", 0.0, 0.0, 40.0, 30.0)],
    "b": [("dog", 5.0, 6.5, 7.25, 8.0)],
    "c": [],
}
"""What is written in each layout and read again: of each picture (class, x1, y1, x2, y2)."""
WHOLE = {name: [(label, *(round(side) for side in box)) for label, *box in each] for name, each in BOXES.items()}
Named = dict[str, list[tuple]]


def real(name: str) -> Table:
    folder = DATA / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there: name the folder of real data sets with ACCLIMATE_DATA")
    return read(folder)


def picture(path: Path, size: tuple[int, int] = SIZE, orientation: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Pillow.Exif()
    exif[ORIENTATION] = orientation
    Pillow.new("RGB", size, (sum(path.name.encode()) % 256, 99, 7)).save(path, exif=exif)
    return path


def png(size: tuple[int, int] = SIZE) -> bytes:
    buffer = io.BytesIO()
    Pillow.new("RGB", size, "teal").save(buffer, "PNG")
    return buffer.getvalue()


def text(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def found(table: Table) -> Named:
    """Picture, without folders and suffix -> its boxes; None where it is not annotated."""
    columns = (table.column("sample").to_pylist(), table.column("target").to_pylist())
    rows = zip(columns[0] if table.form == "path" else range(len(table)), columns[1], strict=True)
    return {
        Path(str(name)).stem: each
        and [(box["label"], *(box[side] for side in ("x1", "y1", "x2", "y2"))) for box in each]
        for name, each in rows
    }


def same(read_: Named, written: Named) -> None:
    assert list(read_) == list(written)
    for name, each in written.items():
        assert [box[0] for box in read_[name]] == [box[0] for box in each]
        assert np.allclose([box[1:] for box in read_[name]], [box[1:] for box in each], rtol=0, atol=1e-6)


def splits(table: Table) -> dict[str, str | None]:
    return dict(zip(found(table), table.column("split").to_pylist(), strict=True))


def said(source: Any, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        read(source, **options)
    return str(caught.value)


def rules(source: Any, **options: Any) -> dict[str, gate.Finding]:
    return {finding.rule: finding for finding in mend(read(source, **options))[1]}


# writers, one a layout


def voc_file(path: Path, boxes: list[tuple], size: tuple[int, int] | None = SIZE, filename: str = "") -> Path:
    objects = "".join(
        f"<object><name>{label}</name><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
        for label, x1, y1, x2, y2 in boxes
    )
    said_size = f"<size><width>{size[0]}</width><height>{size[1]}</height></size>" if size else ""
    return text(path, f"<annotation><filename>{filename}</filename>{said_size}{objects}</annotation>")


def voc(root: Path, boxes: Named = BOXES, pictures: str = "JPEGImages", annotations: str = "Annotations") -> Path:
    for name, each in boxes.items():
        picture(root / pictures / f"{name}.jpg")
        voc_file(root / annotations / f"{name}.xml", each, filename=f"{name}.jpg")
    return root


def coco_json(
    boxes: Named = BOXES, folder: str = "", names: tuple[str, ...] = ("dog", "cat"), **more: Any
) -> dict[str, Any]:
    """Ids of pictures, boxes and classes all have gaps."""
    ids = {name: 10 * number + 7 for number, name in enumerate(names)}
    images = [
        {"id": 3 * number, "file_name": f"{folder}{name}.jpg", "width": SIZE[0], "height": SIZE[1]}
        for number, name in enumerate(boxes)
    ]
    annotations = [
        {
            "id": 0,
            "image_id": 3 * number,
            "category_id": ids[label],
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "area": 12.5,
            "iscrowd": 0,
        }
        for number, each in enumerate(boxes.values())
        for label, x1, y1, x2, y2 in each
    ]
    for number, one in enumerate(annotations):
        one["id"] = 5 * number
    categories = [{"id": number, "name": name} for name, number in reversed(ids.items())]
    return {"images": images, "annotations": annotations, "categories": categories, **more}


def dump(path: Path, content: Any) -> Path:
    return text(path, json.dumps(content))


def coco(root: Path, content: dict[str, Any], pictures: str = "images", file: str = "annotations.json") -> Path:
    for image in content["images"]:
        picture(root / pictures / image["file_name"])
    return dump(root / file, content)


def yolo_rows(boxes: list[tuple], names: tuple[str, ...] = ("dog", "cat"), size: tuple[int, int] = SIZE) -> str:
    width, height = size
    return "".join(
        f"{names.index(label)} {(x1 + x2) / 2 / width!r} {(y1 + y2) / 2 / height!r} {(x2 - x1) / width!r} {(y2 - y1) / height!r}\n"
        for label, x1, y1, x2, y2 in boxes
    )


def yolo(root: Path, boxes: Named = BOXES, images: str = "images", labels: str = "labels") -> Path:
    for name, each in boxes.items():
        picture(root / images / f"{name}.jpg")
        text(root / labels / f"{name}.txt", yolo_rows(each))
    return root


def frame(boxes: Named = WHOLE, corners: str = "xmin ymin xmax ymax") -> pd.DataFrame:
    rows = [(f"{name}.jpg", *box) for name, each in boxes.items() for box in each or [(None,) * 5]]
    return pd.DataFrame(rows, columns=["filename", "class", *corners.split()])


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


# Pascal VOC


@pytest.mark.parametrize(
    ("pictures", "annotations"), [("JPEGImages", "Annotations"), ("images", "annotations"), ("", "")]
)
def test_voc_comes_back(tmp_path, pictures, annotations):
    table = read(voc(tmp_path, pictures=pictures, annotations=annotations))
    same(found(table), BOXES)
    assert table.reader == "voc" and "split" not in table and table.column("width").to_pylist() == [40] * 3
    assert table.column("said_height").to_pylist() == [30] * 3
    assert table.column("target").type == TARGET and not mend(table)[1]


def test_voc_image_sets_give_the_splits(tmp_path):
    voc(tmp_path)
    text(tmp_path / "ImageSets/Main/train.txt", "b\n\nz\n")
    text(tmp_path / "ImageSets/Main/test.txt", "a  1\n")
    text(tmp_path / "ImageSets/Main/trainval.txt", "c\n")
    text(tmp_path / "ImageSets/Main/cat_train.txt", "a -1\n")
    table = read(tmp_path)
    assert splits(table) == {"b": "train", "a": "test"}
    seen = rules(tmp_path)
    assert seen["picture in no image set"].samples == ["JPEGImages/c.jpg"]
    assert seen["image set without a picture"].samples == ["z (train)"]


def test_voc_trainval_is_read_where_there_is_no_train(tmp_path):
    voc(tmp_path)
    text(tmp_path / "ImageSets/Main/trainval.txt", "a\nb")
    text(tmp_path / "ImageSets/Main/test.txt", "c")
    assert splits(read(tmp_path)) == {"a": "train", "b": "train", "c": "test"}


def test_voc_in_split_folders(tmp_path):
    voc(tmp_path / "valid", {"b": WHOLE["b"]}, "", "")
    voc(tmp_path / "train", {"a": WHOLE["a"]}, "", "")
    assert splits(read(tmp_path)) == {"a": "train", "b": "val"}


def test_voc_pictures_are_found_by_name_or_by_tag(tmp_path):
    for name, tag in {"1": "x.jpg", "2": "other", "3": "C:\\somewhere\\third.png", "4": "2.jpg"}.items():
        voc_file(tmp_path / "annotations" / f"{name}.xml", [("cat", 0, 0, 5, 5)], filename=tag)
    for name in ("1.png", "other.jpg", "third.jpg", "4.jpg", "2.jpg", "unlabelled.jpg"):
        picture(tmp_path / "images" / name)
    table = read(tmp_path)
    assert [name for name, boxes in found(table).items() if boxes] == ["1", "2", "4", "third"]
    assert found(table)["other"] is None and found(table)["unlabelled"] is None
    assert rules(tmp_path)["another picture named"].samples == [
        "annotations/2.xml (other)",
        "annotations/4.xml (2.jpg)",
    ]


def test_voc_annotations_without_picture_and_objects_without_box_are_named(tmp_path):
    voc(tmp_path)
    voc_file(tmp_path / "Annotations/lost.xml", [("cat", 0, 0, 5, 5)])
    whole = "<object><name>cat</name><polygon/></object><object><bndbox/></object>"
    corners = "<xmin>abc2</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax>"
    whole += f"<object><name>cat</name><bndbox>{corners}</bndbox></object>"
    text(tmp_path / "Annotations/c.xml", f"<annotation>{whole}</annotation>")
    text(tmp_path / "Annotations/project.xml", "<project/>")
    seen = rules(tmp_path)
    assert seen["labels without a picture"].samples == ["Annotations/lost.xml"]
    assert seen["no box"].samples == [
        "Annotations/c.xml, object 1 (no bndbox)",
        "Annotations/c.xml, object 2 (no name)",
        "Annotations/c.xml, object 3 (xmin 'abc2' is no number)",
    ]
    assert found(read(tmp_path))["c"] == []
    assert read(tmp_path).passed["XML files that annotate no picture passed over"] == (1, ["Annotations/project.xml"])


def test_voc_difficult_is_kept_and_counted(tmp_path):
    voc(tmp_path)
    box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>5</xmax><ymax>5</ymax></bndbox>"
    text(
        tmp_path / "Annotations/c.xml",
        f"<annotation><object><name>cat</name><difficult>1</difficult>{box}</object></annotation>",
    )
    table, findings = mend(read(tmp_path))
    assert [finding.rule for finding in findings] == ["difficult"] and findings[0].samples == [
        "JPEGImages/c.jpg, object 1 (cat)"
    ]
    assert table.column("target")[2].as_py()[0]["difficult"] is True


@pytest.mark.parametrize(
    ("boxes", "first", "note"),
    [
        ([(1, 1, 10, 10), (5, 5, 40, 20)], (0, 0, 10, 10), "counted from 1"),
        ([(1, 1, 10, 10), (0, 5, 40, 20)], (1, 1, 10, 10), "counted from 0: one is below 1"),
        ([(1, 1, 10, 10), (5, 5, 39, 20)], (1, 1, 10, 10), "none at the far sides"),
        ([(1, 1, 10.5, 10), (5, 5, 40, 20)], (1, 1, 10.5, 10), "some have fractions"),
    ],
)
def test_voc_corners_from_one_are_decided_for_the_whole_set(tmp_path, boxes, first, note):
    table = read(voc(tmp_path, {"a": [("cat", *boxes[0])], "b": [("cat", *boxes[1])]}))
    assert found(table)["a"] == [("cat", *first)]
    assert note in table.notes[0]


def test_voc_a_box_without_area_has_none_counted_from_one_either(tmp_path):
    boxes = {name: [("cat", 1, 1, 40, 30)] * 1 for name in map(str, range(30))}
    voc(tmp_path, boxes | {"point": [("cat", 5, 5, 5, 5), ("cat", 7, 7, 9, 9)]})
    table, findings = mend(read(tmp_path))
    assert found(table)["point"] == [("cat", 6, 6, 9, 9)]
    assert [(one.rule, one.samples) for one in findings] == [
        ("box without area", ["JPEGImages/point.jpg, object 1 (cat)"])
    ]


def test_voc_xml_that_cannot_be_read_is_named_and_too_much_of_it_refused(tmp_path):
    voc(tmp_path, {str(number): [("cat", 0, 0, 5, 5)] for number in range(30)})
    text(tmp_path / "Annotations/3.xml", "<annotation><object>")
    assert rules(tmp_path)["unreadable labels"].samples[0].startswith("Annotations/3.xml (no element found")
    assert "3" not in found(read(tmp_path))
    bomb = '<!DOCTYPE a [<!ENTITY b "c">]><annotation><filename>&b;</filename></annotation>'
    for number in range(2):
        text(tmp_path / "Annotations" / f"{number}.xml", bomb)
    assert "label files that cannot be read: 3 of 30: more than 5%" in said(tmp_path)
    assert "Annotations/0.xml (holds a DOCTYPE, which is not read)" in said(tmp_path)
    (tmp_path / "Annotations/0.xml").write_bytes(bomb.encode("utf-16"))
    assert "Annotations/0.xml (holds a DOCTYPE" in said(tmp_path)


def test_voc_an_xml_file_twice_is_named(tmp_path):
    voc(tmp_path)
    voc_file(tmp_path / "Annotations/xmls/a.xml", [("cat", 0, 0, 5, 5)])
    same(found(read(tmp_path)), BOXES)
    assert rules(tmp_path)["picture annotated twice"].samples == ["JPEGImages/a.jpg (Annotations/xmls/a.xml)"]


# COCO


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


# YOLO

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


# tables


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet", ""])
@pytest.mark.parametrize("corners", ["xmin ymin xmax ymax", "x1 y1 x2 y2", "Left Top Right Bottom"])
def test_a_table_with_a_row_a_box_comes_back(tmp_path, suffix, corners, monkeypatch):
    for name in BOXES:
        picture(tmp_path / f"{name}.jpg")
    rows = frame(BOXES, corners)
    write = {
        "csv": lambda path: rows.to_csv(path, index=False),
        "tsv": lambda path: rows.to_csv(path, index=False, sep="\t"),
        "jsonl": lambda path: rows.to_json(path, orient="records", lines=True),
        "parquet": rows.to_parquet,
    }
    monkeypatch.chdir(tmp_path)
    if suffix:
        write[suffix](tmp_path / f"t.{suffix}")
    table = read(tmp_path / f"t.{suffix}" if suffix else rows)
    same(found(table), BOXES)
    assert table.label == "class" and table.named == ("filename",) and table.column("row").to_pylist() == [1, 3, 4]
    assert not mend(table)[1]


@pytest.mark.parametrize("corners", ["x y width height", "x y w h"])
def test_a_table_with_a_corner_and_a_size(tmp_path, corners):
    picture(tmp_path / "images/a.jpg")
    rows = frame({"a": [("cat", 30, 5, 8, 6)]}, corners)
    rows.to_csv(tmp_path / "t.csv", index=False)
    table = read(tmp_path / "t.csv")
    assert found(table) == {"a": [("cat", 30, 5, 38, 11)]} and table.column("sample")[0].as_py() == "images/a.jpg"
    assert table.column("said_width")[0].as_py() is None


def test_a_table_may_say_the_size_of_its_pictures_and_their_split(tmp_path):
    for name in "ab":
        picture(tmp_path / f"{name}.jpg")
    rows = frame({name: WHOLE[name] for name in "ab"})
    rows["width"], rows["height"], rows["split"], rows["group"] = 44, 33, ["train", "train", "test"], ["x", "x", "y"]
    rows.to_csv(tmp_path / "t.csv", index=False)
    table = read(tmp_path / "t.csv")
    assert table.column("said_width").to_pylist() == [44, 44] and splits(table) == {"a": "train", "b": "test"}
    assert table.column("group").to_pylist() == ["x", "y"]
    assert rules(tmp_path / "t.csv")["wrong size"].samples[0] == "a.jpg (said 44 x 33, is 40 x 30)"
    rows["split"] = ["train", "test", "test"]
    rows.to_csv(tmp_path / "t.csv", index=False)
    assert "a.jpg in" in said(tmp_path / "t.csv") and "has boxes in several splits" in said(tmp_path / "t.csv")


def test_open_images_with_shares_of_the_sides_and_names_without_suffix(tmp_path):
    picture(tmp_path / "train/0a1b.jpg")
    rows = "ImageID,LabelName,Confidence,XMin,XMax,YMin,YMax,IsGroupOf\n0a1b,/m/01,1,0.25,0.5,0.1,1,1\n"
    table = read(text(tmp_path / "t.csv", rows))
    same(found(table), {"0a1b": [("/m/01", 10, 3, 20, 30)]})
    assert "shares of the sides" in table.notes[0] and table.column("target")[0].as_py()[0]["crowd"] is True


def test_sizes_that_are_shares_are_refused(tmp_path):
    picture(tmp_path / "a.jpg")
    frame({"a": [("cat", 0.5, 0.5, 0.2, 0.2)]}, "x y width height").to_csv(tmp_path / "t.csv", index=False)
    assert "may be a corner or the centre" in said(tmp_path / "t.csv")


def test_rows_of_four_zeros_are_pictures_without_objects(tmp_path):
    for name in "ab":
        picture(tmp_path / f"{name}.jpg")
    frame({"a": [("cat", 0, 0, 0, 0)], "b": [("cat", 1, 2, 3, 4)]}).to_csv(tmp_path / "t.csv", index=False)
    table = read(tmp_path / "t.csv")
    assert found(table) == {"a": [], "b": [("cat", 1, 2, 3, 4)]} and "four zeros" in table.notes[0]


LISTS = [
    lambda each: {"objects": [{"bbox": box[1:], "category": box[0]} for box in each]},
    lambda each: {"objects": {"bbox": [box[1:] for box in each], "category": [box[0] for box in each]}},
    lambda each: {
        "annotations": [dict(zip(("label", "xmin", "ymin", "xmax", "ymax"), box, strict=True)) for box in each]
    },
    lambda each: {"boxes": [box[1:] for box in each], "labels": [box[0] for box in each]},
]


@pytest.mark.parametrize("suffix", ["jsonl", "parquet", ""])
@pytest.mark.parametrize("lists", LISTS)
def test_a_table_with_a_row_a_picture_comes_back(tmp_path, lists, suffix, monkeypatch):
    boxes = {"a": [("cat", 10, 10, 35, 28), ("dog", 30, 20, 40, 30)], "c": [], "b": [("dog", 25, 18, 39, 29)]}
    for name in boxes:
        picture(tmp_path / f"{name}.jpg")
    rows = [{"image": f"{name}.jpg", **lists(each)} for name, each in boxes.items()]
    monkeypatch.chdir(tmp_path)
    if suffix == "jsonl":
        text(tmp_path / "t.jsonl", "\n".join(map(json.dumps, rows)))
    elif suffix == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    table = read(tmp_path / f"t.{suffix}" if suffix else pd.DataFrame(rows))
    same(found(table), boxes)
    assert any("read as x1, y1, x2, y2" in note for note in table.notes) or "xmin" in str(rows)


def test_lists_of_another_length_are_refused(tmp_path):
    rows = [{"image": "a.jpg", "boxes": [[1, 2, 3, 4]], "labels": ["cat", "dog"]}]
    assert (
        "labels of" in (message := said(text(tmp_path / "t.jsonl", json.dumps(rows[0]))))
        and "holds 2 values in row 1" in message
    )
    rows[0] |= {"labels": ["cat"], "boxes": [[1, 2, 3]]}
    assert "has 3 numbers" in said(text(tmp_path / "t.jsonl", json.dumps(rows[0])))


def features(sequence: bool) -> Features:
    inner = {
        "bbox": Sequence(Value("float32"), length=4),
        "category": ClassLabel(names=["dog", "cat", "fox"]),
        "area": Value("int64"),
    }
    return Features(
        {
            "image": Image(),
            "width": Value("int32"),
            "height": Value("int32"),
            "objects": Sequence(inner) if sequence else [inner],
        }
    )


def hugging(sequence: bool, boxes: Named = BOXES, sized: bool = True) -> Dataset:
    numbers = {"dog": 0, "cat": 1}
    rows: dict[str, list] = {"image": [], "width": [], "height": [], "objects": []}
    for each in boxes.values():
        objects = [
            {"bbox": [x1, y1, x2 - x1, y2 - y1] if sized else [x1, y1, x2, y2], "category": numbers[label], "area": 9}
            for label, x1, y1, x2, y2 in each
        ]
        columns = {name: [one[name] for one in objects] for name in ("bbox", "category", "area")}
        for name, value in zip(
            rows, ({"bytes": png(), "path": None}, *SIZE, columns if sequence else objects), strict=True
        ):
            rows[name].append(value)
    return Dataset.from_dict(rows, features=features(sequence))


@pytest.mark.parametrize("sequence", [True, False])
def test_a_hugging_face_dataset_comes_back(tmp_path, sequence):
    dataset = hugging(sequence)
    dataset.to_parquet(tmp_path / "t.parquet")
    for source in (dataset, tmp_path / "t.parquet", DatasetDict(train=dataset, test=dataset)):
        table = read(source)
        same(
            {name: boxes for name, boxes in found(table).items() if int(name) < 3},
            dict(zip("012", BOXES.values(), strict=True)),
        )
        assert table.classes == ("dog", "cat", "fox") and table.form == "bytes" and table.name(1).endswith("row 2")
        assert table.column("said_width")[0].as_py() == 40 and table.column("target")[0].as_py()[0]["area"] == 9
        assert "boxes are read as x, y, width, height" in table.notes
    assert read(DatasetDict(train=dataset, test=dataset)).column("split").to_pylist() == ["train"] * 3 + ["test"] * 3


def test_names_of_classes_are_found_in_what_older_versions_wrote(tmp_path):
    """A sequence of structs was said as such, and stored as a struct of lists."""
    table = hugging(True).with_format("arrow")[:]
    told = json.loads(table.schema.metadata[b"huggingface"])
    fields = told["info"]["features"]["objects"]
    inner = {
        name: {**field["feature"], **({"_type": "Sequence"} if name == "bbox" else {})}
        for name, field in fields.items()
    }
    told["info"]["features"]["objects"] = {"_type": "Sequence", "feature": inner}
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(told)}), tmp_path / "t.parquet")
    table = read(tmp_path / "t.parquet")
    assert table.classes == ("dog", "cat", "fox") and found(table)["1"][0][0] == "dog"
    frame_ = read(pd.read_parquet(tmp_path / "t.parquet"))
    assert [box[0] for box in found(frame_)["0"]] == ["1", "0"]


def test_boxes_that_only_fit_as_corners_are_read_as_corners():
    boxes = {"a": [("cat", 10, 10, 35, 28), ("dog", 30, 20, 40, 30)], "b": [("dog", 25, 18, 39, 29)]}
    table = read(hugging(True, boxes, sized=False))
    same(found(table), {"0": boxes["a"], "1": boxes["b"]})
    assert table.notes == (
        "boxes are read as x1, y1, x2, y2: as x, y, width, height, 100% of the pictures would have boxes that do not fit",
    )


def test_a_split_folder_of_tables_of_boxes(tmp_path):
    for name in "ab":
        picture(tmp_path / f"{name}.jpg")
        frame({name: WHOLE[name]}).to_csv(tmp_path / f"{'train' if name == 'a' else 'test'}.csv", index=False)
    table = read(tmp_path)
    assert splits(table) == {"a": "train", "b": "test"}
    assert table.column("row").to_pylist() == [1, 1] and table.column("table").to_pylist() == ["train.csv", "test.csv"]


def test_every_split_of_a_folder_of_tables_must_have_the_boxes(tmp_path):
    for name in "ab":
        picture(tmp_path / f"{name}.jpg")
    frame({"a": WHOLE["a"]}).to_csv(tmp_path / "train.csv", index=False)
    text(tmp_path / "test.csv", "filename,class\nb.jpg,cat\n")
    assert "test.csv: has no column xmin and no ymin and no xmax and no ymax" in said(tmp_path)


def test_a_split_folder_of_hugging_face_files(tmp_path):
    for split in ("train", "validation"):
        hugging(True).to_parquet(tmp_path / f"{split}-00000-of-00001.parquet")
    table = read(tmp_path)
    assert table.column("split").to_pylist() == ["train"] * 3 + ["val"] * 3 and table.classes == ("dog", "cat", "fox")
    assert table.label == "objects" and table.name(4) == "validation-00000-of-00001.parquet row 2"


@pytest.mark.parametrize("written", [int, str])
def test_columns_of_boxes_by_other_names_are_not_taken_for_anything_else(tmp_path, written):
    """Every box would be a sample of a picture else."""
    for name in BOXES:
        picture(tmp_path / f"{name}.jpg")
    rows = frame(corners="a b c d").dropna()
    rows[list("abcd")] = rows[list("abcd")].astype(int).astype(written)
    rows.loc[np.repeat(rows.index, 4)].to_parquet(tmp_path / "t.parquet", index=False)
    message = said(tmp_path / "t.parquet")
    assert "names the same pictures again and again, beside 4 columns of numbers: a, b, c, d" in message
    assert "call them xmin, ymin, xmax, ymax; if not, say so: --format table" in message
    assert read(tmp_path / "t.parquet", format="table").column("target").type == "string"


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"xmin": "a"}, "'a' in column xmin of"),
        ({"class": None}, "boxes of a class that has no name: 3 of 3"),
        ({"filename": "absent.jpg"}, "'absent.jpg' in column filename of"),
    ],
)
def test_tables_of_boxes_that_are_wrong(tmp_path, columns, message):
    for name in BOXES:
        picture(tmp_path / f"{name}.jpg")
    rows = frame().astype(object)
    for name, value in columns.items():
        rows[name] = value
    rows.to_csv(tmp_path / "t.csv", index=False)
    assert message in said(tmp_path / "t.csv")


def test_a_table_of_boxes_without_classes_asks_for_them(tmp_path):
    picture(tmp_path / "a.jpg")
    frame({"a": [("cat", 1, 2, 3, 4)]}).rename(columns={"class": "what"}).to_csv(tmp_path / "t.csv", index=False)
    assert "has no column known to hold the classes of boxes" in said(tmp_path / "t.csv")
    assert found(read(tmp_path / "t.csv", label="what")) == {"a": [("cat", 1, 2, 3, 4)]}
    assert "--label absent: is no column of the boxes" in said(tmp_path / "t.csv", label="absent")


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


# mending


def table_of(
    boxes: list[list[tuple]], sizes: list[tuple[int, int] | None], root: Path | None = None, **columns: list
) -> Table:
    """Boxes as a reader gives them: (class, x1, y1, x2, y2) in pictures of these sizes."""
    counts = np.array([len(each) for each in boxes], np.int64)
    flat = [box for each in boxes for box in each]
    corners = np.array([box[1:] for box in flat], float).reshape(-1, 4)
    no = np.zeros(len(flat), bool)
    target = Boxes(
        counts, pa.array([box[0] for box in flat], pa.string()), corners, no, no, np.full(len(flat), np.nan)
    ).column()
    own = {
        name: pa.array([size and size[side] for size in sizes], pa.int32())
        for side, name in enumerate(("width", "height"))
    }
    said_ = {f"said_{name}": pa.nulls(len(boxes), pa.int32()) for name in own}
    samples = pa.array([f"{number}.jpg" for number in range(len(boxes))])
    rows = pa.table({"sample": samples, "target": target, **own, **said_, **columns})
    return Table(rows, "path", "made up", "made up", root=root)


def padded(*boxes: tuple) -> list[tuple]:
    """With so many good boxes beside them that one of no use is no error."""
    return [*boxes, *(("good", number, 1, number + 10, 10) for number in range(0, 120, 3))]


@pytest.mark.parametrize(
    ("box", "rule", "kept"),
    [
        ((5, 5, 5, 9), "box without area", None),
        ((9, 5, 5, 9), "box without area", None),
        ((float("nan"), 5, 9, 9), "box without area", None),
        ((5, 5, float("inf"), 9), "box without area", None),
        ((200, 5, 210, 9), "box outside its picture", None),
        ((5, -9, 9, 0), "box outside its picture", None),
        ((-3, 90, 250, 101), "box clipped", (0, 90, 200, 100)),
        ((-0.4, 90, 10, 100.4), None, (0, 90, 10, 100)),
        ((5, 5, 5.01, 9), None, (5, 5, 5.01, 9)),
        ((0.4, 1, 10.3, 10.5), None, (0.4, 1, 10.3, 10.5)),
    ],
)
def test_each_rule_for_a_box(box, rule, kept):
    table, findings = mend(table_of([[], padded(("cat", *box))], [(50, 50), (200, 100)]))
    assert [(one.rule, one.count, one.samples) for one in findings] == (
        [(rule, 1, ["1.jpg, object 1 (cat)"])] if rule else []
    )
    assert [one[1:] for one in found(table)["1"] if one[0] == "cat"] == ([kept] if kept else [])
    assert found(table)["0"] == []


def test_duplicates_are_kept_once():
    boxes = padded(
        ("cat", 5, 5, 9, 9), ("cat", 5.5, 5, 9, 8.5), ("dog", 5, 5, 9, 9), ("cat", 5.6, 5, 9, 9), ("cat", 5, 5, 9, 9)
    )
    table, (finding,) = mend(table_of([boxes, [("cat", 5, 5, 9, 9)]], [(200, 100)] * 2))
    assert (finding.rule, finding.count, finding.done) == ("duplicate box", 3, "one is kept")
    assert finding.samples == [f"0.jpg, object {number} (cat)" for number in (2, 4, 5)]
    assert len(found(table)["0"]) == len(boxes) - 3 and len(found(table)["1"]) == 1


def test_too_many_boxes_of_no_use_are_refused():
    boxes = [("cat", number, 5, number + 3, 9) for number in range(0, 38)]
    mend(table_of([[*boxes, ("cat", 5, 5, 5, 5), ("cat", 500, 5, 600, 9)]], [(200, 100)]))
    with pytest.raises(UserError, match=r"3 of 41: more than 5%, which is no accident: 0\.jpg, object 39") as caught:
        mend(table_of([[*boxes, ("cat", 5, 5, 5, 5), ("cat", 500, 5, 600, 9), ("cat", 5, 5, 4, 9)]], [(200, 100)]))
    assert "check that they are written as is usual" in str(caught.value)


def test_boxes_of_a_picture_that_cannot_be_read_are_not_judged():
    table, findings = mend(table_of([[("cat", 5, 5, 5, 5)], [("cat", 1, 1, 9, 9)]], [None, (20, 20)]))
    assert found(table) == {"0": None, "1": [("cat", 1, 1, 9, 9)]} and not findings


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_in_the_frame_before_exif_are_turned_with_their_picture(tmp_path, orientation):
    exif, stored = Pillow.Exif(), np.zeros((40, 60, 3), np.uint8)
    exif[ORIENTATION] = orientation
    stored[10:20, 5:30] = 255
    (tmp_path / "images").mkdir()
    Pillow.fromarray(stored).save(tmp_path / "images/a.png", exif=exif)
    voc_file(tmp_path / "annotations/a.xml", [("cat", 5, 10, 30, 20)], (60, 40))
    table, findings = mend(read(tmp_path))
    (box,) = found(table)["a"]
    white = np.argwhere(np.asarray(decode((tmp_path / "images/a.png").read_bytes()))[..., 0] == 255)
    if orientation in (1, 5, 6, 7, 8):
        assert box[1:] == (*white.min(axis=0)[::-1], *(white.max(axis=0)[::-1] + 1))
    assert [one.rule for one in findings] == (["boxes before rotation"] if orientation > 4 else [])


def test_boxes_of_an_upright_picture_stay_whatever_exif_says(tmp_path):
    picture(tmp_path / "images/a.jpg", (60, 40), 6)
    voc_file(tmp_path / "annotations/a.xml", [("cat", 5, 10, 30, 20)], (40, 60))
    table, findings = mend(read(tmp_path))
    assert found(table) == {"a": [("cat", 5, 10, 30, 20)]} and not findings
    voc_file(tmp_path / "annotations/a.xml", [("cat", 5, 10, 30, 20)], (41, 60))
    assert rules(tmp_path)["wrong size"].samples == ["images/a.jpg (said 41 x 60, is 40 x 60)"]


side = (
    st.floats(-60, 160)
    | st.integers(-3, 103)
    | st.sampled_from([float("nan"), float("inf"), -float("inf"), 0.0, 100.0])
)
any_box = st.tuples(st.sampled_from("ab"), side, side, side, side)


@given(st.lists(st.lists(any_box, max_size=4), min_size=1, max_size=3), st.integers(0, 99))
def test_mended_boxes_lie_in_their_pictures_and_have_an_area(boxes, spare):
    boxes = [*boxes, [("c", x, y, x + 1, y + 1) for x in range(spare) for y in range(2)]]
    try:
        table, findings = mend(table_of(boxes, [(100, 100)] * len(boxes)))
    except UserError:
        return
    mended = Boxes.of(table.column("target"))
    assert ((mended.corners >= 0) & (mended.corners <= 100)).all()
    assert (mended.corners[:, 2:] > mended.corners[:, :2]).all()
    assert len(mended) + sum(one.count for one in findings if one.severity == "set aside") == sum(map(len, boxes))
    again, nothing = mend(table)
    assert again.column("target").equals(table.column("target")) and not nothing


@given(st.lists(st.tuples(st.sampled_from("ab"), *[st.integers(0, 6)] * 4), max_size=12))
def test_repeated_boxes_are_those_with_an_earlier_equal_one(boxes):
    seen, expected = set(), []
    for box in boxes:
        expected.append(box in seen)
        seen.add(box)
    flat = Boxes.of(table_of([boxes], [(9, 9)]).column("target"))
    assert repeated(flat).tolist() == expected


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
