"""Readers: every layout becomes the same kind of `Table`, and what is wrong is said with value, rule and remedy."""

from __future__ import annotations

import io
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Sequence, Value
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow

from acclimate.core.errors import UserError
from acclimate.data.read import read
from acclimate.data.readers.words import natural_key
from acclimate.data.table import Table


def touch(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(path.encode())
    return root


def picture(color: str, mode: str = "RGB") -> Pillow.Image:
    return Pillow.new(mode, (3, 2), color)


def png(color: str) -> bytes:
    buffer = io.BytesIO()
    picture(color).save(buffer, "PNG")
    return buffer.getvalue()


def rows(table: Table) -> list[tuple]:
    """(sample, target) or (sample, target, split) of each row."""
    columns = [name for name in ("sample", "target", "split") if name in table]
    return list(zip(*(table.column(name).to_pylist() for name in columns), strict=True))


def said(source, **options) -> str:
    with pytest.raises(UserError) as caught:
        read(source, **options)
    return str(caught.value)


# folders


def test_class_folders_in_natural_order_with_everything_below_a_class(tmp_path):
    touch(tmp_path, "10/a.jpg", "2/b.PNG", "2/deep/a.jpg", "1/no_suffix")
    table = read(tmp_path)
    assert rows(table) == [("1/no_suffix", "1"), ("2/b.PNG", "2"), ("2/deep/a.jpg", "2"), ("10/a.jpg", "10")]
    assert table.reader == "folders" and table.form == "path"
    assert table.raw(0) == b"1/no_suffix"


def test_split_folders_by_any_of_their_words(tmp_path):
    touch(tmp_path, "Test/a/1.jpg", "train/b/1.jpg", "train/a/1.jpg", "validation/a/1.jpg", "valid/b/2.jpg")
    assert rows(read(str(tmp_path))) == [
        ("train/a/1.jpg", "a", "train"),
        ("train/b/1.jpg", "b", "train"),
        ("valid/b/2.jpg", "b", "val"),
        ("validation/a/1.jpg", "a", "val"),
        ("Test/a/1.jpg", "a", "test"),
    ]


def test_a_class_may_be_called_train(tmp_path):
    touch(tmp_path, "train/1.jpg", "plane/1.jpg")
    assert rows(read(tmp_path)) == [("plane/1.jpg", "plane"), ("train/1.jpg", "train")]


def test_hidden_and_other_files_are_passed_over_and_counted(tmp_path):
    touch(
        tmp_path, "a/1.jpg", "b/1.jpg", "a/.hidden.jpg", ".ipynb_checkpoints/1.jpg", "__MACOSX/a/1.jpg", "a/Thumbs.db"
    )
    touch(tmp_path, "a/notes.txt", "labels.csv", "stray.jpg")
    (tmp_path / "empty").mkdir()
    table = read(tmp_path)
    assert len(table) == 2
    hidden = [".ipynb_checkpoints", "__MACOSX", "a/.hidden.jpg", "a/Thumbs.db"]
    count, names = table.passed.pop("hidden files and folders ignored")
    assert (count, sorted(names)) == (4, hidden)
    assert table.passed == {
        "files that are no pictures passed over": (1, ["a/notes.txt"]),
        "pictures outside class folders passed over": (1, ["stray.jpg"]),
        "class folders without pictures": (1, ["empty"]),
    }


def test_links_are_followed_but_not_in_circles_and_a_broken_link_is_left_to_the_gate(tmp_path):
    touch(tmp_path / "elsewhere", "1.jpg")
    data = touch(tmp_path / "data", "b/1.jpg")
    (data / "a").symlink_to(tmp_path / "elsewhere")
    (data / "b" / "back").symlink_to(data / "b")
    (data / "b" / "up").symlink_to(data)
    (data / "b" / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    table = read(data)
    assert rows(table) == [("a/1.jpg", "a"), ("b/1.jpg", "b"), ("b/gone.jpg", "b")]
    assert table.passed == {"links back to a folder above ignored": (2, ["b/back", "b/up"])}


def test_without_labels_a_flat_folder_or_one_file_will_do(tmp_path):
    touch(tmp_path, "b.jpg", "a.png", "deep/c.jpg", "list.txt")
    flat = read(tmp_path, labels=False)
    assert rows(flat) == [("a.png",), ("b.jpg",), ("deep/c.jpg",)] and "target" not in flat
    one = read(tmp_path / "b.jpg", labels=False)
    assert rows(one) == [("b.jpg",)] and one.raw(0) == b"b.jpg"


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        ([], "is an empty folder"),
        (["a.jpg", "b.jpg"], "holds 2 pictures but no class folders"),
        (["train/a.jpg", "test/b.jpg"], "holds 2 pictures but no class folders"),
        (["notes.md", "a/readme.rst"], "holds no pictures"),
        (["inner/a/1.jpg", "inner/b/1.jpg"], "holds one folder, inner, which holds 2 folders\n  give {root}/inner"),
        (["labels.csv", "images/1.jpg"], "holds one class folder, images, beside a table"),
        (["labels.parquet"], "to read the table, give {root}/labels.parquet"),
        (["train/a/1.jpg", "test/a/1.jpg", "extra/1.jpg"], "extra: holds pictures beside folders named by split"),
    ],
)
def test_folders_that_are_no_class_folders(tmp_path, paths, message):
    assert message.format(root=tmp_path) in said(touch(tmp_path, *paths))


