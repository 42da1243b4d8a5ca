"""acclimate predict: samples in, rows out, in the same order, in a form of the task's; besides, files for each sample."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from acclimate.cli.fit import option
from acclimate.cli.pieces import Pieces, check_folder
from acclimate.cli.writers import WRITERS, opened
from acclimate.core.errors import Problems, fail, near
from acclimate.core.recipe import choices

if TYPE_CHECKING:
    from acclimate.tasks.forms import Asked, Form
    from acclimate.tasks.task import Task

LINES, LIST = ".jsonl", ".json"
THRESHOLD = "of boxes: answer those of this score or more, 0 to 1 [default: the one that validation chose]"


@click.command()
@click.argument("run")
@click.argument("paths", nargs=-1, required=True)
@click.option(
    "--out", metavar="FILE", help="where to write: .csv, .jsonl, .parquet, of boxes also .json [default: stdout]"
)
@click.option("--threshold", metavar="X", type=float, help=THRESHOLD)
@click.option("--draw", metavar="FOLDER", help="of boxes: besides, each picture with its boxes; a new folder")
@click.option("--yolo", metavar="FOLDER", help="of boxes: besides, YOLO text for each picture; a new folder")
@click.option("--coco", metavar="FILE", help="of boxes, with --out FILE.json: the annotation file whose ids are used")
@click.option("--probabilities", is_flag=True, help="of classes: a column for each besides")
@option("text")
@option("quoting")
@option("encoding")
@click.option("--device", default="auto", help="where to run: auto, cpu, cuda or mps")
@click.option("--json", "as_json", is_flag=True, help="JSON Lines on stdout")
def predict(
    run: str,
    paths: tuple[str, ...],
    out: str | None,
    threshold: float | None,
    coco: str | None,
    probabilities: bool,
    text: tuple[str, ...] | None,
    quoting: str | None,
    encoding: str | None,
    device: str,
    as_json: bool,
    **folders: str | None,
) -> int:
    """Predict with RUN for PATHS: files, folders, globs, or - for stdin.

    Pictures are files, and stdin names one a line. Texts are the lines of text files and of stdin (of a pair the two with a tab
    between), the rows of tables, and each .txt file in a folder. What cannot be read becomes a row with its reason in the column
    `error`; where no sample at all could be read the exit code is 1.

    Classes come as CSV. Boxes come as JSON Lines, one a picture: path, width, height, boxes (x1, y1, x2, y2 in pixels of the upright
    picture), classes, scores, error. A .csv or .parquet of boxes has one row a box, and one with empty cells for a picture without
    any. A .json is COCO results: image_id is the place of the picture in the order given, category_id that of the class in the model,
    both from 1, and file_name says the path; with --coco both are the ids of that file, by file name and by class name.

    --draw writes NAME.jpg, its long side 2,000 pixels at most. --yolo writes NAME.txt, a line "class x y width height score" for each
    box (class from 0; centre and sides as shares of the picture's), and classes.txt. Both lie in FOLDER as the pictures lie in what
    PATHS have in common; where two would have one name, the later keeps its own ending, as NAME.png.txt.
    """
    asked_for = {name: folder for name, folder in folders.items() if folder is not None}
    problems = Problems()
    problems.attempt(_writable, out, as_json)
    for name, folder in asked_for.items():
        problems.attempt(check_folder, name, folder)
    if coco is not None and (out is None or Path(out).suffix != LIST):
        problems.add(f"--coco {coco}", "has no effect without --out FILE.json", "add it, or leave --coco out")
    problems.stop()
    from acclimate.data.found import check_paths
    from acclimate.data.readers.encoding import check
    from acclimate.data.readers.reader import Columns
    from acclimate.tasks.forms import Asked
    from acclimate.verbs.predict import load, rows, samples_of

    problems.attempt(check, encoding)
    problems.attempt(_known, quoting)
    problems.attempt(check_paths, paths)
    loaded = problems.attempt(load, run, device)
    problems.stop()
    assert loaded is not None
    task = loaded.saved.task
    model = loaded if threshold is None else problems.attempt(loaded.at, threshold)
    form = problems.attempt(_form, task, out, as_json, Asked(probabilities, coco))
    pieces = problems.attempt(_pieces, task, asked_for, paths)
    problems.stop()
    assert model is not None and form is not None and pieces is not None
    columns = Columns(text=text or None, quoting=quoting, encoding=encoding, labels=False)
    found = samples_of(model, paths, sys.stdin.buffer, columns)
    for piece in pieces:
        piece.begin()
    samples = (one for one in found.samples if not any(piece.holds(one) for piece in pieces))
    tally = Tally()
    answered = tally.over(rows(model, samples))
    for piece in pieces:
        answered = piece.over(answered)
    ending, shape = form
    with opened(out) as file:
        WRITERS[ending](shape.entries(answered), {**dict.fromkeys(found.columns, str), **shape.columns}, file)
    if tally.failed:
        told = f"{tally.failed:,} of {tally.seen:,} samples could not be read: see the column error"
        click.echo(f"{told} (the first: {tally.first})", err=True)
    if note := shape.note():
        click.echo(note, err=True)
    return int(tally.failed == tally.seen)


def _writable(out: str | None, as_json: bool) -> None:
    """Raises `UserError` where --out names no file that can be written, or --json says another form."""
    if out is None:
        return
    path = Path(out)
    if as_json:
        raise fail("--json with --out", "exclude each other", "leave one out: the ending of --out says the format")
    if not path.absolute().parent.is_dir():
        raise fail(f"--out {out!r}", "is in a folder that is not there", f"mkdir -p {shlex.quote(str(path.parent))}")
    if path.is_dir():
        raise fail(f"--out {out!r}", "is a folder", "name a file in it")
    if path.exists() and not path.is_file():
        raise fail(f"--out {out!r}", "is no regular file", "name another, or write to stdout")


def _known(quoting: str | None) -> None:
    if quoting is not None and quoting not in choices("quoting"):
        raise fail(f"--quoting {quoting!r}", "is not one of its values", near(quoting, choices("quoting")))


def _form(task: Task, out: str | None, as_json: bool, asked: Asked) -> tuple[str, Form]:
    """(the ending of the file, the form it says). Raises `UserError` where the task has none such, or not what was asked of it."""
    forms = task.forms(asked)
    ending = Path(out).suffix if out else LINES if as_json else next(iter(forms))
    if ending not in forms:
        raise fail(f"--out {out!r}", "has no ending that says its format", near(ending, forms))
    return ending, forms[ending]


def _pieces(task: Task, folders: Mapping[str, str], paths: Sequence[str]) -> list[Pieces]:
    """What is left in each folder, which are named by option. Raises `UserError` where the task has no such pieces."""
    for name, folder in folders.items():
        if name not in task.pieces:
            raise fail(f"--{name} {folder}", f"has no effect on {task.name}", "leave it out")
    return [Pieces(folder, task.pieces[name], paths) for name, folder in folders.items()]


@dataclass
class Tally:
    """How many rows have passed, how many of them with an error, and the first of these."""

    seen: int = 0
    failed: int = 0
    first: str = ""

    def over(self, rows: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """The rows, counted as they pass."""
        for row in rows:
            self.seen += 1
            self.failed += "error" in row
            self.first = self.first or row.get("error", "")
            yield row
