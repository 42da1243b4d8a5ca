"""Accuracy and time of the strategies on texts, beside TF-IDF and the Trainer of transformers, which starts from the same weights.

    python benchmarks/text_gain.py BANKING77 TREC SST2 CHNSENTICORP [--seeds 3] [--only 'auto;Trainer'] [--train 2000]

Each DATA is a folder of tables named train, val and test, with a column of texts and one of labels. The public gets banking77 at
github.com/PolyAI-LDN/task-specific-datasets, TREC (coarse labels) at github.com/harvardnlp/sent-conv-torch, SST-2 (sentences) at
github.com/clairett/pytorch-sentiment-classification, ChnSentiCorp at github.com/jsksxs360/How-to-use-Transformers.

Every side is a whole process (text_sides.py); its seconds count from the start of the process until it has judged validation and
test, imports included; ours begins with an empty cache. All get the same number of threads, and read 512 tokens at most.
`--train` and `--limit` draw rows for all sides alike. `--keep FOLDER` lets a comparison of hours be done in parts.

TF-IDF: words 1-2 and characters 2-5, logistic regression, its penalty chosen on validation.

Trainer, usual: AutoModelForSequenceClassification in fp32, batches padded to their longest text, rate 2e-5, 3 epochs, batch 16 (most
guides' choice; TrainingArguments say 8), weight decay 0.01, linear, no warm-up, gradient clipped at 1, fused AdamW; "bf16" is the same
with bf16=True, where the processor has it. Trainer, best: its rate from 2e-5, 5e-5, 1e-4 and 2e-4, by validation at the first
seed, in the arithmetic that was the faster one (bf16 where neither was run); its seconds are those of the chosen setting
alone, those of the search are said beside. The test answers of settings that were not chosen are not looked at. The folders of
weights have no pooler (their makers' users leave it out as well), so the Trainer begins it at random, as it does its classifier;
texts get the prefix that the model was trained with.

The Trainer needs `pip install accelerate`. Where validation holds fewer than 500 samples, or training and validation 1,000 at most,
ours learns from both in the end, which no Trainer here does: its note says so.

Pooled figures are by sample: the mean over seeds of each test sample's score, so that n is the number of test samples.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import at_hand, command, folders, machine, meant, positive, show
from text_sides import SPLITS, Answer, default_model, read_splits, run, weights, write_splits

from acclimate.core.device import cores, set_threads
from acclimate.engine import linear
from acclimate.metrics.intervals import paired, wilson

TFIDF, USUAL, BF16, BEST = "TF-IDF", "Trainer, usual", "Trainer, usual, bf16", "Trainer, best"
OURS: dict[str, dict[str, Any]] = {
    "probe": {"strategy": "probe"},
    "last 4": {"strategy": "last:4"},
    "auto": {"strategy": "auto"},
    "auto, 1 minute": {"strategy": "auto", "minutes": 1.0},
    "auto, 10 minutes": {"strategy": "auto", "minutes": 10.0},
}
VARIANTS = (TFIDF, USUAL, BF16, BEST, *OURS)
SETTING = {"lr": 2e-5, "epochs": 3}
GRID = [{"lr": lr, "epochs": 3} for lr in (2e-5, 5e-5, 1e-4, 2e-4)]
BATCH = 16
EACH = ["data", "seed", "variant", "test", "95 %", "val", "seconds", "note"]
POOLED = [
    "data",
    "variant",
    "test",
    "95 %",
    "by seed",
    "over the usual Trainer",
    "over the best",
    "seconds",
    "usual / these",
    "best / these",
]
REACHED = [
    "data",
    "variant",
    "than",
    "test accuracy at its end",
    "its s / ours, whole processes",
    "s to its val accuracy",
    "its s / these",
]


class Bench:
    """The runs on one data set."""

    def __init__(self, data: Path, given: argparse.Namespace, place: Path) -> None:
        splits = read_splits(data, given.limit, given.train)
        self.name, self.given, self.place = data.name, given, place
        self.truth = [row["label"] for row in splits["test"]]
        self.data = write_splits(place / "data", splits)
        self.model = given.model or default_model(splits)
        self.folder, self.prefix, _ = weights(self.model, place / "weights")
        self.usual = {**SETTING, "lr": given.lr}
        self.setting: dict[str, Any] | None = None
        self.found: dict[str, dict[int, Answer]] = {}
        print(
            f"\n{self.name}: {', '.join(f'{len(splits[name]):,} {name}' for name in SPLITS)}; {self.model}", flush=True
        )

    def run(self, side: str, **asked: Any) -> Answer:
        work = self.place / "work"
        work.mkdir()
        try:
            return run(side, work, self.given.threads, self.given.keep, data=self.data, **asked)
        finally:
            shutil.rmtree(work)

    def trainer(self, seed: int, setting: dict[str, Any], bf16: bool) -> Answer:
        own = {"weights": self.folder, "prefix": self.prefix, "batch": BATCH}
        return self.run("trainer", seed=seed, bf16=bf16, **setting, **own)

    def one(self, variant: str, seed: int) -> Answer:
        """A variant's answer for a seed."""
        if variant == TFIDF:
            return next(iter(self.found.get(TFIDF, {}).values()), None) or self.run("tfidf")  # nothing in it is random
        if variant in (USUAL, BF16):
            return self.trainer(seed, self.usual, variant == BF16)
        if variant == BEST:
            return self.best(seed)
        return self.run("ours", options={"model": self.model, "seed": seed, **OURS[variant]})

    def best(self, seed: int) -> Answer:
        fast = BF16 if linear.available(torch.bfloat16) else USUAL
        known = {name: by[seed] for name, by in self.found.items() if name in (USUAL, BF16) and seed in by}
        bf16 = min(known, key=lambda name: self.found[name][min(self.found[name])].seconds, default=fast) == BF16
        own = BF16 if bf16 else USUAL
        if self.setting is None:
            tried = [
                known[own] if one == self.usual and own in known else self.trainer(seed, one, bf16) for one in GRID
            ]
            place = max(range(len(GRID)), key=lambda i: tried[i].val or 0.0)
            self.setting, best = GRID[place], tried[place]
            search = f"; search of {len(GRID)}: {sum(one.seconds for one in tried):.0f} s"
        else:
            same = self.setting == self.usual and own in known
            best, search = known[own] if same else self.trainer(seed, self.setting, bf16), ""
        note = f"lr {self.setting['lr']:g}, {self.setting['epochs']} epochs, {'bf16' if bf16 else 'fp32'}{search}"
        return Answer(best.seconds, best.val, best.test, note)

    def scores(self, answer: Answer) -> np.ndarray:
        return np.array([said == true for said, true in zip(answer.test, self.truth, strict=True)], dtype=float)

    def pooled(self, variant: str) -> np.ndarray:
        return np.mean([self.scores(answer) for answer in self.found[variant].values()], axis=0)

    def each(self, variant: str, seed: int) -> list[str]:
        answer = self.found[variant][seed]
        test = self.scores(answer)
        val = "-" if answer.val is None else f"{answer.val:.4f}"
        return [
            self.name,
            str(seed),
            variant,
            f"{test.mean():.4f}",
            _interval(test),
            val,
            f"{answer.seconds:.1f}",
            answer.note,
        ]

    def row(self, variant: str) -> list[str]:
        by_seed, test = self.found[variant], self.pooled(variant)
        said = [f"{self.scores(answer).mean():.4f}" for answer in by_seed.values()]
        seconds = [f"{answer.seconds:.0f}" for answer in by_seed.values()]
        usual = USUAL if USUAL in self.found else BF16
        over = [self.over(variant, other) for other in (usual, BEST)]
        times = [self.times(variant, other) for other in (usual, BEST)]
        return [
            self.name,
            variant,
            f"{test.mean():.4f}",
            _interval(test),
            " ".join(said),
            *over,
            " ".join(seconds),
            *times,
        ]

    def over(self, variant: str, other: str) -> str:
        if other not in self.found or variant == other:
            return "-"
        found = paired(self.pooled(variant), self.pooled(other))
        return f"{found.difference:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"

    def times(self, variant: str, other: str) -> str:
        """The median over the seeds of the other's seconds / this one's."""
        if other not in self.found or variant == other:
            return "-"
        ours, theirs = self.found[variant], self.found[other]
        return f"{statistics.median(theirs[seed].seconds / ours[seed].seconds for seed in ours):.2f}"

    def reached(self, variant: str, other: str) -> list[str]:
        """Whether and when ours is as good as the other in its end."""
        there = self.pooled(variant).mean() >= self.pooled(other).mean()
        at: list[float] = []
        for seed, answer in self.found[variant].items():
            aim = self.found[other][seed].val or 1.0
            at.append(next((seconds for seconds, val in answer.curve if val >= aim), float("inf")))
        middle = statistics.median(at)
        ratio = statistics.median(
            self.found[other][seed].seconds / one for seed, one in zip(self.found[variant], at, strict=True)
        )
        told = ["-", "-"] if middle == float("inf") else [f"{middle:.1f}", f"{ratio:.2f}"]
        return [self.name, variant, other, "reached" if there else "not reached", self.times(variant, other), *told]