# tables


def write(path: Path, content: dict) -> Path:
    """The columns as the kind of table that the suffix says."""
    frame = pd.DataFrame(content)
    if path.suffix in (".csv", ".tsv"):
        frame.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")
    elif path.suffix == ".parquet":
        frame.to_parquet(path, index=False)
    else:
        path.write_text(frame.to_json(orient="records", lines=path.name != "array.json"))
    return path


@pytest.mark.parametrize(
    "name", ["t.csv", "t.tsv", "t.jsonl", "t.ndjson", "t.json", "array.json", "t.parquet", "T.CSV"]
)
def test_table_files(tmp_path, name):
    touch(tmp_path, "p/1.jpg", "p/2.jpg")
    content = {
        "id": ["x", "y"],
        "file_name": ["p/1.jpg", "p/2.jpg"],
        "Class": ["cat", "a dog"],
        "split": ["train", "dev"],
    }
    table = read(write(tmp_path / name.lower(), content).rename(tmp_path / name))
    assert rows(table) == [("p/1.jpg", "cat", "train"), ("p/2.jpg", "a dog", "val")]
    assert table.label == "Class" and table.reader == "table"
    assert table.column("id").to_pylist() == ["x", "y"]
    assert table.raw(1) == b"p/2.jpg"


def test_csv_values_stay_as_they_are_written(tmp_path):
    touch(tmp_path, "1.jpg")
    (tmp_path / "t.csv").write_text('\ufeffimage;label\n1.jpg;007\n1.jpg;true\n1.jpg;NA\n1.jpg;\n1.jpg;"a;\nb"\n')
    assert [target for _, target in rows(read(tmp_path / "t.csv"))] == ["007", "true", "NA", None, "a;\nb"]
    (tmp_path / "t.csv").write_text("image,label\n1.jpg,a\n,b\n")
    assert rows(read(tmp_path / "t.csv")) == [("1.jpg", "a"), (None, "b")]


def test_a_folder_of_tables_named_by_split(tmp_path):
    touch(tmp_path, "1.jpg")
    write(tmp_path / "train-00000-of-00002.parquet", {"image": ["1.jpg"], "label": [1]})
    write(tmp_path / "train-00001-of-00002.parquet", {"image": ["1.jpg"], "label": [2]})
    write(tmp_path / "dev.parquet", {"image": ["1.jpg"], "label": [3], "note": ["n"]})
    write(tmp_path / "test.parquet", {"image": ["1.jpg"]})
    assert "test.parquet: has no column label, which the others have; its columns: image" in said(tmp_path)
    assert len(read(tmp_path, labels=False)) == 4
    write(tmp_path / "test.parquet", {"image": ["1.jpg"], "label": [None]})
    table = read(tmp_path)
    assert rows(table) == [
        ("1.jpg", "1", "train"),
        ("1.jpg", "2", "train"),
        ("1.jpg", "3", "val"),
        ("1.jpg", None, "test"),
    ]
    assert table.column("note").to_pylist() == [None, None, "n", None]
    assert "--split s: has no effect on tables named by split" in said(tmp_path, split="s")


def test_the_same_split_in_two_kinds_of_table(tmp_path):
    write(tmp_path / "train.csv", {"image": ["1.jpg"], "label": [1]})
    write(tmp_path / "train.parquet", {"image": ["1.jpg"], "label": [1]})
    assert "hold the same split in two kinds of table" in said(tmp_path)


