"""`Answers`: what a finished model said of the samples that judge it, kept beside it so that runs can be compared without running them."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from acclimate.core.errors import fail
from acclimate.core.run import Run

FILE = "answers.npz"
BESIDE = "beside "


@dataclass(frozen=True)
class Answers:
    """One row a sample: `digests` uint64 [n, 2] of its content, `predictions` and `targets` as the task has them."""

    digests: np.ndarray
    predictions: np.ndarray
    targets: np.ndarray
    leaked: np.ndarray
    """bool [n]: those that the model has learned from, or from near copies of."""
    beside: dict[str, np.ndarray] = field(default_factory=dict)
    """What each baseline predicts, by its name."""

    def take(self, rows: np.ndarray) -> Answers:
        """Some of the samples, int64 [m], in that order."""
        beside = {name: predictions[rows] for name, predictions in self.beside.items()}
        return Answers(self.digests[rows], self.predictions[rows], self.targets[rows], self.leaked[rows], beside)

    def places(self, digests: np.ndarray) -> np.ndarray:
        """int64 [m]: where each of other samples (uint64 [m, 2]) stands here, by its content; -1 where it does not."""
        place = {tuple(digest): row for row, digest in enumerate(self.digests.tolist())}
        return np.array([place.get(tuple(digest), -1) for digest in digests.tolist()], dtype=np.int64)

    def check(self) -> None:
        """Raises ValueError where there is not one of everything for each sample, or a prediction is no number."""
        sides = (self.predictions, *self.beside.values())
        if {len(one) for one in (*sides, self.targets, self.leaked)} != {len(self.digests)}:
            raise ValueError("parts of unlike length")
        if not all(np.isfinite(one).all() for one in sides):
            raise ValueError("predictions that are no numbers")

    def save(self, run: Run) -> None:
        arrays = {
            "digests": self.digests,
            "predictions": self.predictions,
            "leaked": self.leaked,
            **_flat(self.targets),
        }
        arrays |= {BESIDE + name: predictions for name, predictions in self.beside.items()}
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
        run.write(FILE, buffer.getvalue())

    @classmethod
    def load(cls, folder: Path) -> Answers:
        """Of a run folder. Raises `UserError` where they are not there or damaged."""
        try:
            with np.load(folder / FILE) as file:
                arrays = {name: file[name] for name in file.files}
            beside = {name.removeprefix(BESIDE): value for name, value in arrays.items() if name.startswith(BESIDE)}
            found = cls(arrays["digests"], arrays["predictions"], _ragged(arrays), arrays["leaked"], beside)
            found.check()
            return found
        except (OSError, ValueError, KeyError, EOFError, BadZipFile):
            remedy = "restore the file, or fit again"
            raise fail(f"{str(folder / FILE)!r}", "is not there or damaged", remedy) from None


def _flat(targets: np.ndarray) -> dict[str, np.ndarray]:
    """Targets of unlike length one behind the other: an array of objects would have to be pickled."""
    if targets.dtype != object:
        return {"targets": targets}
    return {"targets": np.concatenate(list(targets)), "counts": np.array([len(one) for one in targets])}


def _ragged(arrays: dict[str, Any]) -> np.ndarray:
    """The inverse of `_flat`."""
    if "counts" not in arrays:
        return arrays["targets"]
    found = np.empty(len(arrays["counts"]), dtype=object)
    for row, part in enumerate(np.split(arrays["targets"], np.cumsum(arrays["counts"])[:-1])):
        found[row] = part
    return found
