"""How well probabilities say how often they are right, before and after the temperature that a fit keeps.

    python benchmarks/calibration.py FLOWERS TRASHNET BANKING77 [--seeds 3] [--minutes 1.5] [--strategy 'auto;last:3']
    python benchmarks/calibration.py BCCD RACCOON --minutes 3 --model yolox:nano --weights FILE

FLOWERS: class folders without splits (the Flowers Recognition set, a quarter of which is cut off as test by seed). TRASHNET: class folders
under train, val and test (github.com/garythung/trashnet). BANKING77: train.csv, val.csv and test.csv with columns text and label (PolyAI;
`acclimate models get bge-small` fetches the model). BCCD: VOC folder (github.com/Shenggan/BCCD_Dataset); RACCOON: VOC folder without
splits (github.com/datitran/raccoon_dataset). FILE: COCO's weights of YOLOX-nano. Calibration error and log loss are of the test samples,
of boxes of all that are likely, with 95 % intervals. `learned`: a fit that has learned from its validation samples keeps a temperature only
where a trial has answered to them out of fold.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from common import command, folders, machine, positive, show

from acclimate.core.recipe import Options
from acclimate.engine import evaluate
from acclimate.engine.learned import seen
from acclimate.engine.saved import load_model
from acclimate.engine.watcher import Watcher
from acclimate.metrics.metric import Metric
from acclimate.verbs.fit import fit
from acclimate.verbs.job import prepare

HEADER = (
    "data",
    "strategy",
    "seed",
    "learned",
    "temperature",
    "ece before",
    "after",
    "log loss before",
    "after",
    "primary",
)


def fitted(data: Path, own: dict[str, Any]) -> tuple[dict[str, Any], Metric, str]:
    """(what the task says of the test samples' calibration, its primary figure, whether validation samples were learned from)."""
    if not len(prepare(data, Options.check(own), Watcher()).rows("test")):
        own = {**own, "test": 0.25}
    with tempfile.TemporaryDirectory() as place:
        done = fit(data, out=Path(place) / "run", **own)
        job = prepare(data, Options.check(own), Watcher())
        saved, rows = load_model(done.path, job.device), job.rows("test")
        inputs = evaluate.over_samples(job.dataset, rows)
        predictions = evaluate.predict(saved.net, saved.task, inputs, saved.precision, job.device)
        learned = bool(seen(done.path, job.task, job.dataset, job.rows("val")).any())
    targets = job.dataset.targets[rows]
    figure = saved.task.metrics(predictions, targets, [saved.task.primary])[saved.task.primary]
    return saved.task.calibration(predictions, targets), figure, "yes" if learned else "no"


def told(metric: Metric, scale: float, digits: int) -> str:
    value, low, high = (f"{scale * metric[end]:.{digits}f}" for end in ("value", "low", "high"))  # type: ignore[literal-required]
    return f"{value} [{low}, {high}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", metavar="FOLDER")
    parser.add_argument("--seeds", type=positive, default=3)
    parser.add_argument("--minutes", type=float, default=1.5)
    parser.add_argument("--strategy", default="auto", help="one or several, separated by semicolons")
    parser.add_argument("--model")
    parser.add_argument("--weights")
    asked = parser.parse_args()
    kept = {name: value for name in ("model", "weights", "minutes") if (value := getattr(asked, name)) is not None}
    print(machine())
    show(f"calibration on test, {asked.minutes:g} minutes a fit; ece in points, log loss in nats", HEADER, [])
    for data in folders(asked.folders):
        for strategy in asked.strategy.split(";"):
            for seed in range(asked.seeds):
                found, figure, learned = fitted(data, {**kept, "strategy": strategy, "seed": seed})
                sides = [found[side] for side in ("before", "after")]
                errors = (told(side["ece"], 100, 1) for side in sides)
                losses = (told(side["log_loss"], 1, 3) for side in sides)
                row = (
                    data.name,
                    strategy,
                    seed,
                    learned,
                    f"{found['temperature']:.3f}",
                    *errors,
                    *losses,
                    f"{figure['value']:.3f}",
                )
                show("", HEADER, [row], begin=False)


if __name__ == "__main__":
    command(main)