def test_columns_with_names_of_their_own(tmp_path):
    touch(tmp_path, "one", "two")
    content = {
        "where": ["one", "two"],
        "split": ["x", "y"],
        "kind": ["a", "b"],
        "fold": ["train", "test"],
        "who": [7, 8],
    }
    path = write(tmp_path / "t.csv", content)
    table = read(path, image="where", label="kind", split="fold", group="who")
    assert rows(table) == [("one", "a", "train"), ("two", "b", "test")]
    assert table.column("group").to_pylist() == ["7", "8"]
    assert table.rows.column_names == ["sample", "target", "split", "group", "split_", "row"]
    assert table.column("split_").to_pylist() == ["x", "y"]


def test_the_only_column_beside_the_pictures_is_the_label(tmp_path):
    touch(tmp_path, "1.jpg")
    table = read(write(tmp_path / "t.csv", {"x": ["1.jpg"], "breed": ["pug"]}))
    assert rows(table) == [("1.jpg", "pug")] and table.label == "breed"
    assert rows(read(tmp_path / "t.csv", labels=False)) == [("1.jpg",)]


def stored(values: list) -> pa.Array:
    return pa.array(values, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))


def test_bytes_and_path_of_a_struct(tmp_path):
    touch(tmp_path, "1.jpg", "2.jpg")
    both = [
        {"bytes": b"one", "path": "1.jpg"},
        {"bytes": None, "path": "2.jpg"},
        {"bytes": None, "path": "gone.jpg"},
        None,
    ]
    for name, part, form, samples in [
        ("bytes", both[:1], "bytes", [b"one"]),
        ("path", both[1:3], "path", ["2.jpg", "gone.jpg"]),
        ("mixed", both, "bytes", [b"one", b"2.jpg", None, None]),
    ]:
        pq.write_table(pa.table({"image": stored(part), "label": ["a"] * len(part)}), tmp_path / f"{name}.parquet")
        table = read(tmp_path / f"{name}.parquet")
        assert (table.form, table.column("sample").to_pylist()) == (form, samples)


@pytest.mark.parametrize(
    ("labels", "targets"),
    [
        ([3, 10, None], ["3", "10", None]),
        ([True, False, None], ["true", "false", None]),
        ([1.0, 2.0, None], ["1", "2", None]),
        (["a", "", None], ["a", None, None]),
        ([["a", "b"], [], None], [["a", "b"], [], None]),
        ([[1, 2], [3], None], [["1", "2"], ["3"], None]),
        ([None, None, None], [None, None, None]),
    ],
)
def test_labels_of_any_kind_become_names(tmp_path, labels, targets):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"image": [b"x"] * 3, "label": labels}), path)
    assert read(path).column("target").to_pylist() == targets


def test_dictionary_columns_are_as_good_as_text(tmp_path):
    touch(tmp_path, "1.jpg")
    words = {name: pa.array([value]).dictionary_encode() for name, value in (("image", "1.jpg"), ("label", "a"))}
    pq.write_table(pa.table(words | {"split": pa.array(["Training"]).dictionary_encode()}), tmp_path / "t.parquet")
    assert rows(read(tmp_path / "t.parquet")) == [("1.jpg", "a", "train")]


def test_a_separator_makes_several_labels_only_when_it_is_said(tmp_path):
    content = {"image": [b"x"] * 4, "label": ["b | a", "a|", None, "|"]}
    pq.write_table(pa.table(content), tmp_path / "t.parquet")
    assert read(tmp_path / "t.parquet").column("target").to_pylist() == content["label"]
    cut = read(tmp_path / "t.parquet", separator="|").column("target")
    assert cut.type == pa.list_(pa.string())
    assert cut.to_pylist() == [["b", "a"], ["a"], None, []]


@given(st.lists(st.none() | st.lists(st.text("abc", min_size=1), max_size=4), min_size=1))
def test_cutting_undoes_joining(labels):
    joined = [None if names is None else "|".join(names) for names in labels]
    pairs = [(b"x", text) for text in joined]
    if any(joined):
        assert read(pairs, separator="|").column("target").to_pylist() == labels


# what is wrong with tables


