"""Near copies of pictures and texts: what counts as one, what does not, and what a fit, its splits and a saved model make of it."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from boxes import png
from conftest import TINY, WORDS, Heard, sentences
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images

from acclimate.core.recipe import Options
from acclimate.data import gate, near, near_pictures
from acclimate.data.near_pictures import WIDTH, alike, mark
from acclimate.data.table import SPLITS, Table
from acclimate.engine import learned
from acclimate.engine.store import Store
from acclimate.engine.watcher import Watcher
from acclimate.tasks import TASKS
from acclimate.verbs import reading
from acclimate.verbs.evaluate import evaluate
from acclimate.verbs.fit import fit
from acclimate.verbs.job import Job, prepare

QUICK: dict[str, Any] = {"model": TINY, "size": 32, "strategy": "probe", "precision": "fp32", "fresh": True}
Size = tuple[int, int]


def encoded(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def resized(image: Image.Image, factor: float, longer: int = 0) -> Image.Image:
    wide, high = (max(1, round(side * factor)) for side in image.size)
    return image.resize((wide + longer, high), Image.Resampling.LANCZOS)


def turned(image: Image.Image, orientation: int, back: Image.Transpose) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(image.transpose(back), "JPEG", quality=85, exif=exif)


COPIES = {
    "jpeg 40": lambda image: encoded(image, "JPEG", quality=40),
    "jpeg 95": lambda image: encoded(image, "JPEG", quality=95),
    "png": encoded,
    "webp": lambda image: encoded(image, "WEBP", quality=60),
    "smaller": lambda image: encoded(resized(image, 0.4), "JPEG", quality=75),
    "a pixel longer": lambda image: encoded(resized(image, 0.7, 1)),
    "larger": lambda image: encoded(resized(image, 1.5), "JPEG", quality=75),
    "turned": lambda image: turned(image, 6, Image.Transpose.ROTATE_90),
    "mirrored": lambda image: turned(image, 2, Image.Transpose.FLIP_LEFT_RIGHT),
    "grey": lambda image: encoded(image.convert("L"), "JPEG", quality=75),
}


def photographs() -> list[Image.Image]:
    """Parts, all different, of two real photographs; without those of plain sky."""
    whole = [Image.fromarray(one) for one in load_sample_images().images]
    parts = [one.crop((x, y, x + 150, y + 130)) for one in whole for x in (0, 160, 320, 480) for y in (0, 140, 280)]
    return [part for part in parts if np.asarray(part.convert("L")).std() > 10]


def numbers(*raws: bytes) -> list[int]:
    return alike(np.stack([mark(raw) for raw in raws])).tolist()


@pytest.fixture(scope="module")
def originals() -> list[bytes]:
    return [encoded(one, "JPEG", quality=90) for one in photographs()]


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_counts_as_one_with_its_picture_and_with_no_other(name: str, originals: list[bytes]) -> None:
    copies = [COPIES[name](one) for one in photographs()]
    found = numbers(*originals, *copies)
    assert len(set(found)) == len(originals) >= 20
    assert found[: len(originals)] == found[len(originals) :]


def test_handwritten_digits_are_as_many_as_they_are() -> None:
    """8 x 8 pixels; ones differ by little more than a stroke's width."""
    raws = [encoded(Image.fromarray((one * 15.9).astype(np.uint8)).resize((32, 32))) for one in load_digits().images]
    found = numbers(*raws)
    assert len(set(found)) >= len(raws) - 2


def test_flat_pictures_are_the_same_where_their_bytes_are() -> None:
    black = [encoded(Image.new("L", (side, side))) for side in (1, 20, 300)]
    colours = [encoded(Image.new("RGB", (30, 30), (shade, 99, 7))) for shade in range(0, 20)]
    raws = [*black, *colours, b"no picture", b"nor this"]
    assert len(set(numbers(*raws))) == len(raws)
    first, other, again, *broken = numbers(black[0], colours[0], black[0], b"x", b"x")
    assert first == again != other
    assert len({first, other, *broken}) == 3


def disc(colour: Any, mode: str = "RGB") -> bytes:
    y, x = np.mgrid[:60, :60]
    image = Image.new(mode, (60, 60), "white")
    image.paste(colour, (0, 0), Image.fromarray(np.uint8(255 * (np.hypot(x - 25, y - 35) < 20))))
    return encoded(image)


def test_colour_and_light_tell_pictures_of_one_shape_apart() -> None:
    red, green, dark = (200, 60, 60), (40, 136, 60), (90, 10, 10)
    assert len(set(numbers(disc(red), disc(green), disc(dark)))) == 3
    assert len(set(numbers(disc(red), disc(102, "L")))) == 1, "a copy may have lost its colours"


