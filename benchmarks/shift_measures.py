"""How far `acclimate shift` can be believed: false alarms, power, A-distance, estimated accuracy, time, on six domains.

    python benchmarks/shift_measures.py PACS DIGITS AMAZON [--seeds 3] [--only 'false alarms;power']

PACS: photo.parquet and sketch.parquet with columns image and label (Li et al. 2017, two of the four domains). DIGITS: mnist.parquet
and usps.parquet, likewise. AMAZON: books.jsonl and dvd.jsonl with text and label (the Multi-Domain Sentiment Dataset of Johns Hopkins
University). Features are those of the frozen default network for pictures, of MiniLM for texts (acclimate models get minilm).
Labels of a target only judge the estimates.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import command, folders, machine, meant, positive, show

from acclimate.core.recipe import Options
from acclimate.core.seeds import generator
from acclimate.engine.activations import Pass
from acclimate.engine.precision import Precision
from acclimate.engine.solve import Fold, fit_head
from acclimate.engine.watcher import Watcher
from acclimate.metrics.expected import ALARM, ESTIMATES, Labelled
from acclimate.metrics.mismatch import LEVEL, expect, gate
from acclimate.verbs.job import Job, prepare

PAIRS = (("photo", "sketch"), ("mnist", "usps"), ("books", "dvd"))
FILES = {
    "photo": (0, "photo.parquet", {"size": 160}),
    "sketch": (0, "sketch.parquet", {"size": 160}),
    "mnist": (1, "mnist.parquet", {"size": 96}),
    "usps": (1, "usps.parquet", {"size": 96}),
    "books": (2, "books.jsonl", {"model": "minilm"}),
    "dvd": (2, "dvd.jsonl", {"model": "minilm"}),
}
SPLITS, ALARMED = 10, 12
"""Comparisons of each size, a pair or domain and seed: for power and distances, and for false alarms."""
SIZES = (10, 20, 50, 200)
HELD, OTHER = 0.2, 0.3
"""Shares of a domain that are held out for calibration, and that stand for a target where there is no shift."""


@dataclass(frozen=True)
class Domain:
    """All samples of one domain as the frozen network sees them."""

    job: Job
    features: torch.Tensor
    targets: np.ndarray

    @property
    def pooled(self) -> np.ndarray:
        head: Any = self.job.net.head
        with torch.inference_mode():
            return head.pooled(self.features).double().numpy()


def domain(home: Path, name: str) -> Domain:
    _, file, asked = FILES[name]
    job = prepare(str(home / file), Options.check({"strategy": "probe", **asked}), Watcher())
    precision = Precision.measure(job.net, job.example(), job.device)
    rows = np.arange(len(job.dataset))
    cached = Pass(job.net.backbone, job.dataset, job.store, precision, job.device).bring(rows, len(job.stages))
    return Domain(job, cached.rows(rows).float(), job.dataset.targets)


def halves(features: np.ndarray, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two disjoint sets of samples of one domain."""
    drawn = generator("halves", seed).permutation(len(features))[: 2 * size]
    return features[drawn[:size]], features[drawn[size:]]


def false_alarms(domains: dict[str, Domain], seeds: int) -> None:
    header = ("domain", "comparisons", f"gate at {LEVEL}", "classifier", "MMD", "gate at .01", "least p")
    rows, all_found = [], []
    for number, (name, found) in enumerate(domains.items()):
        pooled, p = found.pooled, []
        for i in range(ALARMED * seeds):
            for size in (50, 200):
                one = gate(*halves(pooled, size, 1000 * number + i), seed=i, permutations=199)
                p.append((one.p, one.told.auc.p, one.mean.p))
        rows.append((name, *_alarms(np.array(p))))
        all_found += p
    show("false alarms on halves of one domain", header, [*rows, ("all", *_alarms(np.array(all_found)))])


def _alarms(p: np.ndarray) -> tuple[str, ...]:
    shares = [f"{100 * share:.1f} %" for share in (*(p <= LEVEL).mean(axis=0), (p[:, 0] <= 0.01).mean())]
    return str(len(p)), *shares, f"{p.min():.3f}"


def power(domains: dict[str, Domain], seeds: int) -> None:
    rows = []
    for a, b in PAIRS:
        if a in domains and b in domains:
            ours, theirs = domains[a].pooled, domains[b].pooled
            shares = []
            for size in SIZES[:2]:
                p = []
                for i in range(SPLITS * seeds):
                    draws = (
                        generator("power", side, i).permutation(len(x))[:size] for side, x in ((a, ours), (b, theirs))
                    )
                    one, other = draws
                    p.append(gate(ours[one], theirs[other], i).p)
                shares.append(f"{np.mean(np.array(p) <= LEVEL):.2f}")
            rows.append((f"{a}, {b}", *shares))
    show(f"power at {LEVEL}", ("pair", *(f"2 x {size}" for size in SIZES[:2])), rows)


