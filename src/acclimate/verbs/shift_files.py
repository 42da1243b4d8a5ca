"""What a shift leaves in a folder: shift.json, a picture of both sides, and a table of samples to be labelled."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from acclimate.core.run import write_whole
from acclimate.engine.sides import Side
from acclimate.metrics.two_samples import standardised
from acclimate.tasks.task import Task
from acclimate.verbs import drawing

if TYPE_CHECKING:
    from acclimate.verbs.shift import Shift

ASKED = "ask.csv"
SAMPLES = "ask"
"""Folder of pictures that lay in a table and must be files to be looked at."""
DOTS = 600
"""Samples of a side that are drawn."""
SUFFIXES = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"GIF8": ".gif", b"RIFF": ".webp", b"BM": ".bmp"}


def write(folder: Path, result: Shift, ours: np.ndarray, theirs: np.ndarray) -> None:
    """shift.json, clouds.svg and clouds.png, of the features that were compared."""
    for name, drawn in clouds(result, ours, theirs).items():
        write_whole(folder / name, drawn)
    write_whole(folder / "shift.json", json.dumps(result.json(), indent=1, ensure_ascii=False))


def clouds(result: Shift, ours: np.ndarray, theirs: np.ndarray) -> dict[str, bytes]:
    """Both sides as dots: across, how much a classifier that has not seen a sample takes it to be of the target; up, the direction in
    which the features of both differ most among themselves."""
    gate = result.found.gate
    n, scores = len(ours), gate.told.scores
    centred = standardised(np.concatenate([ours, theirs]))
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    height = centred @ directions[0]
    figure, axes = drawing.empty(7, 4.2)
    for side, (name, colour) in enumerate(zip(result.names, drawing.COLOURS, strict=True)):
        own = slice(0, n) if side == 0 else slice(n, None)
        axes.scatter(scores[own][:DOTS], height[own][:DOTS], s=9, alpha=0.6, color=colour, label=name, linewidths=0)
    axes.axvline(0.5, color="#999999", linewidth=0.8)
    axes.set_xlabel(f"taken to be of {result.names[0]}  <  0.5  <  taken to be of {result.names[1]}")
    axes.set_ylabel("first principal component")
    axes.set_title(f"as {result.model} sees them: AUC {gate.told.auc.value:.2f}, p {gate.p:.2g}", fontsize=10)
    axes.legend(frameon=False, loc="best")
    return drawing.files(figure, "clouds")


def write_asked(folder: Path, side: Side, places: np.ndarray, task: Task, predictions: np.ndarray) -> None:
    """A table that is read like any data once its column of labels is filled in; what the model thinks stands beside it."""
    table = side.dataset.table
    rows = side.rows[places]
    said = [_cells(folder, table, int(row), number) for number, row in enumerate(rows)]
    answers = [task.answer(predictions[place]) for place in places]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    names = ["text", "text_2"][: len(said[0])] if table.form == "text" else ["image"]
    writer.writerow([*names, "label", "predicted", "confidence"])
    first, second = task.columns
    for cells, answer in zip(said, answers, strict=True):
        writer.writerow([*cells, "", answer[first], f"{answer[second]:.3f}"])
    write_whole(folder / ASKED, buffer.getvalue())


def _cells(folder: Path, table: Any, row: int, number: int) -> tuple[str, ...]:
    """What names a sample in the table: its texts, or the path of its file from the folder."""
    raw = table.raw(row)
    if table.form == "text":
        return (raw,) if isinstance(raw, str) else tuple(raw)
    if table.form == "path":
        return (os.path.relpath(table.path(table.column("sample")[row].as_py()), folder),)
    ending = next((suffix for begin, suffix in SUFFIXES.items() if raw.startswith(begin)), ".png")
    path = Path(SAMPLES) / f"{number:04d}{ending}"
    write_whole(folder / path, raw, durable=False)
    return (str(path),)