def test_several_mistakes_are_said_together(tmp_path):
    path = write(tmp_path / "t.csv", {"image": ["1.jpg"], "kind": ["a"], "part": ["x"]})
    message = said(path, image="imgae", label="knid", split="part", group="whom")
    assert "--image imgae: is not a column of" in message and "did you mean 'image'?" in message
    assert "--label knid: is not a column of" in message and "known: image, kind, part" in message
    assert "'x' in column part of" in message and "is none of train, training, val" in message
    assert "--group whom" in message


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (
            {"a": ["x"], "label": ["y"]},
            {},
            "holds no column of picture paths or bytes, and none of texts\n"
            "  name it with --image or --text; columns: a, label",
        ),
        ({"a": ["1.jpg"], "b": ["1.jpg"], "label": ["y"]}, {}, "may all hold pictures: a, b"),
        (
            {"image": ["1.jpg"], "b": [1], "c": [2]},
            {},
            "has no column known to hold labels\n  name it with --label; columns: image, b, c",
        ),
        ({"image": ["1.jpg"]}, {}, "has no column known to hold labels"),
        ({"image": ["1.jpg"], "label": [0.25]}, {}, "holds double, which names no classes"),
        ({"image": ["1.jpg"], "label": [{"x": 1}]}, {}, "which names no classes"),
        ({"image": ["1.jpg"], "label": [1]}, {"separator": "|"}, "--separator '|': cuts text, and column label of"),
        (
            {"image": [1], "label": ["a"]},
            {"image": "image"},
            "holds int64\n  name a column of paths or bytes with --image",
        ),
        ({"image": ["a/9.jpg"] * 3, "label": ["a"] * 3}, {}, "'a/9.jpg' in column image of"),
        ({"image": [], "label": []}, {}, "has no rows"),
    ],
)
def test_tables_that_lack_something(tmp_path, content, options, message):
    touch(tmp_path, "1.jpg")
    pq.write_table(pa.table(content), tmp_path / "t.parquet")
    assert message in said(tmp_path / "t.parquet", **options)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"", "cannot be read as CSV"),
        ("t.csv", b"image,label\n1.jpg\n", "cannot be read as CSV"),
        ("t.csv", "image,label\n1.jpg,caf\u00e9\n".encode("latin-1"), "save it with the encoding UTF-8"),
        ("t.csv", b"image,label,label\n1.jpg,a,b\n", "label: names two columns"),
        ("t.jsonl", b'{"image": "1.jpg"', "cannot be read as JSONL"),
        ("t.json", b"[1", "cannot be read as JSON"),
        ("t.parquet", b"PAR1 no more", "cannot be read as PARQUET"),
        ("t.docx", b"", "is no table\n  tables end in .csv, .tsv, .jsonl, .ndjson, .json, .parquet"),
        ("t.jpg", b"", "is one file that is no table"),
    ],
)
def test_files_that_are_no_tables(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    assert message in said(tmp_path / name)


def test_a_path_that_is_not_there_names_its_neighbours(tmp_path):
    touch(tmp_path, "flowers/a/1.jpg", ".flower/1.jpg")
    message = said(tmp_path / "flower")
    assert (
        f"{tmp_path} holds no flower" in message and "did you mean 'flowers'?" in message and ".flower" not in message
    )
    assert "holds no flower" in said(tmp_path / "flower" / "deep" / "er")


def test_options_without_effect_and_unknown_sources(tmp_path):
    touch(tmp_path, "a/1.jpg", "b/1.jpg")
    assert "--label x: has no effect on class folders" in said(tmp_path, label="x")
    assert "int in memory: is no source of samples" in said(3)


# objects in memory


def test_hugging_face_dataset_with_named_classes():
    features = Features(
        {"image": Image(), "label": ClassLabel(names=["b", "a"]), "tags": Sequence(ClassLabel(names=["p", "q"]))}
    )
    content = {"image": [picture(c) for c in ("red", "blue", "white")], "label": [0, 1, -1], "tags": [[0, 1], [], [1]]}
    dataset = Dataset.from_dict(content, features=features)
    table = read(dataset.select([2, 0, 1]))
    assert table.form == "bytes" and table.reader == "huggingface"
    assert table.column("target").to_pylist() == [None, "b", "a"]
    assert Pillow.open(io.BytesIO(table.raw(1))).getpixel((0, 0)) == (255, 0, 0)
    assert read(dataset, label="tags").column("target").to_pylist() == [["p", "q"], [], ["q"]]


def test_parquet_written_by_hugging_face_keeps_its_class_names(tmp_path):
    features = Features({"image": Value("binary"), "label": ClassLabel(names=["b", "a"])})
    Dataset.from_dict({"image": [b"1", b"2"], "label": [1, 0]}, features=features).to_parquet(
        tmp_path / "train.parquet"
    )
    assert rows(read(tmp_path / "train.parquet")) == [(b"1", "a"), (b"2", "b")]
    assert rows(read(tmp_path)) == [(b"1", "a", "train"), (b"2", "b", "train")]


def test_dataset_dict_and_its_splits():
    part = Dataset.from_dict({"image": [b"1"], "label": ["a"]})
    assert rows(read(DatasetDict(train=part, validation=part))) == [(b"1", "a", "train"), (b"1", "a", "val")]
    assert "splits unsupervised of DatasetDict in memory" in said(DatasetDict(train=part, unsupervised=part))
    assert "is a stream" in said(part.to_iterable_dataset())


def test_data_frame(tmp_path):
    touch(tmp_path, "1.jpg")
    frame = pd.DataFrame(
        {"image": [tmp_path / "1.jpg"] * 3, "label": pd.Categorical(["b", None, "a"]), "odd": [1, "x", None]}
    )
    table = read(frame)
    assert rows(table) == [(str(tmp_path / "1.jpg"), target) for target in ("b", None, "a")]
    assert table.column("odd").to_pylist() == ["1", "x", None]
    pictures = read(pd.DataFrame({"picture": [picture("red"), picture("blue")], "y": [1, 2]}))
    assert pictures.form == "bytes" and Pillow.open(io.BytesIO(pictures.raw(1))).getpixel((0, 0)) == (0, 0, 255)


def test_pairs_of_paths_bytes_or_pictures(tmp_path):
    touch(tmp_path, "1.jpg")
    path = tmp_path / "1.jpg"
    assert rows(read([(path, "a"), (str(path), None)])) == [(str(path), "a"), (str(path), None)]
    assert rows(read([(b"x", 1), (b"y", 2)])) == [(b"x", "1"), (b"y", "2")]
    assert read([(b"x", ("b", "a")), (b"x", {"d", "c"})]).column("target").to_pylist() == [["b", "a"], ["c", "d"]]
    assert rows(read([path, path], labels=False)) == [(str(path),)] * 2
    assert read([(path, "a")]).raw(0) == b"1.jpg"


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I", "I;16", "F", "YCbCr", "HSV"])
def test_pictures_in_memory_are_stored_without_loss(mode):
    image = Pillow.new(mode, (3, 2), 1)
    kept = Pillow.open(io.BytesIO(read([(image, "a")]).raw(0)))
    if mode in ("YCbCr", "HSV"):
        image = image.convert("RGB")
    assert kept.mode == image.mode and kept.tobytes() == image.tobytes()


def test_pictures_in_memory_are_turned_as_their_exif_says():
    image, exif = picture("red"), Pillow.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", exif=exif)
    assert Pillow.open(io.BytesIO(read([(Pillow.open(buffer), "a")]).raw(0))).size == (2, 3)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ([], "list of 0 in memory: has no samples"),
        ([("a.jpg", "a"), "b.jpg"], "item 2 of list of 2 in memory: is no (picture, label) pair"),
        ([(b"x", "a"), (b"x", 1)], "labels of list of 2 in memory: cannot stand in one column: int, str"),
        ([(object(), "a")], "pictures of list of 1 in memory: cannot stand in one column: object"),
        ("", "'': is no path"),
    ],
)
def test_lists_that_are_no_pairs(source, message):
    assert message in said(source)


