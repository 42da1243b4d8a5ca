"""Samples a second of full fine-tuning of a BERT on an accelerator: our engine, the Trainer of transformers, and the bare compiled step.

    python benchmarks/gpu_text_step.py [--batch 32] [--mean 48] [--spread 24] [--steps 20] [--rounds 5] [--only Trainer] [--limit 4096]

The shape of BERT-base, random weights, made-up texts of words drawn at random, whose lengths spread as said; no data are needed. All
train in bf16 by autocast, with fused AdamW and the gradient clipped at 1, and take turns in one process. The Trainer gets
bf16=True, torch_compile=True and batches grouped by length, and beside it without the last two; the bare compiled step runs over our
batches, which lie on the device already, with dynamic sizes. Padding is counted, and samples and real tokens a second are given, since
batches differ in what they hold. The first turns, in which kernels are compiled, are left out (`--warm-up`).

Without an accelerator it says so and ends; `--device cpu --small` tries the script.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import torch
from common import at_hand, command, machine, meant, positive, show
from text_sides import READS, sequence_classifier, usual
from torch import nn
from transformers import logging

from acclimate.core.device import set_threads
from acclimate.core.recipe import Options
from acclimate.engine.batches import Batches
from acclimate.engine.loop import State, train
from acclimate.engine.optim import build, trained_parameters
from acclimate.engine.phase import Phase
from acclimate.engine.precision import Precision
from acclimate.engine.watcher import Watcher
from acclimate.models.frozen import freeze
from acclimate.objectives.supervised import Supervised
from acclimate.verbs.job import Job, prepare

CLASSES, SPECIAL = 8, ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
Turn = tuple[float, int, int, int]
"""Seconds, samples, real tokens, tokens with padding."""
HEADER = ["side", "samples/s", "real tokens/s", "padding", "samples/s, ours / this, median of rounds"]


def write_model(place: Path, small: bool) -> Path:
    """A folder as the hub has it: a BERT with random weights, a tokenizer of made-up words."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    config = BertConfig(hidden_size=128, num_hidden_layers=2, num_attention_heads=2) if small else BertConfig()
    BertModel(config, add_pooling_layer=False).save_pretrained(place)
    words = {word: i for i, word in enumerate((*SPECIAL, *(f"w{i}" for i in range(config.vocab_size - len(SPECIAL)))))}
    made = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [("[CLS]", words["[CLS]"]), ("[SEP]", words["[SEP]"])]
    made.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", "[CLS] $A [SEP] $B [SEP]", special_tokens=ends
    )
    names = {f"{name[1:-1].lower()}_token": name for name in SPECIAL}
    PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=READS, **names).save_pretrained(place)
    return place