def distance(domains: dict[str, Domain], seeds: int) -> None:
    rows = []
    for name, found in domains.items():
        pooled = found.pooled
        values = [
            [
                gate(*halves(pooled, size, 77 + i), seed=i, permutations=1).told.distance["value"]
                for i in range(SPLITS * seeds)
            ]
            for size in SIZES[2:]
        ]
        rows.append((name, *(f"{np.mean(one):.3f} (largest {max(one):.2f})" for one in values)))
    show(
        "A-distance of halves of one domain, 0 is equal, 2 apart",
        ("domain", *(f"2 x {size}" for size in SIZES[2:])),
        rows,
    )


def estimated(domains: dict[str, Domain], seeds: int) -> None:
    header = ("pair", "seed", "on the source", "on the target", *ESTIMATES)
    show("accuracy of a probe, and as it is estimated without the target's labels", header, [])
    errors: dict[str, list[list[float]]] = {"same": [], "pairs": []}
    pairs = [(a, a) for a in domains] + [
        pair for a, b in PAIRS for pair in ((a, b), (b, a)) if a in domains and b in domains
    ]
    for a, b in pairs:
        for seed in range(seeds):
            held, chances, truth = probed(domains[a], domains[b], a == b, seed)
            found = expect([held], [held], [chances])
            assert found is not None
            errors["same" if a == b else "pairs"].append([value - truth for value in found.by.values()])
            told = (f"{100 * value:.1f}" for value in (held.accuracy, truth, *found.by.values()))
            show("", header, [(a if a == b else f"{a} to {b}", seed, *told)], begin=False)
    for kind, found_errors in errors.items():
        if found_errors:
            made = np.abs(np.array(found_errors)).mean(axis=0)
            show(
                "",
                header,
                [(f"mean absolute error, {kind}", "", "", "", *(f"{100 * one:.1f}" for one in made))],
                begin=False,
            )


def probed(ours: Domain, theirs: Domain, same: bool, seed: int) -> tuple[Labelled, np.ndarray, float]:
    """A probe fitted to a part of the source: (held-out answers, answers for the target, accuracy there)."""
    task, head = ours.job.task, ours.job.net.head
    order = generator("probe", seed).permutation(len(ours.targets))
    cut = int(OTHER * len(order)) if same else 0
    other, rest = order[:cut], order[cut:]
    edge = int(HELD * len(rest))
    held, train = rest[:edge], rest[edge:]
    part = lambda rows: Fold(ours.features[torch.from_numpy(rows)], ours.targets[rows])  # noqa: E731
    fit_head(task, task, head, part(train), part(held), seed)
    with torch.inference_mode():
        answers = [
            task.choices(task.predictions(head(features)))[0]
            for features in (ours.features[held], ours.features[other] if same else theirs.features)
        ]
    truth = ours.targets[other] if same else theirs.targets
    return Labelled(answers[0], ours.targets[held]), answers[1], float(np.mean(answers[1].argmax(axis=1) == truth))


def seconds(domains: dict[str, Domain], seeds: int) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    rows = []
    for name, found in domains.items():
        ours, theirs = halves(found.pooled, 200, 0)
        times = []
        for i in range(5 + seeds):
            began = time.process_time()
            gate(ours, theirs, i)
            times.append(time.process_time() - began)
        rows.append((name, ours.shape[1], f"{np.median(times):.3f}"))
    torch.set_num_threads(threads)
    show("core-seconds of both tests with 999 permutations, 2 x 200 (median)", ("domain", "features", "seconds"), rows)


PARTS = {
    "false alarms": false_alarms,
    "power": power,
    "distance": distance,
    "estimates": estimated,
    "time": seconds,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", metavar="FOLDER", help="PACS, DIGITS and AMAZON, in this order")
    parser.add_argument("--seeds", type=positive, default=3)
    parser.add_argument("--only", default="", help=f"of {'; '.join(PARTS)}")
    asked = parser.parse_args()
    parts = meant(asked.only, PARTS)
    there = {path: number for number, path in enumerate(map(Path, asked.folders))}
    homes = {there[path]: path for path in folders(asked.folders)}
    print(machine())
    domains = {name: domain(homes[number], name) for name, (number, _, _) in FILES.items() if number in homes}
    for part in parts:
        PARTS[part](domains, asked.seeds)
    print(f"\nthe alarm is the estimate by {ALARM}; labels of a target only judge (ORACLE)")


if __name__ == "__main__":
    command(main)