def test_of_thousands_in_a_crowd_each_is_found(originals: list[bytes]) -> None:
    """Many frames of two scenes that hardly move, and pictures that are alike in all but one corner."""
    draw = np.random.default_rng(0)
    one, other = (mark(raw).astype(int) for raw in originals[:2])
    scenes = np.stack([scene + draw.integers(-2, 3, WIDTH) for scene in (one, other) for _ in range(600)])
    found = alike(np.clip(scenes, 0, 255).astype(np.uint8))
    assert len(set(found[:600])) == len(set(found[600:])) == 1
    assert found[0] != found[-1]
    crowd = np.tile(one, (2000, 1))
    crowd[:, :36] = draw.integers(0, 256, (2000, 36))
    again = np.clip(crowd + draw.integers(-1, 2, crowd.shape), 0, 255)
    found = alike(np.concatenate([crowd, again]).astype(np.uint8))
    assert (found[:2000] == found[2000:]).mean() > 0.99
    assert len(set(found)) > 1900


def wild(mode: str, size: Size, seed: int) -> Image.Image:
    drawn = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 4)).astype(np.uint8)
    if mode == "I;16":
        return Image.fromarray(drawn[..., :2].copy().view(np.uint16)[..., 0])
    return Image.fromarray(drawn, "RGBA").convert("RGB").convert(mode) if mode != "RGBA" else Image.fromarray(drawn)


@given(
    mode=st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK"]),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    seed=st.integers(0, 99),
)
def test_any_picture_has_a_mark_which_is_its_own(mode: str, size: Size, seed: int) -> None:
    raw = encoded(wild(mode, size, seed), "TIFF")
    found = mark(raw)
    assert found.dtype == np.uint8
    assert found.shape == (WIDTH,)
    assert np.array_equal(found, mark(raw))
    flat = encoded(Image.new("L", size, 77))
    same = numbers(raw, flat, raw)
    assert same[0] == same[2] != same[1]


@given(order=st.permutations(range(30)))
def test_groups_do_not_depend_on_the_order(order: list[int]) -> None:
    draw = np.random.default_rng(0)
    marks = draw.integers(0, 256, (10, WIDTH))
    marks = np.clip(np.repeat(marks, 3, axis=0) + draw.integers(-9, 10, (30, WIDTH)), 0, 255).astype(np.uint8)
    one, other = alike(marks)[order], alike(marks[order])
    assert np.array_equal(one[:, None] == one, other[:, None] == other)


# --- texts by their marks

LONG = (
    "It was slow at first, and then the film found its feet: a love letter to the people who built this town, and to "
    "those who left it. The second half is better than the first by a wide margin, not least because the music is "
    "allowed to do what the words could not; the ending alone is worth the price of the ticket."
)


def text_marks(*texts: Any) -> np.ndarray:
    return TASKS["text_classification"].marks(texts, 1)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("What are the Twin Cities ?", "what are the twin cities", True),
        (LONG, LONG.replace("film", "films").upper(), True),
        (LONG, LONG.replace("slow at first", "lovely throughout").replace("ending alone", "cast"), False),
        ("What is the capital of France ?", "What is the capital of Greece ?", False),
        ("code letter B", "code letter F", False),
        ((LONG, "It ends well."), (LONG.upper(), "it ends well"), True),
        ((LONG, "It ends well."), (LONG, "It ends badly."), False),
    ],
)
def test_texts_are_known_by_marks_of_them(one: Any, other: Any, same: bool) -> None:
    between = ("between", "them") if isinstance(one, tuple) else "between"
    found = near.alike_by(text_marks(one, between, other))
    assert (found[0] == found[2]) is np.bool_(same)
    assert found[1] not in found[[0, 2]]


# --- fits


def with_copies(digits: Path, folder: Path) -> list[str]:
    """The digits, with resized copies of four training pictures in test; their names."""
    shutil.copytree(digits, folder)
    copied = []
    for path in sorted((folder / "train" / "1").iterdir())[:4]:
        Image.open(path).resize((47, 48), Image.Resampling.BICUBIC).save(folder / "test" / "1" / f"copy{path.name}")
        copied.append(f"train/1/{path.name} = test/1/copy{path.name}")
    return copied


def prepared(data: Path, **options: Any) -> Job:
    return prepare(data, Options.check({**QUICK, **options, "fresh": None}), Watcher())


def test_resized_copies_in_test_are_named_and_can_be_dropped(digits: Path, tmp_path: Path) -> None:
    copied = with_copies(digits, tmp_path / "data")
    job = prepared(tmp_path / "data")
    (finding,) = [one for one in job.findings if one.rule == "same sample in several splits"]
    assert sorted(" = ".join(sorted(one.split(" = "), reverse=True)) for one in finding.samples) == copied
    assert "4 of test are in train too" in finding.what
    assert not any(one.rule == "same sample, different labels" for one in job.findings)
    train, test = job.rows("train"), job.rows("test")
    known = learned.leaked(job.dataset, test, np.concatenate([train, job.rows("val")]))
    assert sorted(Path(job.dataset.table.name(int(row))).name[:4] for row in test[known]) == ["copy"] * 4
    dropped = prepared(tmp_path / "data", leaks="drop")
    assert not learned.leaked(dropped.dataset, dropped.rows("test"), dropped.rows("train")).any()
    assert len(dropped.dataset) == len(job.dataset) - 4