def test_paths_and_pictures_may_stand_in_one_list(tmp_path):
    Pillow.new("RGB", (2, 3), "red").save(tmp_path / "a.png")
    table = read([(str(tmp_path / "a.png"), "a"), (picture("red"), "b"), (str(tmp_path / "none.png"), "b")])
    assert table.raw(0) == (tmp_path / "a.png").read_bytes()
    assert [table.column("sample")[row].is_valid for row in range(3)] == [True, True, False]


# order and size


@given(st.lists(st.text("aB01é .", max_size=6)), st.randoms())
def test_natural_order_is_a_total_order(names, random):
    shuffled = random.sample(names, len(names))
    assert sorted(names, key=natural_key) == sorted(shuffled, key=natural_key)


def test_natural_order_is_how_people_count():
    assert sorted(["10", "2", "1", "b", "A", "a2", "a10"], key=natural_key) == ["1", "2", "10", "A", "a2", "a10", "b"]


def test_a_row_costs_bytes_not_objects(tmp_path):
    n = 200_000
    (tmp_path / "images").mkdir()
    touch(tmp_path, "images/000000.jpg")
    path = pc.binary_join_element_wise(
        "images/", pc.utf8_lpad(pa.array(range(n)).cast(pa.string()), 6, "0"), ".jpg", ""
    )
    pq.write_table(pa.table({"path": path, "label": pc.add(pa.array(range(n)), 0)}), tmp_path / "t.parquet")
    before = pa.total_allocated_bytes()
    table = read(tmp_path / "t.parquet")
    assert table.rows.nbytes / n < 60
    assert (pa.total_allocated_bytes() - before) / n < 200
