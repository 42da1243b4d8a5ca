"""The gate: what cannot be read is set aside, what contradicts itself is named, no file of the user's is changed."""

from __future__ import annotations

import io
import threading
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from acclimate.core.errors import UserError
from acclimate.data import gate
from acclimate.data.gate import AHEAD, Finding, check, check_classes, check_samples, digests, joined_names, scan
from acclimate.data.read import read
from acclimate.data.table import Table


def png(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), (shade, shade // 2, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def pictures(root: Path, names: dict[str, int | bytes]) -> Table:
    for name, content in names.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(png(content) if isinstance(content, int) else content)
    return read(root)


def passed(table: Table, workers: int = 2) -> tuple[np.ndarray, dict[int, str]]:
    """(hashes, errors) of a scan."""
    seen = list(scan(table, workers=workers))
    return digests(one.hash for one in seen), {one.index: one.error for one in seen if one.error}


def test_scan_goes_in_table_order_whatever_the_workers(tmp_path):
    table = pictures(tmp_path, {f"a/{i:03}.png": i for i in range(100)})
    for workers in (1, 4):
        seen = list(scan(table, workers=workers))
        assert [(one.index, one.hash) for one in seen] == [
            (i, blake2b(png(i), digest_size=16).digest()) for i in range(100)
        ]


def test_scan_reads_no_further_ahead_than_it_may(monkeypatch):
    rows = pa.table({"sample": [b"%d" % i for i in range(500)]})
    read_so_far = []
    read_one = gate.read_one
    monkeypatch.setattr(gate, "read_one", lambda table, index: read_so_far.append(index) or read_one(table, index))
    stream = scan(Table(rows, "bytes", "memory", "test"), workers=2)
    for _ in range(10):
        next(stream)
    assert len(read_so_far) <= 10 + 2 * AHEAD
    threads = threading.active_count()
    stream.close()
    assert len(read_so_far) <= 10 + 2 * AHEAD and threading.active_count() < threads


def test_every_way_a_sample_can_be_unreadable_has_its_reason(tmp_path):
    table = pictures(tmp_path, {"a/good.png": 1, "a/zero.png": b""})
    (tmp_path / "a" / "gone.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "a" / "folder").mkdir()
    rows = ["a/good.png", "a/zero.png", "a/gone.png", "a/folder", None]
    table = Table(pa.table({"sample": rows}), "path", "memory", "test", root=tmp_path)
    hashes, errors = passed(table)
    assert errors == {
        1: "is empty (0 bytes)",
        2: "is not there",
        3: "cannot be read: Is a directory",
        4: "names no file",
    }
    assert [bool(row.any()) for row in hashes] == [True, False, False, False, False]


def test_texts_and_bytes_are_hashed_by_content():
    words = ["a", "b", "a"]
    texts = [one.hash for one in scan(Table(pa.table({"sample": words}), "text", "memory", "test"))]
    stored = [one.hash for one in scan(Table(pa.table({"sample": [b"a", b"b", b"a"]}), "bytes", "memory", "test"))]
    assert texts == stored and texts[0] == texts[2] != texts[1]


def test_unreadable_samples_are_set_aside_and_nothing_is_changed_on_disk(tmp_path):
    table = pictures(tmp_path, {f"{'ab'[i % 2]}/{i:02}.png": i for i in range(59)} | {"b/bad.png": b""})
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in tmp_path.rglob("*.png")}
    keep, findings = check(table, *passed(table))
    assert np.flatnonzero(~keep).tolist() == [59]
    assert findings == [
        Finding(
            rule="unreadable",
            severity="set aside",
            what="samples that cannot be read: 1 of 60",
            samples=["b/bad.png: is empty (0 bytes)"],
            count=1,
            done="set aside",
        )
    ]
    assert before == {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in tmp_path.rglob("*.png")}


def test_more_than_one_in_twenty_unreadable_is_an_error(tmp_path):
    good = {f"{'ab'[i % 2]}/{i:02}.png": i for i in range(90)}
    table = pictures(tmp_path, good | {f"a/bad{i}.png": b"" for i in range(6)})
    with pytest.raises(UserError) as caught:
        check_samples(table, *passed(table))
    message = str(caught.value)
    assert "samples that cannot be read: 6 of 96: more than 5%" in message
    assert "a/bad0.png: is empty (0 bytes)" in message and "a/bad4.png" in message and "a/bad5.png" not in message


def test_a_class_that_loses_every_sample_is_named(tmp_path):
    table = pictures(tmp_path, {f"a/{n}.png": n for n in range(30)} | {"b/1.png": 31, "c/1.png": b""})
    _, findings = check_samples(table, *passed(table))
    assert [(one.rule, one.samples) for one in findings] == [
        ("unreadable", ["c/1.png: is empty (0 bytes)"]),
        ("lost class", ["c"]),
    ]


def test_groups_that_lie_across_given_splits_are_named(tmp_path):
    table = pictures(tmp_path, {"a/1.png": 1, "a/2.png": 2, "b/1.png": 3, "b/2.png": 4, "b/3.png": 5})
    table = table.with_column("split", pa.array(["train", "test", "train", "train", None]))
    table = table.with_column("group", pa.array(["one", "one", "two", "two", None]))
    _, findings = check_samples(table, *passed(table))
    assert [(one.rule, one.samples) for one in findings] == [("group in several splits", ["one"])]


def test_identical_samples_across_splits_and_with_different_labels_are_named(tmp_path):
    table = pictures(
        tmp_path,
        {"train/a/1.png": 1, "train/a/2.png": 2, "train/b/1.png": 3, "train/b/2.png": 2, "train/b/3.png": 3}
        | {"test/a/1.png": 1, "test/b/9.png": 9, "test/b/1.png": 2},
    )
    keep, findings = check(table, *passed(table))
    assert keep.all()
    assert [(one.rule, one.severity, one.count, one.samples) for one in findings] == [
        (
            "same sample in several splits",
            "note",
            2,
            ["train/a/1.png = test/a/1.png", "train/a/2.png = train/b/2.png = test/b/1.png"],
        ),
        ("same sample, different labels", "note", 1, ["train/a/2.png = train/b/2.png = test/b/1.png"]),
    ]


def test_targets_of_several_labels_are_compared_as_they_are():
    table = read([(b"x", ["a", "b"]), (b"x", ["a"]), (b"y", ["a"]), (b"y", ["a"])])
    _, findings = check(table, *passed(table))
    assert [one.samples for one in findings] == [["row 1 = row 2"]]


def test_samples_without_a_label_are_set_aside(tmp_path):
    table = read([(b"1", "a"), (b"2", None), (b"3", "b"), (b"4", "")])
    keep, findings = check(table, *passed(table))
    assert keep.tolist() == [True, False, True, False]
    assert [(one.rule, one.samples, one.count) for one in findings] == [("no label", ["row 2", "row 4"], 2)]
    empty = read([(b"1", None), (b"2", None)])
    with pytest.raises(UserError, match="have no label"):
        check(empty, *passed(empty))


def test_an_empty_column_of_labels_is_to_be_filled_in(tmp_path):
    (tmp_path / "ask.csv").write_text("text,label,predicted\nred,,x\ngreen,,y\n")
    table = read(tmp_path / "ask.csv")
    with pytest.raises(UserError, match="2 samples: have no label\n  fill in label, the column of labels, or name an"):
        check(table, *passed(table))


def test_without_targets_only_samples_are_checked():
    table = read([b"1", b"1", b"2"], labels=False)
    keep, findings = check_samples(table, *passed(table))
    assert keep.all() and findings == []


def test_samples_that_cannot_be_read_are_not_taken_for_identical():
    table = read([(b"", "a"), (b"", "b"), *((b"%d" % i, "ab"[i % 2]) for i in range(40))])
    _, findings = check(table, *passed(table))
    assert [one.rule for one in findings] == ["unreadable"]


def test_only_twenty_samples_are_listed():
    table = read([(b"%d" % (i // 2), "ab"[i % 2]) for i in range(60)])
    _, (finding,) = check_samples(table, *passed(table))
    assert finding.count == 30 and len(finding.samples) == 20


def classes(targets: list, splits: list | None = None) -> Table:
    kind = pa.list_(pa.string()) if isinstance(targets[0], list) else pa.string()
    rows = {"sample": [b"x"] * len(targets), "target": pa.array(targets, kind)}
    rows |= {} if splits is None else {"split": pa.array(splits, pa.string())}
    return Table(pa.table(rows), "bytes", "photos", "test")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (classes(["a", "a"]), "photos: a: is the only class"),
        (classes([[], []]), "photos: none: is the only class"),
        (
            classes(["a", "b", "c", "d"], ["train", "train", "test", "val"]),
            "photos: d in val: is lacking in training, which has a, b\n"
            "  correct the names, add training samples, or take the class out of val\n"
            "photos: c in test: is lacking in training, which has a, b",
        ),
        (classes([["a"], ["a", "b"]], [None, "test"]), "b in test: is lacking in training, which has a"),
        (classes(["a", "b"], ["test", "test"]), "holds no training samples, only test"),
    ],
)
def test_classes_that_cannot_be_learnt(table, message):
    with pytest.raises(UserError) as caught:
        check_classes(table)
    assert message in str(caught.value)


def test_names_that_differ_only_in_case_or_spaces_are_named():
    names = ["Cat", "cat ", "dog", "caf\u00e9", "cafe\u0301", "big  dog", "Big dog"]
    (finding,) = check_classes(classes(names))
    assert finding.rule == "similar class names" and finding.count == 3
    assert "'Cat' = 'cat '" in finding.samples
    assert check_classes(classes(["cat", "cats"])) == []
    (several,) = check_classes(classes([["a"], ["A", "b"]]))
    assert several.samples == ["'A' = 'a'"]


@pytest.mark.parametrize(
    ("classes", "found"),
    [
        (["a", "b", "a;b"], ["a;b"]),
        (["a|b", "b|c", "c|a", "d"], ["a|b", "b|c", "c|a"]),
        (["Bonn, Germany", "Rome, Italy"], []),
        (["a", "b"], []),
    ],
)
def test_names_that_look_like_several_labels_are_named(classes, found):
    findings = joined_names(classes)
    assert [name for finding in findings for name in finding.samples] == found
    assert all("--separator" in finding.done for finding in findings)
