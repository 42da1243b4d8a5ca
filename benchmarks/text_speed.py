"""Tokens a second on texts: our cached feature pass beside the bare model, and training all layers beside the Trainer of transformers.

    python benchmarks/text_speed.py BANKING77 [TREC ...] [--limit 1024] [--model bge-small] [--only pass|training] [--rounds 5] [--steps 10]

DATA: a folder of tables named train, val and test (text_gain.py says where the public can get some). Real tokens are counted, padding
is not. Every side is a process of its own, since an allocator that was told to keep memory cannot be untold it; the sides take
turns. All have the same number of threads.

Pass: ours brings all training texts to the features, from an empty store, which it writes. The bare model is AutoModel with sdpa,
inference mode, in fp32 and in bf16 by autocast (what ours chose is said above the table), the texts sorted by length, all texts of a
batch equally long, so that nothing is padded; its last states are kept. Neither counts the tokenizer.

Training: full fine-tuning, dropout as it comes, fused AdamW, gradient clipped at 1. Ours is the loop of a fit, in the arithmetic that
it chose, and in each that can be asked for; the Trainer runs in fp32 and, where the processor has it, in bf16, with batches padded to
their longest text, at random or ("grouped") drawn by length. The first steps are left out. `--seeds 2` repeats with other batches.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from common import at_hand, command, folders, machine, positive, show
from text_sides import (
    READS,
    default_model,
    fresh_cache,
    read_files,
    read_splits,
    sequence_classifier,
    usual,
    weights,
    write_splits,
)

from acclimate.core.device import cores, keep_memory, set_threads
from acclimate.core.recipe import Options
from acclimate.engine import linear
from acclimate.engine.activations import Pass
from acclimate.engine.batches import Batches
from acclimate.engine.dataset import CHUNK
from acclimate.engine.loop import State, train
from acclimate.engine.optim import build, trained_parameters
from acclimate.engine.phase import Phase
from acclimate.engine.precision import Precision
from acclimate.engine.store import Store
from acclimate.engine.watcher import Watcher
from acclimate.models.frozen import freeze
from acclimate.objectives.supervised import Supervised
from acclimate.verbs.job import Job, prepare

Turn = tuple[float, int, int]
"""Seconds, real tokens, tokens with padding."""
Side = Iterator[Turn]
"""One turn each time it is asked; the first answer, before any turn, is in `told`."""


def training_rows(given: SimpleNamespace) -> list[dict[str, str]]:
    return read_files(Path(given.data))["train"]


# --- the pass


def job_of(given: SimpleNamespace) -> Job:
    keep_memory()
    return prepare(given.data, Options.check({"model": given.model, "seed": given.seed}), Watcher())


def our_pass(given: SimpleNamespace) -> Side:
    job = job_of(given)
    precision = Precision.measure(job.net, job.example(), job.device)
    print(f"\npass: {precision.why}", flush=True)
    rows, place = job.rows("train"), Path(given.place) / "store"
    lengths = job.dataset.costs[rows]
    padded = sum(len(part) * int(lengths[part].max()) for part in job.dataset.chunks(rows))
    while True:
        shutil.rmtree(place, ignore_errors=True)
        began = time.perf_counter()
        Pass(job.net.backbone, job.dataset, Store(place), precision, job.device).bring(rows, len(job.stages))
        yield time.perf_counter() - began, int(lengths.sum()), padded


def bare_pass(given: SimpleNamespace, bf16: bool) -> Side:
    from transformers import AutoModel, AutoTokenizer, logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    model = AutoModel.from_pretrained(
        given.weights, attn_implementation="sdpa", dtype="float32", local_files_only=True, add_pooling_layer=False
    ).eval()
    tokenizer = AutoTokenizer.from_pretrained(given.weights, local_files_only=True)
    texts = [given.prefix + row["text"] for row in training_rows(given)]
    by_length = defaultdict(list)
    for ids in tokenizer(texts, truncation=True, max_length=READS)["input_ids"]:
        by_length[len(ids)].append(ids)
    batches = [
        torch.tensor(by_length[n][i : i + CHUNK]) for n in sorted(by_length) for i in range(0, len(by_length[n]), CHUNK)
    ]
    real = sum(map(torch.Tensor.numel, batches))
    while True:
        began = time.perf_counter()
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            kept = [model(ids, attention_mask=torch.ones_like(ids)).last_hidden_state for ids in batches]
        yield time.perf_counter() - began, real, sum(one.shape[0] * one.shape[1] for one in kept)


# --- training


def our_training(given: SimpleNamespace, asked: str = "auto") -> Side:
    job = job_of(given)
    precision = Precision.measure(job.net, job.example(), job.device, asked=asked)
    if asked == "auto":
        print(f"\ntraining: {precision.why}", flush=True)
    rows = job.rows("train")
    stages = (*job.stages, "head")
    phase = Phase(
        "all", "", stages, (1e-5,) * len(stages), epochs=10**6, batch_size=given.batch, augment="none", seed=given.seed
    )
    freeze(job.net.backbone, set(job.stages), norms=True)
    job.net.train()
    stream = Batches(job.task, job.dataset, rows, phase, [])
    counted = Batches(job.task, job.dataset, rows, phase, [])
    with ExitStack() as stack:
        stack.enter_context(
            job.net.backbone.trimmed(job.dataset.inputs.ids(job.dataset.sample(int(row)) for row in rows))
        )
        state = State(job.net, trained_parameters(job.net, phase), build(job.net, phase), None)
        running = train(phase, state, [stream], Supervised(job.task), precision, job.device)
        while True:
            lengths = [job.dataset.costs[counted.rows_of(state.step + i)] for i in range(given.steps)]
            began = time.perf_counter()
            for _ in range(given.steps):
                next(running)
            seconds = time.perf_counter() - began
            yield seconds, sum(int(one.sum()) for one in lengths), sum(len(one) * int(one.max()) for one in lengths)


def trainer(given: SimpleNamespace, pipe: Connection, bf16: bool, grouped: bool) -> None:
    """The Trainer, which stops after every turn until it is asked for the next."""
    from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments, logging, set_seed

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    set_seed(given.seed)
    rows = training_rows(given)
    classes = sorted({row["label"] for row in rows})
    model, tokenizer, collator = sequence_classifier(given.weights, len(classes))
    made = tokenizer([given.prefix + row["text"] for row in rows], truncation=True, max_length=READS)
    data = [
        {**{name: made[name][i] for name in made}, "labels": classes.index(row["label"])} for i, row in enumerate(rows)
    ]
    tokens: list[tuple[int, int]] = []
    """(real, padded) of each batch, in the order of the steps."""

    def counted(samples: list[Any]) -> Any:
        batch = collator(samples)
        tokens.append((int(batch["attention_mask"].sum()), batch["attention_mask"].numel()))
        return batch

    class Turns(TrainerCallback):
        began = 0.0

        def on_step_end(self, arguments: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step % given.steps:
                return
            seconds = time.perf_counter() - self.began
            if state.global_step > given.steps:  # the first turn is warming up
                real, padded = map(sum, zip(*tokens[state.global_step - given.steps : state.global_step], strict=True))
                pipe.send((seconds, real, padded))
            if pipe.recv() is None:
                control.should_training_stop = True
            self.began = time.perf_counter()

    arguments = TrainingArguments(
        output_dir=given.place,
        learning_rate=1e-5,
        max_steps=10**6,
        per_device_train_batch_size=given.batch,
        bf16=bf16,
        seed=given.seed,
        train_sampling_strategy="group_by_length" if grouped else "random",
        **usual(),
    )
    running = Trainer(
        model=model,
        args=arguments,
        train_dataset=data,
        data_collator=counted,
        processing_class=tokenizer,
        callbacks=[Turns()],
    )
    running.remove_callback(PrinterCallback)
    running.train()


# --- turns


PASSES: dict[str, Callable[..., Side]] = {
    "ours": our_pass,
    "bare fp32": partial(bare_pass, bf16=False),
    "bare bf16": partial(bare_pass, bf16=True),
}
OURS: dict[str, Callable[..., Side]] = {
    "ours": our_training,
    "ours, asked for fp32": partial(our_training, asked="fp32"),
    "ours, asked for bf16": partial(our_training, asked="bf16"),
}
THEIRS: dict[str, tuple[bool, bool]] = {
    "Trainer fp32": (False, False),
    "Trainer bf16": (True, False),
    "Trainer fp32, grouped": (False, True),
    "Trainer bf16, grouped": (True, True),
}


def work(what: str, side: str, given: SimpleNamespace, pipe: Connection) -> None:
    os.environ["ACCLIMATE_CACHE"] = given.cache
    set_threads(given.threads)
    if side in THEIRS:
        trainer(given, pipe, *THEIRS[side])
        return
    turns = (PASSES if what == "pass" else OURS)[side](given)
    next(turns)  # warm up
    while pipe.recv() is not None:
        pipe.send(next(turns))


def measured(what: str, sides: list[str], given: SimpleNamespace, rounds: int) -> dict[str, list[Turn]]:
    context = multiprocessing.get_context("spawn")
    pipes, processes = {}, []
    for side in sides:
        pipes[side], theirs = context.Pipe()
        processes.append(context.Process(target=work, args=(what, side, own(given, side), theirs), daemon=True))
        processes[-1].start()
        theirs.close()
    found: dict[str, list[Turn]] = {side: [] for side in sides}
    for number in range(rounds + 1):
        for side in sides:
            pipes[side].send(True)
            answer = pipes[side].recv()
            found[side] += [answer] if number else []  # in the first round, others still start
    for pipe, process in zip(pipes.values(), processes, strict=True):
        pipe.send(None)
        process.join(5)
        process.terminate()
    return found


def own(given: SimpleNamespace, side: str) -> SimpleNamespace:
    """With a folder of its own to work in."""
    place = Path(given.place) / side.replace(" ", "-")
    place.mkdir(exist_ok=True)
    return SimpleNamespace(**{**vars(given), "place": str(place)})


def rows_of(data: str, found: dict[str, list[Turn]], base: list[str]) -> list[list[str]]:
    """One row a side: tokens a second, padding, and how many times the speed of each of the others ours has."""
    rate = {side: [real / seconds for seconds, real, _ in turns] for side, turns in found.items()}
    rows = []
    for side, turns in found.items():
        waste = 1 - sum(real for _, real, _ in turns) / sum(padded for _, _, padded in turns)
        gain = statistics.median(a / b for a, b in zip(rate["ours"], rate[side], strict=True))
        rows.append([data, *base, side, f"{statistics.median(rate[side]):,.0f}", f"{waste:.1%}", f"{gain:.2f}"])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+")
    parser.add_argument("--model", default="", help="default: bge-small, or e5-small where texts are not English")
    parser.add_argument("--only", default="", choices=("", "pass", "training"))
    parser.add_argument("--limit", type=int, default=2048, help="training texts")
    parser.add_argument("--seeds", type=positive, default=1)
    parser.add_argument("--rounds", type=positive, default=5)
    parser.add_argument("--steps", type=positive, default=10, help="of training, in a turn")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=int(os.environ.get("OMP_NUM_THREADS") or cores()))
    asked = parser.parse_args()
    set_threads(asked.threads)
    print(machine())
    header = ["data", "model", "batch", "seed", "side", "real tokens/s", "padding", "ours / this, median of rounds"]
    able = linear.available(torch.bfloat16)
    passes, trainings = ([name for name in names if "bf16" not in name or able] for names in (PASSES, OURS | THEIRS))
    trainings = at_hand(trainings, "Trainer", "accelerate")
    for data in folders(asked.data):
        splits = read_splits(data, asked.limit)
        model = asked.model or default_model(splits)
        for seed in range(asked.seeds):
            for what, sides in (("pass", passes), ("training", trainings)):
                if asked.only not in ("", what):
                    continue
                with tempfile.TemporaryDirectory() as place:
                    home = Path(place)
                    write_splits(home / "data", splits)
                    folder_of, prefix, _ = weights(model, home / "weights")
                    fresh_cache(home / "cache")
                    given = SimpleNamespace(
                        data=str(home / "data"),
                        place=place,
                        cache=str(home / "cache"),
                        weights=str(folder_of),
                        prefix=prefix,
                        model=model,
                        seed=seed,
                        steps=asked.steps,
                        batch=asked.batch,
                        threads=asked.threads,
                    )
                    found = measured(what, sides, given, asked.rounds)
                batch = CHUNK if what == "pass" else asked.batch
                show(f"{what}, {data.name}", header, rows_of(data.name, found, [model, str(batch), str(seed)]))
    print()


if __name__ == "__main__":
    command(main)
