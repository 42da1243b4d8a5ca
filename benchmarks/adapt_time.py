"""What each adaptation takes once features are cached: seconds of its own phase in whole fits.

    python benchmarks/adapt_time.py PACS [--adapt standardise,shot,...]

PACS: photo.parquet and sketch.parquet with columns image and label (Li et al. 2017, two of the four domains). A fit of photographs with
sketches as its target, frozen features at 160 px, for every adaptation; the first one's fit computes the features.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from common import command, folders, machine, show

from acclimate.alignments import ALIGNMENTS
from acclimate.core.run import Run
from acclimate.engine.phase import PASS
from acclimate.objectives import ADAPTING
from acclimate.strategies.adaptation import needs_labels
from acclimate.verbs.fit import fit


def taken(data: Path, name: str, place: Path) -> tuple[str, int, float]:
    """(name, samples of both sides, seconds of the last phase without waiting for features)."""
    asked: dict[str, Any] = {"strategy": "probe", "size": 160, "harmonise": "none", "fresh": True}
    run = fit(data / "photo.parquet", target=str(data / "sketch.parquet"), adapt=name, out=place / name, **asked)
    assert isinstance(run, Run)
    *_, last = (event for event in run.events() if event["event"] == "outcome")
    begun = next(event for event in run.events() if event["event"] == "begin")
    samples = begun["samples"]["train"] + run.metrics()["target"]["samples"]
    return name, samples, last["seconds"] - last["notes"].get(PASS, 0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument(
        "--adapt", default=",".join(name for name in (*ALIGNMENTS, *ADAPTING) if not needs_labels(name))
    )
    given = parser.parse_args()
    print(machine())
    show("seconds of the adaptation's own phase, features cached", ("adaptation", "samples", "seconds"), [])
    for data in folders([given.data]):
        with tempfile.TemporaryDirectory() as place:
            for name in given.adapt.split(","):
                found, samples, seconds = taken(data, name, Path(place))
                show("", (), [(found, samples, f"{seconds:.2f}")], begin=False)


if __name__ == "__main__":
    command(main)
