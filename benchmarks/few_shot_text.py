"""Accuracy and time with few texts of each class, beside SetFit's own trainer, from the same weights, and TF-IDF.

    python benchmarks/few_shot_text.py BANKING77 TREC SST2 [--each 8] [--seeds 5] [--ours 'auto;contrastive'] [--only SetFit] [--limit 500]

Each DATA is a folder of tables named train and test (text_gain.py says where the public can get some). The seed draws the texts from
train; nobody sees more, so ours cuts its validation from them. The whole of test judges, once a seed. Every side is a whole process
(text_sides.py): its seconds count from the start of the process, imports and the answers on test included; ours begins with an empty
cache.

SetFit (`pip install setfit`): SetFitModel of a SentenceTransformer made of the folder's Transformer and the pooling that the model was
trained with, and a logistic regression; its defaults: 1 epoch over pairs by oversampling, batch 16, body rate 2e-5. SetFit 1.2.0 runs
with transformers 5.23 and sentence-transformers 6.2 as it is. Its pairs grow with the square of the texts: where there are many
classes an epoch takes hours on a processor, so `--most-steps N` (0: no limit) bounds its steps; the line above the table says whether
that ended it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from common import at_hand, command, folders, machine, meant, positive, show
from text_sides import Answer, default_model, few, read_splits, run, weights, write_splits

from acclimate.core.device import cores, set_threads
from acclimate.metrics.intervals import paired, wilson
from acclimate.strategies.strategy import find

SETFIT, TFIDF = "SetFit", "TF-IDF"
BATCH = 16
"""SetFit's default."""
EACH = ["data", "seed", "side", "test", "seconds", "note"]
POOLED = ["data", "side", "test", "95 %", "by seed", "over SetFit", "seconds", "SetFit's seconds / these"]


def steps(classes: int, each: int) -> int:
    """Of SetFit's epoch: all pairs of one class, and, by oversampling, as many of two, or the other way round."""
    texts = classes * each
    alike = classes * each * (each + 1) // 2  # a text beside itself counts
    return -(-2 * max(alike, texts * (texts + 1) // 2 - alike) // BATCH)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+")
    parser.add_argument("--each", type=positive, default=8, help="texts of a class")
    parser.add_argument("--seeds", type=positive, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--ours", default="auto", help="strategies of ours, separated by semicolons")
    parser.add_argument(
        "--only", default="", help=f"sides by how they begin, separated by semicolons: {TFIDF}; {SETFIT}; ours"
    )
    parser.add_argument("--limit", type=int, default=0, help="rows of test, to try the script")
    parser.add_argument("--most-steps", type=int, default=0, help="of SetFit")
    parser.add_argument("--threads", type=int, default=int(os.environ.get("OMP_NUM_THREADS") or cores()))
    parser.add_argument("--model", default="", help="default: bge-small, or e5-small where texts are not English")
    parser.add_argument("--keep", default="", help="a folder where answers are kept, and taken up from when run again")
    given = parser.parse_args()
    set_threads(given.threads)
    sides = {TFIDF: "", SETFIT: "", **{f"ours, {name.strip()}": name.strip() for name in given.ours.split(";")}}
    for name in filter(None, sides.values()):
        find(name)
    names = at_hand(meant(given.only, sides), SETFIT, "setfit")
    print(machine())
    for data in folders(given.data):
        splits = read_splits(data, 0)
        model = given.model or default_model(splits)
        test = splits["test"]
        if given.limit:
            test = test[:: max(1, len(test) // given.limit)][: given.limit]
        truth = [row["label"] for row in test]
        classes = len({row["label"] for row in splits["train"]})
        epoch = steps(classes, given.each)
        cut = f", cut at {given.most_steps:,}" if 0 < given.most_steps < epoch else ""
        print(
            f"\n{data.name}: {classes} classes, {given.each} texts of each, {len(test):,} test; {model}; "
            f"SetFit's epoch has {epoch:,} steps{cut}",
            flush=True,
        )
        found: dict[str, list[Answer]] = {name: [] for name in names}
        scores: dict[str, list[np.ndarray]] = {name: [] for name in names}
        with tempfile.TemporaryDirectory() as home:
            place = Path(home)
            body = dict(zip(("weights", "prefix", "pooling"), weights(model, place / "weights"), strict=True))
            for seed in range(given.first_seed, given.first_seed + given.seeds):
                rows = {"train": few(splits["train"], given.each, seed), "test": test}
                shared = write_splits(place / f"data-{seed}", rows)
                asked = asks(sides, model, seed, body, given.most_steps if given.most_steps < epoch else 0)
                for name in names:
                    work = place / "work"
                    work.mkdir()
                    side, own = asked[name]
                    answer = run(side, work, given.threads, given.keep, data=shared, **own)
                    shutil.rmtree(work)
                    found[name].append(answer)
                    scores[name].append(
                        np.array([a == b for a, b in zip(answer.test, truth, strict=True)], dtype=float)
                    )
                    row = [
                        data.name,
                        seed,
                        name,
                        f"{scores[name][-1].mean():.4f}",
                        f"{answer.seconds:.1f}",
                        answer.note,
                    ]
                    show(f"{data.name}, as they come", EACH, [row], begin=seed == given.first_seed and name == names[0])
        show(f"{data.name}, {given.seeds} seeds", POOLED, [pooled(data.name, name, found, scores) for name in names])
    print()


def asks(
    sides: dict[str, str], model: str, seed: int, folder: dict[str, Any], most_steps: int
) -> dict[str, tuple[str, dict[str, Any]]]:
    """Of each side its kind and what it is asked. `folder`: what SetFit's body is made of."""
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for name, strategy in sides.items():
        if name == TFIDF:
            found[name] = ("tfidf", {})
        elif name == SETFIT:
            found[name] = (
                "setfit",
                {"seed": seed, "options": {"max_steps": most_steps} if most_steps else {}, **folder},
            )
        else:
            found[name] = ("ours", {"options": {"model": model, "seed": seed, "strategy": strategy}})
    return found


def pooled(data: str, name: str, found: dict[str, list[Answer]], scores: dict[str, list[np.ndarray]]) -> list[Any]:
    """By sample: the mean over the seeds of each test sample's score. The interval holds for these draws of the texts."""
    mine = np.mean(scores[name], axis=0)
    low, high = wilson(float(mine.mean()), len(mine))
    over, times = "-", "-"
    if scores.get(SETFIT) and name != SETFIT:
        difference = paired(mine, np.mean(scores[SETFIT], axis=0))
        over = f"{difference.difference:+.4f} [{difference.low:+.4f}, {difference.high:+.4f}]"
        times = f"{np.median([a.seconds / b.seconds for a, b in zip(found[SETFIT], found[name], strict=True)]):.2f}"
    by_seed = " ".join(f"{each.mean():.4f}" for each in scores[name])
    seconds = " ".join(f"{answer.seconds:.0f}" for answer in found[name])
    return [data, name, f"{mine.mean():.4f}", f"{low:.4f} - {high:.4f}", by_seed, over, seconds, times]


if __name__ == "__main__":
    command(main)