def _interval(scores: np.ndarray) -> str:
    low, high = wilson(float(scores.mean()), len(scores))
    return f"{low:.4f} - {high:.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+")
    parser.add_argument("--seeds", type=positive, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument(
        "--only",
        default="",
        help=f"variants by name or by how they begin, separated by semicolons: {'; '.join(VARIANTS)}",
    )
    parser.add_argument("--limit", type=int, default=0, help="rows of each split, to try the script")
    parser.add_argument(
        "--train", type=int, default=0, help="rows of train alone, where the Trainer would take too long"
    )
    parser.add_argument("--threads", type=int, default=int(os.environ.get("OMP_NUM_THREADS") or cores()))
    parser.add_argument("--model", default="", help="default: bge-small, or e5-small where texts are not English")
    parser.add_argument("--lr", type=float, default=SETTING["lr"], help="of the usual Trainer, to see another rate")
    parser.add_argument("--keep", default="", help="a folder where answers are kept, and taken up from when run again")
    given = parser.parse_args()
    set_threads(given.threads)
    names = at_hand(meant(given.only, VARIANTS), "Trainer", "accelerate")
    if not linear.available(torch.bfloat16):
        print(f"left out: {BF16}, since this processor has no bf16")
        names = [name for name in names if name != BF16]
    print(machine())
    for data in folders(given.data):
        with tempfile.TemporaryDirectory() as place:
            bench = Bench(data, given, Path(place))
            for seed in range(given.first_seed, given.first_seed + given.seeds):
                for name in names:
                    answer = bench.one(name, seed)
                    bench.found.setdefault(name, {})[seed] = answer
                    begin = seed == given.first_seed and name == names[0]
                    show(f"{data.name}, as they come", EACH, [bench.each(name, seed)], begin=begin)
            show(f"{data.name}, {given.seeds} seeds", POOLED, [bench.row(name) for name in names])
            pairs = [(ours, other) for other in (USUAL, BF16, BEST) if other in names for ours in OURS if ours in names]
            if pairs:
                show("time to the Trainer's final accuracy", REACHED, [bench.reached(*pair) for pair in pairs])
    print()


if __name__ == "__main__":
    command(main)
