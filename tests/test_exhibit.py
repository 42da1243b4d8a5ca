"""Samples as a person is shown them: texts join back, maps lie where they belong, boxes have their kind, nothing hostile gets through."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from conftest import TINY
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from texts import word_pieces

from acclimate.core.recipe import Options
from acclimate.data.table import Table
from acclimate.engine import evaluate
from acclimate.engine.exhibits import exhibits
from acclimate.engine.precision import Precision
from acclimate.engine.saved import Saved
from acclimate.engine.watcher import Watcher
from acclimate.models.detection.canvas import Canvas
from acclimate.models.pictures import Pictures
from acclimate.models.texts import TOKENIZER, Texts
from acclimate.report.exhibit_html import CSS, html
from acclimate.tasks.classification import Classification
from acclimate.tasks.detection import Detection
from acclimate.tasks.draw import LINES
from acclimate.tasks.exhibit import EDGE, Exhibit, Passages, Picture
from acclimate.tasks.image_classification import ImageClassification
from acclimate.tasks.image_inputs import ImageInputs
from acclimate.tasks.text_classification import TextClassification
from acclimate.tasks.text_inputs import TextInputs
from acclimate.tasks.text_pieces import pieces, shortened
from acclimate.verbs.job import prepare

CPU = torch.device("cpu")
HOSTILE = '<script>alert(1)</script>" onerror="x\u202e\x00\udcff&amp;'


def picture_bytes(size: tuple[int, int], kind: str = "PNG", colour: Any = "teal") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, kind)
    return buffer.getvalue()


def opened(content: bytes | None) -> Image.Image:
    assert content is not None
    return Image.open(io.BytesIO(content)).convert("RGB")


# --- texts


def made(folder: Path, kind: str = "bert", **shown: Any) -> TextInputs:
    """Inputs of a tokenizer of word pieces, or of bytes."""
    from texts import byte_pairs

    (folder / TOKENIZER).write_text(word_pieces() if kind == "bert" else byte_pairs(), encoding="utf-8")
    return TextInputs(Texts(**{"size": 24, "most": 64, "vocabulary": 400, "folder": folder, **shown}))


@pytest.fixture(scope="module", params=["bert", "bytes"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def inputs(kind: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, TextInputs]:
    home = tmp_path_factory.mktemp("tokenizers")
    return {long: made(home, kind, long=long) for long in ("truncate", "head+tail", "window")}


WILD = st.text(max_size=120) | st.sampled_from(
    [
        "Which train goes to Lisbon on Sunday?",
        "Naïve café — 火车去哪里？ 👩‍👩‍👧 Å e\u0301",
        "the dough " * 30,
        "  two\n\nlines\t and\u00a0blanks  ",
        "\ud800 broken \udfff",
    ]
)


@given(text=WILD, long=st.sampled_from(["truncate", "head+tail", "window"]))
def test_a_text_joins_back_from_its_pieces(inputs: dict[str, TextInputs], text: str, long: str) -> None:
    one = inputs[long]
    (sample,) = one.prepare_all([text], 1)
    if isinstance(sample, str):
        return
    spans = one.spans(text)
    assert len(spans) == len(sample["ids"])
    for weights in (None, np.linspace(-1, 2, len(spans))):
        (found,) = pieces([text], spans, weights)
        assert "".join(piece for piece, _ in found) == text
        told = [weight for _, weight in found if weight is not None]
        assert all(-1 <= weight <= 1 for weight in told)
        assert weights is not None or not told


@given(first=WILD, second=WILD)
def test_pairs_join_back_each_by_itself(inputs: dict[str, TextInputs], first: str, second: str) -> None:
    one = inputs["truncate"]
    (sample,) = one.prepare_all([(first, second)], 1)
    if isinstance(sample, str):
        return
    spans = one.spans((first, second))
    assert len(spans) == len(sample["ids"])
    found = pieces([first, second], spans, np.ones(len(spans)))
    assert ["".join(piece for piece, _ in text) for text in found] == [first, second]


def test_tokens_weigh_on_the_words_they_are_pieces_of(kind: str, tmp_path: Path) -> None:
    one = made(tmp_path, kind, size=64)
    text = "Add two cups of leeks, please: weatherproof."
    spans = one.spans(text)
    words = {}
    for number in range(len(spans)):
        weights = np.zeros(len(spans))
        weights[number] = 1
        heavy = [piece for piece, weight in pieces([text], spans, weights)[0] if weight]
        assert len(heavy) == (spans[number, 0] >= 0)
        words[number] = "".join(heavy)
    together = "".join(dict.fromkeys(word for word in words.values() if word))
    assert together == text.replace(" ", "")
    assert list(words.values()).count("weatherproof") > 1


def test_a_prefix_and_what_is_cut_away_have_no_weight(tmp_path: Path) -> None:
    text = " ".join(f"{word} the dough" for word in ("Stir", "Bake", "Add", "Taste", "Slowly", "butter", "flour") * 2)
    one = made(tmp_path, long="head+tail", prefix="Bake the pie: ", size=32)
    spans = one.spans(text)
    (found,) = pieces([text], spans, np.ones(len(spans)))
    assert "".join(piece for piece, _ in found) == text
    read = "".join(piece for piece, weight in found if weight is not None)
    (unread,) = (piece for piece, weight in found if weight is None)
    assert len(read) < len(text)
    assert not text.startswith(unread)
    assert not text.endswith(unread)
    assert found[-1][1] is not None


def test_scripts_without_spaces_are_weighed_letter_by_letter(tmp_path: Path) -> None:
    one = made(tmp_path)
    text = "火车去哪里"
    spans = one.spans(text)
    (found,) = pieces([text], spans, np.arange(len(spans), dtype=float))
    assert [piece for piece, _ in found] == list(text)


def test_of_a_long_text_the_part_that_weighs_is_shown() -> None:
    text = tuple((f"word{place} ", 1.0 if place == 60 else 0.0) for place in range(100))
    shown = shortened(text, 100)
    joined = "".join(piece for piece, _ in shown)
    assert "word60 " in joined
    assert joined.startswith("…")
    assert joined.endswith("…")
    assert joined.strip("…") in "".join(piece for piece, _ in text)
    assert len(joined) <= 102
    assert shortened(text[:3], 100) == text[:3]
    assert "".join(piece for piece, _ in shortened(tuple((piece, None) for piece, _ in text), 100)).startswith("word0 ")
    assert shortened((("x" * 500, 1.0), (" y", 0.0)), 100)[0] == ("x" * 500, 1.0)


def test_evidence_of_other_tokens_is_not_laid_on_a_text(tmp_path: Path) -> None:
    one = made(tmp_path)
    shown = one.shown("Add salt.", np.ones(3))
    assert shown is not None
    assert not shown.weighed
    assert one.shown("Add salt.", np.ones(len(one.spans("Add salt.")))).weighed
    assert one.shown(b"gone", None) is None


# --- pictures


@pytest.mark.parametrize(("resize", "left", "right"), [("squash", 0, 0), ("crop", 50, 50)])
def test_the_map_lies_in_the_frame_that_the_model_sees(resize: str, left: int, right: int) -> None:
    evidence = np.zeros((8, 8))
    evidence[:, 7] = 1
    evidence[:, 0] = -1
    shown = ImageInputs(Pictures(size=96, resize=resize)).shown(picture_bytes((400, 200)), evidence)
    assert isinstance(shown, Picture)
    assert (shown.width, shown.height) == (EDGE, EDGE // 2) == opened(shown.content).size
    warm = np.asarray(opened(shown.overlay), dtype=float)
    glow = (warm[..., 0] - warm[..., 2]).mean(axis=0)
    assert left + (EDGE - left - right) * 7 / 8 - 12 < glow.argmax() < EDGE - right
    light = warm.mean(axis=(0, 2))
    if resize == "crop":
        assert light[:40].max() < light[60:100].min()
        assert light[165:].max() < light[60:100].min()
    assert abs(glow[left + 5]) < 8  # what speaks against the answer is not drawn


def test_pictures_are_upright_small_and_lost_ones_are_none() -> None:
    image, buffer, exif = Image.new("RGB", (600, 300), "red"), io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    image.save(buffer, "JPEG", exif=exif)
    one = ImageInputs(Pictures(size=96))
    shown = one.shown(buffer.getvalue(), np.zeros((6, 6)))
    assert (shown.width, shown.height) == (EDGE // 2, EDGE)
    assert opened(shown.overlay).size == (EDGE // 2, EDGE)
    noisy = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    noisy.save(buffer, "PNG")
    assert len(one.shown(buffer.getvalue(), None).content) < 30_000
    assert one.shown(picture_bytes((8, 8)), None).width == EDGE
    assert one.shown(b"", None) is None
    assert one.shown(b"no picture", np.ones((3, 3))) is None


# --- boxes


def box(*corners: float, label: int, crowd: int = 0) -> list[float]:
    x1, y1, x2, y2 = corners
    return [*corners, label, crowd, (x2 - x1) * (y2 - y1)]


def test_boxes_are_found_missed_or_wrong() -> None:
    task = Detection({"classes": ["cat", "dog"], "threshold": 0.5})
    target = np.array([box(10, 10, 60, 60, label=0), box(100, 10, 160, 70, label=1), box(200, 80, 260, 150, label=0)])
    predictions = np.array(
        [
            [11, 10, 60, 61, 0.9, 0],  # found
            [100, 10, 160, 70, 0.8, 0],  # of another class
            [300, 100, 340, 140, 0.7, 1],  # nothing there
            [200, 80, 260, 150, 0.4, 0],  # below the threshold, so this box is missed
            [0, 0, 0, 0, 0, -1],
        ],
        dtype=np.float32,
    )
    shown = task.exhibit("a.jpg", picture_bytes((400, 200)), task.inputs(Canvas()), predictions, target, None)
    assert dict(shown.notes) == {
        "found": "1 cat",
        "missed": "1 cat, 1 dog",
        "wrong": "1 cat (wrong class), 1 dog (nothing there)",
    }
    assert (shown.truth, shown.answer, shown.right, shown.sure) == ("2 cat, 1 dog", "2 cat, 1 dog", False, None)
    assert isinstance(shown.shown, Picture)
    drawn = np.asarray(opened(shown.shown.content), dtype=float)
    scale = shown.shown.width / 400
    blue, yellow, orange = (np.array(LINES[name].colour) for name in ("found", "missed", "wrong"))

    def nearest(x: float, y: float, reach: int = 3) -> np.ndarray:
        x, y = round(x * scale), round(y * scale)
        return drawn[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1].reshape(-1, 3)

    for place, colour in (((10, 35), blue), ((200, 115), yellow), ((300, 120), orange)):
        assert np.abs(nearest(*place) - colour).max(axis=1).min() < 70
        others = [other for other in (blue, yellow, orange) if other is not colour]
        assert min(np.abs(nearest(*place) - other).max(axis=1).min() for other in others) > 70


def test_boxes_that_are_all_found_are_right_and_crowds_ask_for_nothing() -> None:
    task = Detection({"classes": ["cat"], "threshold": 0.5})
    target = np.array([box(10, 10, 60, 60, label=0), box(100, 10, 160, 70, label=0, crowd=1)])
    found = np.array([[10, 10, 60, 60, 0.9, 0], [100, 10, 130, 70, 0.9, 0]], dtype=np.float32)
    inputs, raw = task.inputs(Canvas()), picture_bytes((400, 200))
    assert task.exhibit("a", raw, inputs, found, target, None).right
    assert not task.exhibit("a", raw, inputs, found[:0], target, None).right
    empty = task.exhibit("a", raw, inputs, found[:0], target[:0], None)
    assert (empty.truth, empty.answer, empty.right, empty.notes) == ("no box", "no box", True, ())
    unknown = task.exhibit("a", b"", inputs, found, None, None)
    assert (unknown.truth, unknown.right, unknown.shown, dict(unknown.notes)) == (None, None, None, {"found": "2 cat"})


def test_lines_differ_by_more_than_their_colour() -> None:
    assert len({line.dash for line in LINES.values()}) == len({line.style for line in LINES.values()}) == len(LINES)
    grey = [np.dot(line.colour, (0.2126, 0.7152, 0.0722)) for line in LINES.values()]
    assert np.abs(np.subtract.outer(grey, grey))[np.triu_indices(len(LINES), 1)].min() > 15


# --- a run's samples


def test_exhibits_of_pictures_come_in_the_order_of_the_rows(digits: Path) -> None:
    job = prepare(digits, Options.check({"model": TINY}), Watcher())
    rows = job.dataset.split("test")[[5, 0, 20]]
    saved = Saved(job.net, job.task, job.dataset.inputs, Precision(), {})
    batches = evaluate.over_samples(job.dataset, rows)
    predictions = evaluate.predict(job.net, job.task, batches, Precision(), CPU)
    found = exhibits(saved, job.dataset, rows, predictions, CPU)
    assert [one.name for one in found] == [job.dataset.table.name(int(row)) for row in rows]
    for one, row, prediction in zip(found, rows, predictions, strict=True):
        assert one.truth == str(job.dataset.table.column("target")[int(row)].as_py())
        assert one.answer == job.task.classes[prediction.argmax()]
        assert one.sure == pytest.approx(prediction.max())
        assert one.right == (one.truth == one.answer)
        assert isinstance(one.shown, Picture)
        assert one.shown.overlay is not None
    (digits / job.dataset.table.name(int(rows[0]))).rename(digits / "moved")
    try:
        assert exhibits(saved, job.dataset, rows[:1], predictions[:1], CPU)[0].shown is None
    finally:
        (digits / "moved").rename(digits / job.dataset.table.name(int(rows[0])))


@pytest.mark.parametrize("pairs", [False, True])
def test_exhibits_of_texts_are_named_by_their_place(pairs: bool, tiny_bert: Path, monkeypatch: Any) -> None:
    texts = [f"Add two cups of salt to the pie {place}" for place in range(24)]
    samples = pa.array([[text, "and serve warm"] for text in texts] if pairs else texts)
    rows = pa.table({"sample": samples, "target": pa.array(["x", "y"] * 12)})
    table = Table(rows, "text", "made up", "made", named=("a", "b") if pairs else ("a",))
    monkeypatch.setattr("acclimate.verbs.job.read_data", lambda data, options: table)
    job = prepare("made up", Options.check({"model": str(tiny_bert)}), Watcher())
    torch.nn.init.normal_(job.net.head.linear.weight)
    some = np.array([3, 1])
    predictions = evaluate.predict(job.net, job.task, evaluate.over_samples(job.dataset, some), Precision(), CPU)
    found = exhibits(Saved(job.net, job.task, job.dataset.inputs, Precision(), {}), job.dataset, some, predictions, CPU)
    assert [one.name for one in found] == [f"row {place + 1}" for place in some]
    for one, place in zip(found, some, strict=True):
        assert isinstance(one.shown, Passages)
        assert one.shown.weighed
        told = ["".join(piece for piece, _ in text) for text in one.shown.texts]
        assert told == ([texts[place], "and serve warm"] if pairs else [texts[place]])
        assert max(abs(weight or 0) for text in one.shown.texts for _, weight in text) == pytest.approx(1)


def test_several_labels_are_listed() -> None:
    task = ImageClassification({"classes": ["a", "b", "c"], "several": True})
    raw, inputs = picture_bytes((8, 8)), task.inputs(Pictures(size=96))

    def told(prediction: list[float], target: list[float]) -> Exhibit:
        return task.exhibit("x", raw, inputs, np.array(prediction), np.array(target, dtype=np.float32), None)

    both = told([0.9, 0.2, 0.8], [1, 0, 1])
    assert (both.truth, both.answer, both.right) == ("a, c", "a, c", True)
    assert both.sure == pytest.approx(0.9 * 0.8 * 0.8)
    none = told([0.1, 0.2, 0.1], [1, 0, 0])
    assert (none.truth, none.answer, none.right) == ("a", "no label", False)


# --- HTML


class Tags(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


TEXT = Passages(((("good ", 1.0), ("bad", -0.5), (" and ", 0.01), ("unread", None)),), True)


def every_kind(name: str = "a.png", words: str = "rose") -> list[Exhibit]:
    plain = Picture(picture_bytes((4, 4), "WEBP"), 4, 4)
    text = replace(TEXT, texts=(*TEXT.texts, ((words, 0.9),)))
    return [
        Exhibit(name, words, words, 0.931, True, replace(plain, overlay=plain.content)),
        Exhibit(name, words, "tulip", 0.4, False, plain, (("missed", words), ("wrong", words))),
        Exhibit(name, None, words, None, None, text),
        Exhibit(name, words, "no box", None, False, None),
    ]


@pytest.mark.parametrize("number", range(4))
def test_what_is_hostile_stays_words(number: int) -> None:
    page = html(every_kind(HOSTILE, HOSTILE)[number])
    found = Tags(str(page))
    assert {tag for tag, _ in found.tags} <= {
        "figure",
        "figcaption",
        "div",
        "img",
        "p",
        "span",
        "mark",
        "bdi",
        "b",
        "br",
        "ul",
        "li",
    }
    assert all(not name.startswith("on") for _, attributes in found.tags for name in attributes)
    assert "<script>alert(1)</script>" in found.text
    assert "&amp;" in found.text
    page.encode("utf-8")
    assert not re.search("[\x00-\x08\x0b-\x1f]", page)
    assert "\u202e" not in page


def test_pictures_have_words_and_size_and_come_with_the_page() -> None:
    for one in every_kind()[:2]:
        images = [attributes for tag, attributes in Tags(html(one)).tags if tag == "img"]
        assert len(images) == (2 if one.shown.overlay else 1)
        assert all((each["width"], each["height"]) == ("4", "4") for each in images)
        assert all(each["alt"] and each["src"].startswith("data:image/webp;base64,") for each in images)
    assert "labelled rose, answered tulip" in Tags(html(every_kind()[1])).tags[1][1]["alt"]


def test_what_is_told_is_what_there_is() -> None:
    right, wrong, unlabelled, gone = (Tags(html(one)).text for one in every_kind())
    assert right == "a.pngrose, as labelled, 93% sure"
    assert wrong == "a.pnglabelled rose, answered tulip, 40% suremissed: rosewrong: rose"
    assert "answered rose" in unlabelled
    assert "rests most on good , rose" in unlabelled
    assert "cannot be read" in gone


def test_tokens_are_marked_by_their_weight() -> None:
    marks = [attributes for tag, attributes in Tags(html(every_kind()[2])).tags if tag == "mark"]
    assert [(each["class"], each["style"]) for each in marks] == [
        ("for", "--much:0.5"),
        ("against", "--much:0.25"),
        ("for", "--much:0.45"),
    ]
    unread = [attributes for tag, attributes in Tags(html(every_kind()[2])).tags if attributes.get("class") == "unread"]
    assert len(unread) == 1
    plain = replace(every_kind()[2], shown=Passages(((("unread", None),),), False))
    assert "unread" not in {attributes.get("class") for _, attributes in Tags(html(plain)).tags}


def test_the_style_names_every_kind_of_line() -> None:
    for kind, line in LINES.items():
        assert f".exhibit .{kind}::before" in CSS
        assert line.style in CSS
    assert "</" not in CSS


def test_both_kinds_of_classification_draw_alike() -> None:
    assert TextClassification.exhibit is ImageClassification.exhibit is Classification.exhibit
