"""Weights & Biases: a run of the project that its own settings name; its files lie in the run folder, and no network is waited for."""

from __future__ import annotations

import io
import os
import secrets
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from acclimate.core.errors import MissingExtra
from acclimate.core.run import Run
from acclimate.engine.watcher import Mistake
from acclimate.tracking.book import Ended
from acclimate.tracking.flat import Value, verdict

PROJECT = "acclimate"
"""Where WANDB_PROJECT names none."""
FEW = 50
"""Mistakes that are shown; a run of Weights & Biases keeps so many pictures a name at most."""


class WandB:
    """Offline where WANDB_MODE says so, and where nothing is said and there is no key: `wandb sync` sends it later."""

    name = "wandb"

    def __init__(self) -> None:
        try:
            import wandb
        except ImportError:
            raise MissingExtra("--track wandb", "wandb") from None
        self.package: Any = wandb
        self.run: Any = None
        self.where = ""

    def open(self, run: Run, folder: Path, known: str | None, settings: Mapping[str, Value]) -> str:
        id = known or secrets.token_hex(4)
        folder.mkdir(exist_ok=True)
        self.run = self.package.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=os.environ.get("WANDB_NAME", run.path.name),
            id=id,
            resume="allow",
            dir=str(folder),
            mode=self._mode(),
            config=dict(settings),
            settings=self.package.Settings(console="off", silent=True),
        )
        for axis, curves in (("step", ("train/*", "validation/*", "epoch")), ("phase", ("phase/*",))):
            self.run.define_metric(axis, hidden=True)
            for curve in curves:
                self.run.define_metric(curve, step_metric=axis)
        kept = f"offline; wandb sync {shlex.quote(str(Path(self.run.dir).parent))} sends it"
        self.where = kept if self.run.offline else str(self.run.url)
        return id

    def _mode(self) -> str | None:
        """None: as its own settings say."""
        return None if "WANDB_MODE" in os.environ or self.package.login(prompt=False) else "offline"

    def points(self, axis: str, place: int, values: Mapping[str, float]) -> None:
        self.run.log({axis: place, **values})

    def flush(self) -> None:
        """Its own process writes what it is told."""

    def result(
        self, run: Run, settings: Mapping[str, Value], figures: Mapping[str, float], samples: Sequence[Mistake]
    ) -> None:
        self.run.config.update(dict(settings), allow_val_change=True)
        self.run.summary.update(dict(figures))
        if said := verdict(run):
            self.run.summary["verdict"] = said
        pictures = [
            self._picture(sample.title, sample.content) for sample in samples if isinstance(sample.content, bytes)
        ]
        texts = [[sample.title, sample.content] for sample in samples if isinstance(sample.content, str)]
        if pictures:
            self.run.log({"mistakes": pictures[:FEW]})
        if texts:
            self.run.log({"mistakes": self.package.Table(["title", "text"], texts[:FEW])})

    def _picture(self, title: str, content: bytes) -> Any:
        from PIL import Image

        with Image.open(io.BytesIO(content)) as picture:
            return self.package.Image(picture.convert("RGB"), caption=title)

    def close(self, ended: Ended) -> None:
        self.run.finish(exit_code=0 if ended == "finished" else 1)
