"""Pascal VOC: with or without image sets, in one folder or in several."""

from __future__ import annotations

import pytest
from boxes import BOXES, WHOLE, found, picture, rules, said, same, splits, text, voc, voc_file

from acclimate.data.boxes import mend
from acclimate.data.read import read
from acclimate.data.readers.boxes import TARGET


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