def test_splits_keep_resized_copies_on_one_side_whatever_the_model(digits: Path, tmp_path: Path) -> None:
    for path in sorted(digits.glob("train/*/*.png")):
        folder = tmp_path / "data" / path.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder)
        if int(path.stem) % 2:
            Image.open(path).resize((40, 40)).save(folder / f"{path.stem}.jpg", quality=90)
    job, other = (prepared(tmp_path / "data", test=0.3, size=size) for size in (32, 64))
    assert job.dataset.table.column("split").equals(other.dataset.table.column("split"))
    split = job.dataset.table.column("split").to_pylist()
    sides: dict[str, set[str]] = {}
    for name, side in zip(job.dataset.table.column("sample").to_pylist(), split, strict=True):
        sides.setdefault(str(Path(name).with_suffix("")), set()).add(side)
    assert len(sides) == 96 < len(split)
    assert all(len(found) == 1 for found in sides.values())
    assert set(split) == {"train", "val", "test"}


def test_a_model_knows_near_copies_of_what_it_learned_from(digits: Path, tmp_path: Path) -> None:
    done = fit(digits, out=tmp_path / "run", **QUICK)
    train = next(event["samples"]["train"] for event in done.events() if event["event"] == "begin")
    for path in digits.glob("*/*/*.png"):
        copy = tmp_path / "copies" / path.relative_to(digits).with_suffix(".jpg")
        copy.parent.mkdir(parents=True, exist_ok=True)
        Image.open(path).resize((41, 40), Image.Resampling.BICUBIC).save(copy, quality=85)
    ear = Heard()
    copies = tmp_path / "copies"
    found = {split: evaluate(done.path, copies, split=split, watcher=ear)["learned"] for split in SPLITS}
    assert found["train"] + found["val"] == train, "another part of them is val, cut by what they hold"
    assert found["test"] == 0
    assert any("or from near copies" in line for line in ear.lines)
    kept = done.file("learned.npy")
    np.save(kept, learned.digests(np.load(kept)))  # as an older acclimate left it
    assert evaluate(done.path, copies, split="train")["learned"] == 0
    assert evaluate(done.path, digits, split="train")["learned"] == train
    later = fit(digits, out=tmp_path / "later", **{**QUICK, "model": str(done.path)})
    assert np.array_equal(learned.digests(learned.read(later.path)), learned.digests(learned.read(done.path)))


def test_a_model_of_texts_knows_them_in_any_case(tmp_path: Path) -> None:
    table = sentences(8)
    dataset = inspected(table, TASKS["text_classification"])
    task: Any = TASKS["text_classification"]({"classes": sorted(WORDS), "several": False})
    kept = learned.entries(task, dataset, np.arange(10))
    np.save(tmp_path / learned.FILE, learned.together([kept, kept[:3]]))
    shouted = table.with_column(
        "sample", pa.chunked_array([[one.upper() for one in table.column("sample").to_pylist()]])
    )
    again = inspected(shouted, TASKS["text_classification"])
    assert learned.seen(tmp_path, task, again, np.arange(len(again))).tolist() == [
        row < 10 for row in range(len(again))
    ]


class Plain:
    """Inputs that are taken as they are."""

    key = "plain"

    def prepare_all(self, raws: list[Any], workers: int) -> list[Any]:
        import torch

        return [torch.zeros(1)] * len(raws)

    def cost(self, prepared: Any) -> int:
        return 1

    size_of = cost

    def findings(self, samples: Any) -> list[Any]:
        return []


def inspected(table: Table, kind: Any) -> Any:
    found = reading.inspect(table, kind, Plain(), Store(), Watcher())
    return found.dataset(found.table, kind({"classes": sorted(WORDS), "several": False}), Plain())


def test_marks_are_made_once(digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = prepared(digits)
    monkeypatch.setattr(near_pictures, "mark", None)
    assert np.array_equal(prepared(digits, size=64).dataset.marks, one.dataset.marks)


def test_boxes_of_a_copy_in_another_size_contradict_nothing() -> None:
    """Byte-equal pictures with different boxes do."""
    boxes = [[{"label": "a", "x1": 1.0, "y1": 2.0, "x2": place, "y2": 9.0}] for place in (5.0, 6.0, 10.0)]
    raws = [png((40, 30)), png((40, 30)), png((80, 60))]
    table = Table(pa.table({"sample": pa.array(raws), "target": boxes}), "bytes", "made", "test")
    hashes = gate.digests(one.hash for one in gate.scan(table))
    _, findings = gate.check_samples(table, hashes, {}, np.zeros(3, np.int64))
    (found,) = [one for one in findings if one.rule == "same sample, different labels"]
    assert found.samples == ["row 1 = row 2"]
    assert "byte-identical" in found.what
