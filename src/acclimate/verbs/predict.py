"""predict: a run as a model that answers, for one sample or for a stream of them."""

from __future__ import annotations

import glob
import itertools
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from acclimate.core.device import choose_device, keep_memory, set_threads
from acclimate.core.errors import Problems
from acclimate.core.tree import Tree
from acclimate.data.read import existing
from acclimate.data.readers.words import is_hidden, natural_key
from acclimate.engine.dataset import workers
from acclimate.engine.evaluate import outputs
from acclimate.engine.saved import Saved, load_model

BATCH = 64
AHEAD = 2
"""Batches decoded while one is predicted."""


class Model:
    """A loaded run: `model.predict(x)` for a path, a picture, raw bytes, or a list of them."""

    def __init__(self, saved: Saved, device: torch.device) -> None:
        self.saved = saved
        self.device = device

    def __repr__(self) -> str:
        return f"Model({self.saved.manifest['model']['name']}, {self.saved.task.name})"

    def predict(self, samples: Any) -> Any:
        """The answer of the task for one sample, or a list of answers for a list: {"label": ..., "confidence": ...}.

        An answer for a sample that cannot be read is {"error": why}.
        """
        if isinstance(samples, list | tuple):
            return list(self.stream(samples))
        return next(self.stream([samples]))

    def stream(self, samples: Iterable[Any], batch: int = BATCH) -> Iterator[dict[str, Any]]:
        """Answers in the order of the samples; memory does not grow with their number."""
        with ThreadPoolExecutor(workers()) as pool:
            waiting: deque[Future[Tree | str]] = deque()
            source = iter(samples)
            done = False
            while waiting or not done:
                while not done and len(waiting) < batch * AHEAD:
                    try:
                        waiting.append(pool.submit(self._prepare, next(source)))
                    except StopIteration:
                        done = True
                yield from self._answers([waiting.popleft().result() for _ in range(min(batch, len(waiting)))])

    def _prepare(self, sample: Any) -> Tree | str:
        """A prepared sample, or why there is none."""
        try:
            return self.saved.inputs.prepare(self.saved.inputs.raw(sample))
        except ValueError as error:
            return str(error)
        except OSError as error:
            return (error.strerror or "cannot be read").lower()

    def _answers(self, prepared: list[Tree | str]) -> Iterator[dict[str, Any]]:
        good = [sample for sample in prepared if not isinstance(sample, str)]
        if good:
            made = outputs(self.saved.net, self.saved.inputs.collate(good), 0, self.saved.precision, self.device)
            predictions = iter(self.saved.task.predictions(made))
        for sample in prepared:
            yield {"error": sample} if isinstance(sample, str) else self.saved.task.answer(next(predictions))


def load(run: str | Path, device: str = "auto") -> Model:
    """The model of a run folder; its stored samples are predicted again and must come out the same.

    Raises `UserError` where the folder holds no model, a damaged one, or one that no longer predicts what it did.
    """
    where = choose_device(device)
    keep_memory()
    set_threads()
    return Model(load_model(Path(run), where), where)


def predict(run: str | Path, samples: Any, device: str = "auto") -> Any:
    """`load(run).predict(samples)`."""
    return load(run, device).predict(samples)


def find_samples(paths: Iterable[str], listed: Iterable[str] = ()) -> Iterator[str]:
    """Sample paths from files, folders (searched, in natural order, hidden names left out) and globs; "-" takes the names of `listed`.

    A path that is not there is given all the same, to become a row that says so; where none is there, raises `UserError` that tells
    each, before the first sample is given.
    """
    paths = list(paths)
    problems = Problems()
    for path in paths:
        if glob.has_magic(path) and not Path(path).exists():
            if next(glob.iglob(path, recursive=True), None) is None:
                problems.add(path, "matches no file", "quote the pattern, and look at it with ls")
        elif path != "-":
            problems.attempt(existing, path)
    if len(problems.found) == len(paths):
        problems.stop()
    for path in paths:
        if path == "-":
            yield from (line.rstrip("\r\n") for line in listed if line.strip())
        elif Path(path).is_dir():
            yield from _within(Path(path))
        else:
            matched = [] if Path(path).exists() else sorted(glob.glob(path, recursive=True), key=natural_key)
            yield from matched or [path]


def _within(folder: Path) -> Iterator[str]:
    """Of a folder only the names are held, which its order asks for."""
    for name in sorted(os.listdir(folder), key=natural_key):  # noqa: PTH208  (a million paths would be ten times the size)
        path = os.path.join(folder, name)  # noqa: PTH118
        if is_hidden(name):
            continue
        if Path(path).is_dir():
            yield from _within(Path(path))
        else:
            yield path


def rows(model: Model, paths: Iterable[str]) -> Iterator[dict[str, Any]]:
    """{"path": ..., the columns of the task's answer, "error": why or None}, one a path, in order."""
    named, read = itertools.tee(paths)
    for path, answer in zip(named, model.stream(read), strict=True):
        yield {"path": path, **answer}
