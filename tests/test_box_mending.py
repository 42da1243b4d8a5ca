"""What is wrong with a box is named, mended or refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from boxes import ORIENTATION, found, picture, rules, voc_file
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow

from acclimate.core.errors import UserError
from acclimate.data.boxes import mend, repeated
from acclimate.data.decode import decode
from acclimate.data.read import read
from acclimate.data.readers.boxes import Boxes
from acclimate.data.table import Table


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
