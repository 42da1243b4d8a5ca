"""predict: a run as a model that answers, for one sample or for a stream of them."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch

from acclimate.core.device import background, choose_device, keep_memory, set_threads
from acclimate.core.errors import fail
from acclimate.core.tree import Tree
from acclimate.data.found import Found, Sample, Unread
from acclimate.data.readers import frames
from acclimate.data.readers.reader import Columns
from acclimate.engine.dataset import parts, workers
from acclimate.engine.evaluate import outputs
from acclimate.engine.saved import Saved, load_model

BATCH = 64
TOGETHER = 2
"""Batches whose samples are sorted by cost together."""
AHEAD = 2
"""Of these, how many are prepared while others are predicted."""


class Model:
    """A loaded run: `model.predict(x)` for a path, a picture or raw bytes, for a text or a tuple of two, or for a list of them."""

    def __init__(self, saved: Saved, device: torch.device) -> None:
        self.saved = saved
        self.device = device

    def __repr__(self) -> str:
        return f"Model({self.saved.manifest['model']['name']}, {self.saved.task.name})"

    @property
    def fitted(self) -> tuple[str, ...]:
        """The columns that the samples of the fit came from."""
        return tuple(self.saved.manifest.get("columns", ()))

    def predict(self, samples: Any) -> Any:
        """The answer of the task for one sample, or a list of answers for a list, an array, a Series or any other iterable of
        samples: {"label": ..., "confidence": ...}. Of a DataFrame the columns that the fit read are taken.

        An answer for a sample that cannot be read is {"error": why}. Raises `UserError` for a DataFrame without those columns.
        """
        if frames.matches(samples):
            samples = self._column(samples)
        if _are_several(samples):
            return list(self.stream(samples))
        return next(self.stream([samples]))

    def _column(self, frame: Any) -> list[Any]:
        """The samples of a DataFrame."""
        lacking = [name for name in self.fitted if name not in frame.columns]
        if lacking or not self.fitted:
            rule = (
                f"has no column {lacking[0]!r}, which the fit read" if lacking else "is a table, and the fit read none"
            )
            listed = ", ".join(map(str, frame.columns))
            raise fail("DataFrame in memory", rule, f"give one of its columns, as table[NAME]; it has {listed}")
        first, *second = (frame[name].tolist() for name in self.fitted)
        return list(zip(first, *second, strict=True)) if second else first

    def at(self, threshold: float) -> Model:
        """The model with another threshold, 0 to 1, than the one that validation chose: `model.at(0.2).predict("x.jpg")`.

        Raises `UserError` for another number, and where the answers of its task depend on none.
        """
        return Model(replace(self.saved, task=self.saved.task.at(threshold)), self.device)

    def stream(self, samples: Iterable[Any], batch: int = BATCH) -> Iterator[dict[str, Any]]:
        """Answers in the order of the samples; memory does not grow with their number."""
        return (answer for answer, _ in self.detailed(samples, batch))

    def detailed(self, samples: Iterable[Any], batch: int = BATCH) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        """(answer, `Task.details`; none of a sample that cannot be read), as `stream`."""
        source = iter(samples)
        blocks = iter(lambda: list(itertools.islice(source, batch * TOGETHER)), [])
        with background(1) as ahead:
            waiting = deque(ahead.submit(self._prepare, block) for block in itertools.islice(blocks, AHEAD))
            while waiting:
                prepared = waiting.popleft().result()
                waiting.extend(ahead.submit(self._prepare, block) for block in itertools.islice(blocks, 1))
                yield from zip(self._answers(prepared, batch), map(self._details, prepared), strict=True)

    def _details(self, prepared: Tree | str) -> dict[str, Any]:
        return {} if isinstance(prepared, str) else self.saved.task.details(prepared)

    def _prepare(self, samples: list[Any]) -> list[Tree | str]:
        """Each sample prepared, or why it cannot be."""
        with background(workers()) as pool:
            raws = list(pool.map(self._raw, samples))
        there = [i for i, (_, error) in enumerate(raws) if error is None]
        found: list[Tree | str] = [error for _, error in raws]
        made = self.saved.inputs.prepare_all([raws[i][0] for i in there], workers())
        for i, sample in zip(there, made, strict=True):
            found[i] = sample
        return found

    def _raw(self, sample: Any) -> tuple[Any, str | None]:
        if isinstance(sample, Unread):
            return None, sample.reason
        try:
            return self.saved.inputs.raw(sample, self.fitted), None
        except ValueError as error:
            return None, str(error)
        except OSError as error:
            return None, (error.strerror or "cannot be read").lower()

    def _answers(self, prepared: list[Tree | str], batch: int) -> Iterator[dict[str, Any]]:
        """Samples of about one cost share a batch; the answers come in the order of the samples."""
        costs = {i: self.saved.inputs.cost(one) for i, one in enumerate(prepared) if not isinstance(one, str)}
        good = sorted(costs, key=costs.__getitem__)
        answers: dict[int, dict[str, Any]] = {}
        for part in (good[few] for few in parts(np.array([costs[i] for i in good]), batch)):
            inputs = self.saved.inputs.collate([prepared[i] for i in part])
            made = outputs(self.saved.net, inputs, 0, self.saved.precision, self.device)
            answers |= dict(zip(part, map(self.saved.task.answer, self.saved.task.predictions(made)), strict=True))
        for i, sample in enumerate(prepared):
            yield {"error": sample} if isinstance(sample, str) else answers[i]


def _are_several(samples: Any) -> bool:
    """Whether this is an iterable of samples: a tuple is one pair, and a table or an array of pixels is none."""
    single = isinstance(samples, str | bytes | bytearray | tuple | Mapping) or getattr(samples, "ndim", 1) != 1
    return isinstance(samples, Iterable) and not single


def load(run: str | Path, device: str = "auto") -> Model:
    """The model of a run folder; its stored samples are predicted again and must come out the same.

    Raises `UserError` where the folder holds no model, a damaged one, or one that no longer predicts what it did.
    """
    if not isinstance(run, str | PathLike):
        raise fail(f"run {run!r}", "is no path", "give the run folder of a finished fit")
    where = choose_device(device)
    keep_memory()
    set_threads()
    return Model(load_model(Path(run), where), where)


def predict(run: str | Path, samples: Any, device: str = "auto") -> Any:
    """`load(run).predict(samples)`."""
    return load(run, device).predict(samples)


def samples_of(
    model: Model, paths: Sequence[str], listed: Iterable[bytes] = (), columns: Columns | None = None
) -> Found:
    """The samples that paths mean to the model, in order; "-" stands for `listed`, the lines of stdin.

    Raises `UserError` where the paths hold no sample of the model's kind, before the first is given.
    """
    found = model.saved.inputs.find(paths, listed, columns or Columns(labels=False), model.fitted)
    first = next(found.samples, None)
    if first is None:
        raise fail(" ".join(paths), "holds no samples", "name files, folders or patterns that hold some")
    return replace(found, samples=itertools.chain([first], found.samples))


def rows(model: Model, samples: Iterable[Sample]) -> Iterator[dict[str, Any]]:
    """{what names the sample, the task's details, its answer or {"error": why}}, one a sample, in order."""
    named, read = itertools.tee(samples)
    for sample, (answer, details) in zip(named, model.detailed(sample.content for sample in read), strict=True):
        yield {**sample.named, **details, **answer}
