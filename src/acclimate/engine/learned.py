"""What a saved model learned from, and which samples are the same or nearly: by content, and by the marks that near copies share."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from acclimate.core.errors import fail
from acclimate.engine.dataset import Dataset
from acclimate.tasks.task import Task

FILE, CHOSE = "learned.npy", "chose.npy"
"""Of a run: what its model learned from, and the validation samples that it was chosen by without learning them."""
CONTENT = "content"


def entries(task: Task, dataset: Dataset, rows: np.ndarray) -> np.ndarray:
    """[m] of `rows`: a uint64 of the content of each, and its mark under the name of how such are made."""
    found = np.zeros(len(rows), [(CONTENT, "<u8"), (task.mark, "u1", (dataset.marks.shape[1],))])
    found[CONTENT], found[task.mark] = dataset.digests[rows, 0], dataset.marks[rows]
    return found


def together(parts: list[np.ndarray]) -> np.ndarray:
    """The entries of all parts, each content once. Those that are kept otherwise than the first ones, by another task or by an older
    acclimate, have no marks."""
    kept = np.concatenate([_as(parts[0].dtype, part) for part in parts])
    return kept[np.unique(kept[CONTENT], return_index=True)[1]]


def _as(kind: np.dtype, part: np.ndarray) -> np.ndarray:
    if part.dtype == kind:
        return part
    found = np.zeros(len(part), kind)
    found[CONTENT] = digests(part)
    return found


def packed(entries: np.ndarray) -> bytes:
    """As a file holds them."""
    buffer = io.BytesIO()
    np.save(buffer, entries)
    return buffer.getvalue()


def read(folder: Path, name: str = FILE) -> np.ndarray:
    """The entries of a run folder, or uint64 [m] of content alone where an older acclimate left it. Raises `UserError`."""
    try:
        return np.load(folder / name)
    except (OSError, ValueError, EOFError):
        raise fail(f"{str(folder / name)!r}", "is not there or damaged", "restore the file or fit again") from None


def digests(kept: np.ndarray) -> np.ndarray:
    """uint64 [m]: the content of entries."""
    return kept[CONTENT] if kept.dtype.names else kept


def seen(folder: Path, task: Task, dataset: Dataset, rows: np.ndarray, name: str = FILE) -> np.ndarray:
    """bool [rows]: which samples are the same or nearly the same as what the model in a run folder learned from, or, by `CHOSE`, was chosen
    by. Raises `UserError`."""
    known = read(folder, name)
    found = np.isin(dataset.digests[rows, 0], digests(known))
    marks = dataset.marks[rows]
    if task.mark in (known.dtype.names or ()) and known[task.mark].shape[1] == marks.shape[1]:
        number = task.same(np.concatenate([known[task.mark], marks]))
        found |= np.isin(number[len(known) :], number[: len(known)])
    return found


def leaked(dataset: Dataset, rows: np.ndarray, of: np.ndarray) -> np.ndarray:
    """bool [rows]: which samples are the same or nearly the same as one of the rows `of`."""
    return np.isin(dataset.same[rows], dataset.same[of])
