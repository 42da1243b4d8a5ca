"""Tables of boxes: a row a box or a row a picture, files, data frames and Hugging Face datasets."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from boxes import BOXES, SIZE, WHOLE, Named, found, frame, picture, png, rules, said, same, splits, text
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Sequence, Value

from acclimate.data.boxes import mend
from acclimate.data.read import read


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