def write_texts(place: Path, count: int, mean: float, spread: float, seed: int) -> list[dict[str, str]]:
    draw = random.Random(seed)
    rows = []
    for i in range(count):
        length = max(4, min(READS - 2, round(draw.gauss(mean, spread))))
        text = " ".join(f"w{draw.randrange(20000)}" for _ in range(length))
        rows.append({"text": text, "label": f"class {i % CLASSES}"})
    place.mkdir()
    for name, part in (("train", rows), ("val", rows[: 8 * CLASSES])):
        (place / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    return rows


class Sides:
    """Each side as an iterator of turns."""

    def __init__(
        self, job: Job, rows: list[dict[str, str]], folder: Path, place: Path, given: argparse.Namespace, seed: int
    ):
        self.job, self.rows, self.folder, self.place, self.given, self.seed = job, rows, folder, place, given, seed
        stages = (*job.stages, "head")
        rates = (1e-5,) * len(stages)
        self.phase = Phase("all", "", stages, rates, epochs=10**4, batch_size=given.batch, augment="none", seed=seed)
        self.precision = Precision.measure(job.net, job.example(), job.device, asked="bf16")

    def wait(self) -> float:
        if torch.accelerator.is_available():
            torch.accelerator.synchronize()
        return time.perf_counter()

    def stream(self) -> Batches:
        return Batches(self.job.task, self.job.dataset, self.job.rows("train"), self.phase, [])

    def counted(self, stream: Batches, first: int) -> tuple[int, int, int]:
        """(samples, real tokens, tokens with padding) of a turn."""
        lengths = [self.job.dataset.costs[stream.rows_of(first + i)] for i in range(self.given.steps)]
        padded = sum(len(one) * int(one.max()) for one in lengths)
        return sum(map(len, lengths)), sum(int(one.sum()) for one in lengths), padded

    def ours(self) -> Generator[Turn, None, None]:
        job, phase, stream = self.job, self.phase, self.stream()
        freeze(job.net.backbone, set(job.stages), norms=True)
        job.net.train()
        used = job.dataset.inputs.ids(job.dataset.sample(int(row)) for row in job.rows("train"))
        with job.net.backbone.trimmed(used):
            state = State(job.net, trained_parameters(job.net, phase), build(job.net, phase), None)
            running = train(phase, state, [self.stream()], Supervised(job.task), self.precision, job.device)
            while True:
                counts = self.counted(stream, state.step)
                began = self.wait()
                for _ in range(self.given.steps):
                    next(running)
                yield self.wait() - began, *counts

    def bare(self) -> Generator[Turn, None, None]:
        """The same batches, on the device already; nothing is scheduled, watched or reported."""
        torch.manual_seed(self.seed)
        model, _, _ = sequence_classifier(str(self.folder), CLASSES)
        model = model.to(self.job.device).train()
        compiled = torch.compile(model, dynamic=True)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=0.01, fused=True)
        dataset, stream = self.job.dataset, self.stream()
        step = 0
        while True:
            picked = [stream.rows_of(step + i) for i in range(self.given.steps)]
            counts = self.counted(stream, step)
            step += self.given.steps
            batches = [
                {name: leaf.to(self.job.device) for name, leaf in dataset.batch(rows).items()}
                | {"labels": self.job.task.targets(dataset.targets[rows]).to(self.job.device)}
                for rows in picked
            ]
            began = self.wait()
            for batch in batches:
                with torch.autocast(self.job.device.type, torch.bfloat16):
                    loss = compiled(**batch).loss
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            yield self.wait() - began, *counts

    def trainer(self, compiled: bool, grouped: bool) -> Generator[Turn, None, None]:
        """Runs in a thread of its own, which stands still between the turns."""
        asked: queue.Queue[bool] = queue.Queue()
        answers: queue.Queue[Turn | BaseException] = queue.Queue()

        def work() -> None:
            try:
                self._train(asked, answers, compiled, grouped)
            except BaseException as error:
                answers.put(error)

        thread = threading.Thread(target=work, daemon=True)
        try:
            while True:
                asked.put(True)
                if not thread.is_alive():
                    thread.start()
                answer = answers.get()
                if isinstance(answer, BaseException):
                    raise answer
                yield answer
        finally:
            asked.put(False)
            thread.join(60)

    def _train(self, asked: queue.Queue[bool], answers: queue.Queue[Any], compiled: bool, grouped: bool) -> None:
        from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

        model, tokenizer, collator = sequence_classifier(str(self.folder), CLASSES)
        classes = sorted({row["label"] for row in self.rows})
        made = tokenizer([row["text"] for row in self.rows], truncation=True, max_length=READS)
        data = [
            {**{name: made[name][i] for name in made}, "labels": classes.index(row["label"])}
            for i, row in enumerate(self.rows)
        ]
        tokens: list[tuple[int, int, int]] = []
        steps, wait = self.given.steps, self.wait

        def counted(samples: list[Any]) -> Any:
            batch = collator(samples)
            tokens.append((len(samples), int(batch["attention_mask"].sum()), batch["attention_mask"].numel()))
            return batch

        class Turns(TrainerCallback):
            began = 0.0

            def on_train_begin(self, *_: Any, **__: Any) -> None:
                asked.get()
                self.began = wait()

            def on_step_end(self, arguments: Any, state: Any, control: Any, **_: Any) -> None:
                if state.global_step % steps:
                    return
                turn = tokens[state.global_step - steps : state.global_step]
                answers.put((wait() - self.began, *map(sum, zip(*turn, strict=True))))
                control.should_training_stop = not asked.get()
                self.began = wait()

        arguments = TrainingArguments(
            output_dir=str(self.place / "trainer"),
            learning_rate=1e-5,
            max_steps=10**6,
            per_device_train_batch_size=self.given.batch,
            bf16=True,
            torch_compile=compiled,
            train_sampling_strategy="group_by_length" if grouped else "random",
            seed=self.seed,
            **{**usual(), "use_cpu": self.job.device.type == "cpu"},
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


SIDES: dict[str, Callable[[Sides], Generator[Turn, None, None]]] = {
    "ours": Sides.ours,
    "bare, compiled": Sides.bare,
    "Trainer, compiled, grouped": lambda sides: sides.trainer(True, True),
    "Trainer": lambda sides: sides.trainer(False, False),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="two narrow layers, to try the script")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--mean", type=float, default=48.0, help="tokens of a text")
    parser.add_argument("--spread", type=float, default=24.0)
    parser.add_argument("--limit", type=int, default=4096, help="texts")
    parser.add_argument("--steps", type=positive, default=20, help="in a turn")
    parser.add_argument("--rounds", type=positive, default=5)
    parser.add_argument("--warm-up", type=int, default=3, help="turns left out")
    parser.add_argument("--seeds", type=positive, default=1)
    parser.add_argument(
        "--only", default="", help=f"beside ours, sides by how they begin, separated by semicolons: {'; '.join(SIDES)}"
    )
    given = parser.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        print("skipped: there is no GPU here, or torch was built without one")
        return
    set_threads()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    print(machine())
    wanted = {"ours", *meant(given.only, SIDES)}
    names = at_hand([name for name in SIDES if name in wanted], "Trainer", "accelerate")
    for seed in range(given.seeds):
        with tempfile.TemporaryDirectory() as home:
            place = Path(home)
            os.environ["ACCLIMATE_CACHE"] = str(place / "cache")
            torch.manual_seed(seed)
            folder = write_model(place / "model", given.small)
            rows = write_texts(place / "data", given.limit, given.mean, given.spread, seed)
            asked = {"model": str(folder), "strategy": "full", "device": given.device, "seed": seed}
            job = prepare(place / "data", Options.check(asked), Watcher())
            sides = Sides(job, rows, folder, place, given, seed)
            print(f"\n{sides.precision.why}")
            turns = {name: SIDES[name](sides) for name in names}
            found: dict[str, list[Turn]] = {name: [] for name in names}
            for number in range(given.warm_up + given.rounds):
                for name, side in turns.items():
                    turn = next(side)
                    found[name] += [turn] if number >= given.warm_up else []
            for side in turns.values():
                side.close()
            show(f"batch {given.batch}, {given.mean:g} +- {given.spread:g} tokens, seed {seed}", HEADER, table(found))
    print()


def table(found: dict[str, list[Turn]]) -> list[list[str]]:
    made = []
    for name, turns in found.items():
        speed = statistics.median(samples / seconds for seconds, samples, _, _ in turns)
        tokens = statistics.median(real / seconds for seconds, _, real, _ in turns)
        waste = 1 - sum(turn[2] for turn in turns) / sum(turn[3] for turn in turns)
        pairs = zip(found["ours"], turns, strict=True)
        gain = statistics.median((a[1] / a[0]) / (b[1] / b[0]) for a, b in pairs)
        made.append([name, f"{speed:,.0f}", f"{tokens:,.0f}", f"{waste:.1%}", f"{gain:.2f}"])
    return made


if __name__ == "__main__":
    command(main)
