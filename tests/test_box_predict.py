"""`acclimate predict` of boxes: every form tells the same boxes, drawn ones are legible, and nothing of the user's is written over."""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from scenes import write_voc

import acclimate
from acclimate.cli.pieces import Pieces
from acclimate.core.errors import UserError
from acclimate.tasks.detection import Detection
from acclimate.tasks.draw import DARK, colour, draw, legible
from acclimate.tasks.forms import Asked, Piece
from acclimate.verbs.predict import Model, load

BLUE, RED = "b\"l'u\ne, | 😀", "r" * 300
"""What the classes are called: nothing may break on a name."""
LOW = "--threshold 0.01"
CORNERS = ("x1", "y1", "x2", "y2")


@pytest.fixture(scope="module")
def voc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of squares whose classes have wild names."""
    data = write_voc(tmp_path_factory.mktemp("scenes") / "voc", {"train": 24, "val": 10, "test": 8}, empty=1)
    for file in data.glob("Annotations/*.xml"):
        wild = BLUE.replace('"', "&quot;").replace("\n", "&#10;")
        file.write_text(file.read_text().replace(">blue<", f">{wild}<").replace(">red<", f">{RED}<"))
    return data


@pytest.fixture(scope="module")
def run(voc: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Far from good, but above the low threshold there are boxes of both classes."""
    kept = {"size": 64, "precision": "fp32", "epochs": 15, "lr": 6e-3, "batch_size": 4, "augment": "flip"}
    out = tmp_path_factory.mktemp("run") / "run"
    return acclimate.fit(str(voc), model="random:yolox:nano", strategy="full", out=out, **kept).path  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def model(run: Path) -> Model:
    return load(run)


