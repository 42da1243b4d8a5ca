"""TensorBoard: event files in the run's own folder, with its hyper-parameter table, pictures and texts."""

from __future__ import annotations

import io
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from acclimate.core.errors import MissingExtra
from acclimate.core.run import Run
from acclimate.engine.watcher import Mistake
from acclimate.tracking.book import Ended
from acclimate.tracking.flat import Value, verdict


class TensorBoard:
    """`tensorboard --logdir runs` shows all runs beside one another. Of the figures those without their interval's ends are the
    metrics of the table."""

    name = "tensorboard"

    def __init__(self) -> None:
        try:
            from torch.utils import tensorboard
        except ImportError:
            raise MissingExtra("--track tensorboard", "track") from None
        self.package = tensorboard
        self.writer: Any = None
        self.where = ""

    def open(self, run: Run, folder: Path, known: str | None, settings: Mapping[str, Value]) -> str:
        self.writer = self.package.SummaryWriter(str(folder / self.name))
        self.where = f"tensorboard --logdir {shlex.quote(str(folder / self.name))}"
        return self.name

    def points(self, axis: str, place: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, place)

    def flush(self) -> None:
        self.writer.flush()

    def result(
        self, run: Run, settings: Mapping[str, Value], figures: Mapping[str, float], samples: Sequence[Mistake]
    ) -> None:
        from torch.utils.tensorboard.summary import hparams

        compared = {name: value for name, value in figures.items() if f"{name} low" in figures}
        for summary in hparams(dict(settings), compared):
            self.writer.file_writer.add_summary(summary)
        for name, value in figures.items():
            self.writer.add_scalar(name, value, 0)
        for name, text in (("verdict", verdict(run)), ("recipe", run.file("recipe.yaml").read_text())):
            if text:
                self.writer.add_text(name, _as_it_is(text), 0)
        for number, sample in enumerate(samples, 1):
            self._show(f"mistakes/{number:03d} {sample.title}", sample)

    def _show(self, tag: str, sample: Mistake) -> None:
        if isinstance(sample.content, str):
            self.writer.add_text(tag, _as_it_is(sample.content), 0)
            return
        import numpy as np
        from PIL import Image

        with Image.open(io.BytesIO(sample.content)) as picture:
            self.writer.add_image(tag, np.asarray(picture.convert("RGB")), 0, dataformats="HWC")

    def close(self, ended: Ended) -> None:
        self.writer.close()


def _as_it_is(text: str) -> str:
    """A text as TensorBoard shows it letter by letter, instead of reading it as Markdown."""
    return "".join(f"    {line}\n" for line in text.splitlines())
