"""MLflow: a run in the experiment and store that MLflow's own settings name, with parameters, metrics, tags and artifacts."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from acclimate.core.errors import MissingExtra
from acclimate.core.run import Run
from acclimate.engine.watcher import Mistake
from acclimate.tracking.book import Ended
from acclimate.tracking.flat import Value, verdict

FILES = ("recipe.yaml", "metrics.json", "model.json", "README.md")
"""Of the run, that are kept as artifacts; the weights stay where they are."""
LONGEST = 6000
"""Letters of a parameter."""


KEY = 250
"""Letters of a name of a metric."""
LETTERS = 60
"""Of a title, in the name of a file."""
STATUS = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}


class MLflow:
    """Beneath the run that is active, where the caller has begun one. Curves are sent by a thread, so that no step waits for a server."""

    name = "mlflow"

    def __init__(self) -> None:
        try:
            import mlflow
        except ImportError:
            raise MissingExtra("--track mlflow", "mlflow") from None
        self.package: Any = mlflow
        self.run_id = ""
        self.known: set[str] = set()
        self.waiting: list[Any] = []
        self.where = ""

    def open(self, run: Run, folder: Path, known: str | None, settings: Mapping[str, Value]) -> str:
        nested = self.package.active_run() is not None
        begun = self.package.start_run(run_id=known, run_name=None if known else run.path.name, nested=nested)
        self.known = set(begun.data.params)
        self._parameters(settings)
        self.package.set_tag("run folder", str(run.path.absolute()))
        self.run_id = str(begun.info.run_id)
        self.where = f"run {self.run_id} in {self.package.get_tracking_uri()}"
        return self.run_id

    def _parameters(self, settings: Mapping[str, Value]) -> None:
        """A parameter is told once."""
        new = {name: str(value)[:LONGEST] for name, value in settings.items() if name not in self.known}
        self.package.log_params(new)
        self.known |= set(new)

    def points(self, axis: str, place: int, values: Mapping[str, float]) -> None:
        now = int(time.time() * 1000)
        self.waiting += [
            self.package.entities.Metric(name, value, now, place) for name, value in _named(values).items()
        ]

    def flush(self) -> None:
        """One request for all that came since the last."""
        if self.waiting:
            self.package.MlflowClient().log_batch(self.run_id, self.waiting, synchronous=False)
            self.waiting = []

    def result(
        self, run: Run, settings: Mapping[str, Value], figures: Mapping[str, float], samples: Sequence[Mistake]
    ) -> None:
        self._parameters(settings)
        self.package.log_metrics(_named(figures))
        if said := verdict(run):
            self.package.set_tag("mlflow.note.content", said)  # what its page shows as the description
        for name in FILES:
            if run.file(name).is_file():
                self.package.log_artifact(str(run.file(name)))
        with TemporaryDirectory() as folder:
            for number, sample in enumerate(samples, 1):
                _write(Path(folder) / f"{number:03d} {_safe(sample.title)}", sample)
            self.package.log_artifacts(folder, "mistakes")

    def close(self, ended: Ended) -> None:
        self.package.flush_async_logging()
        self.package.end_run(STATUS[ended])


def _named(values: Mapping[str, float]) -> dict[str, float]:
    """Names of figures may hold names of classes, and MLflow takes few signs in them."""
    parts = (name.split("/", 1) for name in values)
    names = ("/".join(re.sub(r"[^\w .:-]", "_", part) for part in each)[:KEY] for each in parts)
    return dict(zip(names, values.values(), strict=True))


def _write(stem: Path, sample: Mistake) -> None:
    if isinstance(sample.content, str):
        stem.with_name(f"{stem.name}.txt").write_text(f"{sample.title}\n\n{sample.content}\n", encoding="utf-8")
    else:
        stem.with_name(f"{stem.name}.png").write_bytes(sample.content)


def _safe(title: str) -> str:
    """A title as a part of a file's name."""
    return re.sub(r"[^\w ,-]+", "_", title)[:LETTERS]
