"""What judging a run and writing its page take: seconds and bytes at 1,500 and at 100,000 samples.

    python benchmarks/report_time.py DATA [--samples 1500,100000] [--model wordllama]

DATA: whatever `acclimate fit` reads. One fit by the probe; then the samples that judge it are judged again and drawn on a page,
repeated until there are as many as asked, each as if it were one of its own. Predictions are the same for a sample that is repeated;
all figures, intervals, slices and drawings are computed anew.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from common import command, machine, show

from acclimate.core.run import Run
from acclimate.engine.dataset import Dataset
from acclimate.engine.saved import Saved, load_model
from acclimate.engine.second_look import Row
from acclimate.engine.watcher import Watcher
from acclimate.verbs.evaluate import samples_of
from acclimate.verbs.fit import fit
from acclimate.verbs.judging import judge
from acclimate.verbs.reporting import REPORT, gallery, report


def repeated(dataset: Dataset, rows: np.ndarray, samples: int) -> Dataset:
    """A data set of so many samples, those of `rows` over and over; each content is another."""
    many = np.resize(rows, samples)
    digests = dataset.digests[many].copy()
    digests[:, 1] += np.arange(samples, dtype=np.uint64)
    return replace(
        dataset,
        table=dataset.table.take(many),
        targets=dataset.targets[many],
        digests=digests,
        origin=dataset.origin[many],
        same=dataset.same[many],
        marks=dataset.marks[many],
    )


def taken(run: Run, saved: Saved, dataset: Dataset) -> tuple[float, float, int, int]:
    """(seconds of judging, seconds of the page, its bytes, those of metrics.json)."""
    device, rows, began = torch.device("cpu"), np.arange(len(dataset)), time.perf_counter()
    found, answers = judge(saved, dataset, rows, device)
    judged = time.perf_counter() - began
    doubtful = [
        Row(row=i, sample=str(i), split="test", kind="label", label="", suggested="another", sure=0.9, learned=False)
        for i in range(100)
    ]
    told = {**run.metrics(), **found}
    began = time.perf_counter()
    made = gallery(saved, dataset, rows, answers, doubtful, device)
    report(run, told, made, "data", saved.task.example)
    page = time.perf_counter() - began
    run.write_json("metrics.json", told)
    return judged, page, run.file(REPORT).stat().st_size, run.file("metrics.json").stat().st_size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--samples", default="1500,100000")
    parser.add_argument("--model")
    given = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as place:
        run = fit(given.data, model=given.model, strategy="probe", out=Path(place) / "run")
        assert isinstance(run, Run)
        saved = load_model(run.path, torch.device("cpu"))
        dataset, rows, split, _ = samples_of(run.path, saved, given.data, None, Watcher(), {})
        header = ("samples", "judging, s", "page, s", "report.html, MB", "metrics.json, MB")
        show(f"{len(rows)} {split} samples of {given.data}, repeated", header, [])
        for samples in map(int, given.samples.split(",")):
            judged, page, size, told = taken(run, saved, repeated(dataset, rows, samples))
            row = (f"{samples:,}", f"{judged:.1f}", f"{page:.1f}", f"{size / 1e6:.2f}", f"{told / 1e6:.2f}")
            show("", (), [row], begin=False)


if __name__ == "__main__":
    command(main)