@pytest.fixture(scope="module")
def classifier(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("classifier") / "run"
    return acclimate.fit(str(digits), model="random:timm:test_efficientnet", size=32, strategy="probe", out=out).path  # type: ignore[union-attr]


@pytest.fixture
def folder(voc: Path, tmp_path: Path) -> Path:
    """Five pictures, one of them in a folder below, and two files that are none."""
    pictures = tmp_path / "pictures"
    (pictures / "deeper").mkdir(parents=True)
    for number in (1, 2, 3, 4):
        shutil.copy(voc / f"JPEGImages/test_{number:03d}.png", pictures / f"{number}.png")
    shutil.copy(voc / "JPEGImages/test_005.png", pictures / "deeper/1.png")
    (pictures / "2b.png").write_bytes(b"")
    (pictures / "3b.txt").write_text("no picture")
    return pictures


def lines(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


def boxes_of(rows: list[dict[str, Any]]) -> dict[str, list[tuple[Any, ...]]]:
    """path -> (x1, y1, x2, y2, class, score) of each box."""
    return {
        row["path"]: [
            (*box, label, score) for box, label, score in zip(row["boxes"], row["classes"], row["scores"], strict=True)
        ]
        for row in rows
        if row["error"] is None
    }


def assert_same(found: list[tuple[Any, ...]], wanted: list[tuple[Any, ...]]) -> None:
    assert [row[4] for row in found] == [row[4] for row in wanted]
    plain = [np.array([[*row[:4], row[5]] for row in rows], dtype=float).reshape(-1, 5) for rows in (found, wanted)]
    np.testing.assert_allclose(*plain, rtol=0, atol=1e-2)


# --- forms


def test_json_lines_are_what_stdout_gets(cli: Any, run: Path, model: Model, folder: Path) -> None:
    out, err, code = cli(f"predict {run} {folder} {LOW}")
    rows = lines(out)
    names = ["1.png", "2.png", "2b.png", "3.png", "3b.txt", "4.png", "deeper/1.png"]
    assert [row["path"] for row in rows] == [str(folder / name) for name in names]
    assert all(list(row) == ["path", "width", "height", "boxes", "classes", "scores", "error"] for row in rows)
    good = [row for row in rows if row["error"] is None]
    assert all((row["width"], row["height"]) == (96, 64) for row in good) and len(good) == 5
    assert {label for row in good for label in row["classes"]} == {BLUE, RED}
    assert all(row["scores"] == sorted(row["scores"], reverse=True) and min(row["scores"]) >= 0.01 for row in good)
    assert rows[2]["boxes"] is None and "empty" in rows[2]["error"] and "not a picture" in rows[4]["error"]
    assert code == 0 and err.startswith("2 of 7 samples could not be read")
    answers = model.at(0.01).predict([row["path"] for row in good])
    assert answers == [{name: row[name] for name in ("boxes", "classes", "scores")} for row in good]
    assert cli(f"predict {run} {folder} {LOW} --json")[0] == out
    cli(f"predict {run} {folder} {LOW} --out {folder.with_name('rows.jsonl')}")
    assert folder.with_name("rows.jsonl").read_text() == out


@pytest.mark.parametrize("ending", ["csv", "parquet"])
@pytest.mark.parametrize("threshold", ["0.01", "1"])
def test_a_table_has_a_row_for_each_box_and_loses_no_picture(
    ending: str, threshold: str, cli: Any, run: Path, folder: Path, tmp_path: Path
) -> None:
    told = lines(cli(f"predict {run} {folder} --threshold {threshold}")[0])
    out = tmp_path / f"rows.{ending}"
    assert cli(f"predict {run} {folder} --threshold {threshold} --out {out}")[0] == ""
    if ending == "csv":
        read = list(csv.DictReader(io.StringIO(out.read_bytes().decode(), newline="")))
        rows = [{name: value or None for name, value in row.items()} for row in read]
    else:
        rows = pq.read_table(out).to_pylist()
        assert all(isinstance(row[name], float | None) for row in rows for name in (*CORNERS, "score"))
    assert list(rows[0]) == ["path", *CORNERS, "class", "score", "error"]
    assert list(dict.fromkeys(row["path"] for row in rows)) == [row["path"] for row in told]
    assert {row["path"]: row["error"] for row in rows} == {row["path"]: row["error"] for row in told}
    for path, wanted in boxes_of(told).items():
        of_picture = [row for row in rows if row["path"] == path]
        if not wanted:
            assert [row["class"] for row in of_picture] == [None] and of_picture[0]["x1"] is None
        else:
            found = [(*(float(row[name]) for name in CORNERS), row["class"], float(row["score"])) for row in of_picture]
            assert_same(found, wanted)


def test_yolo_text_read_back_gives_the_boxes(cli: Any, run: Path, folder: Path, tmp_path: Path) -> None:
    told = boxes_of(lines(cli(f"predict {run} {folder} {LOW} --yolo {tmp_path / 'labels'}")[0]))
    kept = sorted(str(path.relative_to(tmp_path / "labels")) for path in tmp_path.glob("labels/**/*.txt"))
    assert kept == ["1.txt", "2.txt", "3.txt", "4.txt", "classes.txt", "deeper/1.txt"]
    assert (tmp_path / "labels/classes.txt").read_text() == f"{' '.join(BLUE.split())}\n{RED}\n"
    for path, wanted in told.items():
        text = (tmp_path / "labels" / Path(path).relative_to(folder)).with_suffix(".txt").read_text()
        found = []
        for line in text.splitlines():
            number, x, y, width, height, score = map(float, line.split())
            corners = ((x - width / 2) * 96, (y - height / 2) * 64, (x + width / 2) * 96, (y + height / 2) * 64)
            found.append((*corners, (BLUE, RED)[int(number)], score))
        assert_same(found, wanted)
    cli(f"predict {run} {folder} --threshold 1 --yolo {tmp_path / 'none'}")
    assert {path.read_text() for path in tmp_path.glob("none/**/*.txt") if path.name != "classes.txt"} == {""}


def test_yolo_text_of_a_large_picture_is_exact() -> None:
    task = Detection({"classes": ["a", "b"], "threshold": 0.5})
    row = {"width": 12_000, "height": 9_000, "boxes": [[1234.56, 7.89, 11_999.99, 8_765.43]]}
    text = task.pieces["yolo"].made({**row, "classes": ["b"], "scores": [0.75]})
    number, x, y, width, height, score = map(float, text.split())
    assert (number, score) == (1, 0.75)
    assert [(x - width / 2) * 12_000, (y - height / 2) * 9_000] == pytest.approx(row["boxes"][0][:2], abs=2e-3)
    assert [(x + width / 2) * 12_000, (y + height / 2) * 9_000] == pytest.approx(row["boxes"][0][2:], abs=2e-3)


def test_coco_results_read_back_give_the_boxes(cli: Any, run: Path, folder: Path, tmp_path: Path) -> None:
    told = lines(cli(f"predict {run} {folder} {LOW}")[0])
    out = tmp_path / "results.json"
    _, err, code = cli(f"predict {run} {folder} {LOW} --out {out}")
    entries = json.loads(out.read_text())
    assert code == 0 and "2 of 7 samples could not be read" in err
    for number, row in enumerate(told, 1):
        own = [entry for entry in entries if entry["image_id"] == number]
        assert {entry["file_name"] for entry in own} <= {row["path"]}
        found = [(*corners(entry), (BLUE, RED)[entry["category_id"] - 1], entry["score"]) for entry in own]
        assert_same(found, boxes_of([row]).get(row["path"], []))
    assert cli(f"predict {run} {folder} --threshold 1 --out {out}")[2] == 0
    assert json.loads(out.read_text()) == []


def corners(entry: dict[str, Any]) -> tuple[float, ...]:
    x, y, width, height = entry["bbox"]
    return x, y, x + width, y + height


def annotations(path: Path, names: dict[str, Any], classes: tuple[str, ...] = (RED, "other", BLUE)) -> Path:
    """A COCO file of pictures (name -> id) and categories, whose ids begin at 7."""
    images = [{"id": number, "file_name": name, "width": 96, "height": 64} for name, number in names.items()]
    categories = [{"id": number, "name": name} for number, name in enumerate(classes, 7)]
    path.write_text(json.dumps({"images": images, "annotations": [], "categories": categories}))
    return path


def test_coco_results_take_the_ids_of_a_file(cli: Any, run: Path, folder: Path, tmp_path: Path) -> None:
    names = {"pictures/1.png": 40, "deeper/1.png": "x", "elsewhere/3.png": 0, "4.png": 12}
    truth, out = annotations(tmp_path / "truth.json", names), tmp_path / "results.json"
    _, err, _ = cli(f"predict {run} {folder} {LOW} --out {out} --coco {truth}")
    assert f"pictures that are not among the images of {truth}, left out: 1 (the first: {folder / '2.png'})" in err
    told = boxes_of(lines(cli(f"predict {run} {folder} {LOW}")[0]))
    entries = json.loads(out.read_text())
    assert all(entry.keys() == {"image_id", "category_id", "bbox", "score"} for entry in entries)
    numbers = {40: "1.png", "x": "deeper/1.png", 0: "3.png", 12: "4.png"}
    assert {entry["image_id"] for entry in entries} == numbers.keys()
    for number, name in numbers.items():
        own = [entry for entry in entries if entry["image_id"] == number]
        found = [(*corners(entry), {7: RED, 9: BLUE}[entry["category_id"]], entry["score"]) for entry in own]
        assert_same(found, told[str(folder / name)])


def test_coco_results_are_accepted_by_its_own_tools(cli: Any, run: Path, folder: Path, tmp_path: Path) -> None:
    coco = pytest.importorskip("pycocotools.coco")
    names = {"pictures/1.png": 40, "2.png": 41, "deeper/1.png": 7, "3.png": 0, "4.png": 12}
    truth, out = annotations(tmp_path / "truth.json", names), tmp_path / "results.json"
    cli(f"predict {run} {folder} {LOW} --out {out} --coco {truth}")
    loaded = coco.COCO(str(truth)).loadRes(str(out))
    assert len(loaded.anns) == len(json.loads(out.read_text())) > 0


def test_a_file_of_ids_that_does_not_suit_is_refused(cli: Any, run: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    truth = annotations(tmp_path / "truth.json", {"other.png": 1})
    _, err, code = cli(f"predict {run} {folder} --out {out} --coco {truth}")
    assert code == 2 and f"{folder / '1.png'}: is not among the images of {truth}, nor is any other" in err
    truth = annotations(tmp_path / "truth.json", {"1.png": 1}, classes=(RED,))
    _, err, code = cli(f"predict {run} {folder} --out {out} --coco {truth}")
    assert code == 2 and f"--coco {truth}: has no category for 1 of the 2 classes of the model" in err
    _, err, code = cli(f"predict {run} {folder} --out {out} --coco {tmp_path / 'turth.json'}")
    assert code == 2 and "turth.json: is not there" in err and "did you mean 'truth.json'?" in err
    assert not out.exists() and not list(tmp_path.glob(".*"))


def test_every_form_is_streamed() -> None:
    """Of rows without end each form takes no more than it has written."""
    task = Detection({"classes": ["a"], "threshold": 0.5})
    for ending, form in task.forms(Asked()).items():
        taken = itertools.count()
        row = {"path": "a.png", "width": 9, "height": 9, "boxes": [[0, 0, 4, 4]], "classes": ["a"], "scores": [1.0]}
        entries = iter(form.entries({**row, "number": next(taken)} for _ in itertools.repeat(None)))
        assert len(list(itertools.islice(entries, 50))) == 50 and next(taken) <= 51, ending


# --- threshold, errors, exit codes


def test_the_threshold_of_the_model_is_the_default(cli: Any, run: Path, model: Model, folder: Path) -> None:
    own = model.saved.task.spec["threshold"]
    assert cli(f"predict {run} {folder}")[0] == cli(f"predict {run} {folder} --threshold {own!r}")[0]
    counts = [
        sum(len(row["boxes"]) for row in model.at(level).predict([str(folder / "1.png")] * 2)) for level in (0, 0.02, 1)
    ]
    assert counts[0] > counts[1] > counts[2] == 0
    assert model.saved.task.spec["threshold"] == own, "another threshold is another model"


def test_where_nothing_can_be_read_the_exit_code_says_so(cli: Any, run: Path, folder: Path, tmp_path: Path) -> None:
    line = f"predict {run} {folder / '2b.png'} - --draw {tmp_path / 'drawn'} --yolo {tmp_path / 'labels'}"
    out, err, code = cli(line, b"not/there.png\n")
    assert [row["error"] for row in lines(out)] == ["the file is empty (0 bytes)", "no such file or directory"]
    assert code == 1 and err.startswith("2 of 2 samples could not be read")
    assert not any(tmp_path.glob("drawn/*")) and [path.name for path in tmp_path.glob("labels/*")] == ["classes.txt"]


MISTAKES = {
    "predict RUN 1.png --threshold 1.5": ["--threshold 1.5: is not from 0 to 1"],
    "predict RUN 1.png --threshold nan": ["--threshold nan: is not from 0 to 1"],
    "predict RUN 1.png --threshold half": ["--threshold: 'half' is not a valid float"],
    "predict RUN 1.png --out out.cvs": ["--out 'out.cvs': has no ending that says its format\n  did you mean '.csv'?"],
    "predict RUN 1.png --out out.csv --json": ["--json with --out: exclude each other"],
    "predict RUN 1.png --draw 2.png": ["--draw '2.png': 2.png is no folder"],
    "predict RUN 1.png --draw 2.png/drawn": ["--draw '2.png/drawn': ", "2.png is no folder"],
    "predict RUN 1.png --draw deeper --yolo .": ["--draw 'deeper': is not empty", "--yolo '.': is not empty"],
    "predict RUN 1.png --probabilities": ["--probabilities: has no effect on detection"],
    "predict RUN 1.png --coco truth.json": ["--coco truth.json: has no effect without --out FILE.json"],
    "predict RUN 1.png --out out.json --coco 3b.txt": ["3b.txt: cannot be read as JSON"],
    "predict RUN 1.png --threshold 7 --probabilities": ["--threshold 7.0: is not", "--probabilities: has no effect"],
    "predict CLASSES 1.png --threshold 0.5": ["--threshold 0.5: has no effect on image_classification"],
    "predict CLASSES 1.png --draw drawn": ["--draw drawn: has no effect on image_classification"],
    "predict CLASSES 1.png --yolo labels": ["--yolo labels: has no effect on image_classification"],
    "predict CLASSES 1.png --out out.json": ["--out 'out.json': has no ending that says its format"],
    "predict CLASSES 1.png --out out.json --coco c.json": ["--coco c.json: has no effect on image_classification"],
}


@pytest.mark.parametrize("command", MISTAKES)
def test_a_mistake_is_told(
    command: str, cli: Any, run: Path, classifier: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    before = sorted(folder.rglob("*"))
    out, err, code = cli(command.replace("RUN", str(run)).replace("CLASSES", str(classifier)))
    assert (out, code) == ("", 2)
    assert [told for told in MISTAKES[command] if told not in err] == []
    assert sorted(folder.rglob("*")) == before


def test_in_python_another_threshold_is_checked_too(model: Model, classifier: Path) -> None:
    with pytest.raises(UserError, match="--threshold -1: is not from 0 to 1"):
        model.at(-1)
    with pytest.raises(UserError, match="has no effect on image_classification"):
        load(classifier).at(0.5)


# --- files for each picture


def test_pictures_that_would_share_a_name_are_kept_apart(cli: Any, run: Path, voc: Path, tmp_path: Path) -> None:
    for number, name in enumerate(("a/x.png", "a/x.jpg", "b/x.png", "b/.x.png", "b/no ending", "classes.png")):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = Image.open(voc / f"JPEGImages/test_{number:03d}.png")
        picture.save(path, "JPEG" if path.suffix == ".jpg" else "PNG")
    hidden = tmp_path / "in/b/.x.png"
    line = f"predict {run} {tmp_path / 'in'} {hidden} {LOW} --yolo {tmp_path / 'labels'} --draw {tmp_path / 'drawn'}"
    told = lines(cli(line)[0])
    pieces = {
        path.relative_to(tmp_path / "labels"): path.read_text()
        for path in tmp_path.glob("labels/**/*")
        if path.is_file()
    }
    assert sorted(map(str, pieces)) == [
        *("a/x.png.txt", "a/x.txt", "b/.x.txt", "b/no ending.txt", "b/x.txt", "classes.png.txt", "classes.txt")
    ]
    counts = {str(path): len(text.splitlines()) for path, text in pieces.items()}
    of = {str(Path(row["path"]).relative_to(tmp_path / "in")): len(row["boxes"]) for row in told}
    assert (counts["a/x.txt"], counts["a/x.png.txt"], counts["b/x.txt"]) == (
        of["a/x.jpg"],
        of["a/x.png"],
        of["b/x.png"],
    )
    drawn = sorted(str(path.relative_to(tmp_path / "drawn")) for path in tmp_path.glob("drawn/**/*") if path.is_file())
    assert drawn == ["a/x.jpg", "a/x.png.jpg", "b/.x.jpg", "b/no ending.jpg", "b/x.jpg", "classes.jpg"]


@pytest.mark.parametrize(
    ("paths", "path", "place"),
    [
        (["in"], "in/a/x.png", "a/x.txt"),
        (["in/a", "in/b"], "in/b/x.png", "b/x.txt"),
        (["in/a/x.png"], "in/a/x.png", "x.txt"),
        (["in/*/x.png"], "in/a/x.png", "a/x.txt"),
        (["in/a/*.png"], "in/a/x.png", "x.txt"),
        (["in", "-"], "/else/where/x.png", "else/where/x.txt"),
        (["-"], "in/a/x.png", "in/a/x.txt"),
        (["-"], "../x.png", None),
    ],
)
def test_pieces_lie_as_the_pictures_do(
    paths: list[str], path: str, place: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("in/a", "in/b"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "x.png").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    found = Pieces("out", Piece(".txt", lambda _: b""), paths).place(path)
    outside = (tmp_path.parent / "x.txt").relative_to("/")
    assert found == Path("out") / (place or outside)


def test_what_is_drawn_into_a_folder_that_is_read_is_no_sample(
    cli: Any, run: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    (folder / "9 drawn").mkdir()
    told = lines(cli(f"predict {run} . {LOW} --draw '9 drawn'")[0])
    assert len(told) == 7
    assert len(list(folder.glob("9 drawn/**/*.jpg"))) == 5


def test_a_piece_that_cannot_be_made_is_told_and_the_rows_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def made(row: dict[str, Any]) -> bytes:
        if row["path"] == "gone.png":
            raise FileNotFoundError("no such file")
        return b"x"

    rows: list[dict[str, Any]] = [
        {"path": "gone.png"},
        {"path": f"{'n' * 252}.p"},
        {"path": "a.png"},
        {"path": "b.png", "error": "bad"},
    ]
    pieces = Pieces(str(tmp_path / "out"), Piece(".txt", made), ["-"])
    pieces.begin()
    assert list(pieces.over(rows)) == rows
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.txt"]
    told = capsys.readouterr().err.splitlines()
    assert (
        len(told) == 2
        and told[0].startswith("gone.png: ")
        and told[0].endswith("no .txt could be made of it: no such file")
    )


def test_names_of_files_may_be_wild(cli: Any, run: Path, folder: Path, tmp_path: Path) -> None:
    wild = [b"a\nb.png", b'q"uo,te.png', b"\xff.png"]
    for name in wild:
        shutil.copyfile(folder / "1.png", tmp_path / os.fsdecode(name))
    for ending in ("csv", "json", "jsonl"):
        folders = f"--draw {tmp_path / 'drawn' / ending} --yolo {tmp_path / 'labels' / ending}"
        out = f"--out {tmp_path / 'rows'}.{ending}"
        assert cli(f"predict {run} '{tmp_path}/*.png' {LOW} {folders} {out}") == ("", "", 0)
        drawn = {os.fsencode(path.name) for path in tmp_path.glob(f"drawn/{ending}/*")}
        assert drawn == {name[:-3] + b"jpg" for name in wild}
    rows = lines((tmp_path / "rows.jsonl").read_text(errors="surrogateescape"))
    assert sorted(Path(row["path"]).name for row in rows) == sorted(map(os.fsdecode, wild))


# --- drawing


def test_drawn_pictures_are_upright_and_no_larger_than_the_eye_needs(
    cli: Any, run: Path, voc: Path, tmp_path: Path
) -> None:
    picture = Image.open(voc / "JPEGImages/test_003.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    (tmp_path / "in").mkdir()
    picture.save(tmp_path / "in/turned.jpg", exif=turned)
    picture.resize((6000, 4000)).save(tmp_path / "in/large.jpg")
    picture.save(tmp_path / "in/small.png")
    Image.new("RGB", (3, 700)).save(tmp_path / "in/thin.png")
    told = {
        Path(row["path"]).name: row
        for row in lines(cli(f"predict {run} {tmp_path / 'in'} {LOW} --draw {tmp_path / 'out'}")[0])
    }
    sizes = {name: (row["width"], row["height"]) for name, row in told.items()}
    assert sizes == {"turned.jpg": (64, 96), "large.jpg": (6000, 4000), "small.png": (96, 64), "thin.png": (3, 700)}
    drawn, formats = dict[str, Image.Image](), set()
    for path in tmp_path.glob("out/*"):
        with Image.open(path) as image:
            formats.add(image.format)
            drawn[path.name] = image.convert("RGB")
    assert formats == {"JPEG"}
    shown = {"turned.jpg": (64, 96), "large.jpg": (2000, 1333), "small.jpg": (96, 64), "thin.jpg": (3, 700)}
    assert {name: image.size for name, image in drawn.items()} == shown
    assert np.abs(np.asarray(drawn["small.jpg"], float) - np.asarray(picture, float)).max() > 100


BOXES = [[20.0, 30.0, 120.0, 110.0], [150.0, 60.0, 290.0, 190.0], [30.0, 130.0, 90.0, 199.5]]
BACKGROUNDS = {
    "white": np.full((200, 300, 3), 255),
    "black": np.zeros((200, 300, 3)),
    "grey": np.full((200, 300, 3), 128),
    "noise": np.random.default_rng(0).integers(0, 256, (200, 300, 3)),
    "its own colour": np.full((200, 300, 3), colour(0)),
}


@pytest.mark.parametrize("name", BACKGROUNDS)
def test_edges_are_seen_on_any_background_and_nothing_else_changes(name: str) -> None:
    before = Image.fromarray(BACKGROUNDS[name].astype(np.uint8))
    after = draw(before, BOXES, ["a"] * 3, None, ["a"])
    assert after.size == before.size and after is not before
    pixels, old = np.asarray(after, int), np.asarray(before, int)
    for x1, y1, x2, y2 in BOXES:
        for x, y in ((x2, (y1 + y2) / 2), ((x1 + x2) / 2, min(y2, 197)), (x1, (y1 + y2) / 2)):
            near = pixels[int(y) - 4 : int(y) + 5, int(x) - 4 : int(x) + 5].reshape(-1, 3)
            assert (near == DARK).all(axis=1).any() and (near == colour(0)).all(axis=1).any()
            assert np.ptp(near.sum(axis=1)) > 200, "the line stands out by brightness alone"
    changed = (pixels != old).any(axis=2)
    assert changed.mean() < 0.25 and not changed[60:90, 40:100].any() and not changed[100:150, 200:260].any()


def test_an_edge_of_the_picture_hides_no_line() -> None:
    white = Image.new("RGB", (100, 80), "white")
    pixels = np.asarray(draw(white, [[0, 0, 100, 80]], ["a"], None, ["a"]), int)
    for side in (pixels[:6, 60], pixels[-6:, 60], pixels[40, :6], pixels[40, -6:]):
        assert (side == colour(0)).all(axis=1).sum() == 2 and (side == DARK).all(axis=1).sum() >= 2


@pytest.mark.parametrize(
    "name",
    [
        "a\nb\r\tc",
        "quo\"te's",
        "x" * 10_000,
        "😀",
        "猫",
        "\ud800",
        "\0",
        "",
        " ",
        "e\u0301te\u0301",
        "\u202eabc",
        "🏳️‍🌈 flag",
    ],
)
@pytest.mark.parametrize("size", [(1, 1), (9, 300), (640, 480)])
def test_a_name_may_be_anything(name: str, size: tuple[int, int]) -> None:
    boxes = [[0, 0, size[0], size[1]], [0, 0, 0, 0], [-5, -5, 2 * size[0], 2 * size[1]]]
    image = draw(Image.new("L", size), boxes, [name] * 3, [0.5, 0.0, 1.0], ["other", name])
    assert image.size == size and image.mode == "RGB"


def test_names_are_told_as_far_as_the_font_goes() -> None:
    assert legible("Größe café\n2", 0) == "Groe cafe 2"
    assert (legible("猫 (cat)", 3), legible("猫", 3)) == ("(cat)", "#3")


def test_a_class_has_one_colour_everywhere_and_neighbours_differ() -> None:
    names = [str(place) for place in range(80)]
    assert len({colour(place) for place in range(80)}) == 80
    for place in range(79):
        assert np.abs(np.subtract(colour(place), colour(place + 1))).sum() > 90
    alone = draw(Image.new("RGB", (90, 90)), [[20, 30, 80, 80]], ["42"], None, names)
    among = draw(Image.new("RGB", (90, 90)), [[20, 30, 80, 80], [1, 1, 10, 10]], ["42", "7"], None, names)
    assert alone.getpixel((80, 60)) == among.getpixel((80, 60)) == colour(42)


def test_hundreds_of_boxes_stay_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tags that would hide each other or other boxes are left out, but for one of each class."""
    random = np.random.default_rng(0)
    low = random.uniform(0, 560, (300, 2))
    boxes = np.hstack([low, low + random.uniform(15, 40, (300, 2))]).tolist()
    classes = [str(random.choice(["cat", "dog"])) for _ in boxes]
    ground = Image.new("RGB", (600, 600), (90, 90, 90))

    def seen() -> float:
        image = draw(ground, boxes, classes, [0.5] * 300, ["cat", "dog"])
        return float((np.asarray(image) == 90).all(axis=2).mean())

    chosen = seen()
    monkeypatch.setattr("acclimate.tasks.draw.HIDDEN", (9.0, 9.0))
    assert chosen > 1.5 * seen()
    assert draw(Image.new("RGB", (60, 60)), [], [], [], []).getbbox() is None
