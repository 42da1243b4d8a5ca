"""Measures the bare step of a text encoder on one core: tokens a second of processor time, padding not counted.

    python benchmarks/bare_text_step.py [--rounds 5] [--layers 6] [--only "32 x 14"]

Ways of doing the same work, each in a process of its own (what an allocator was told cannot be untold), take turns;
the median of the rounds counts. The encoder has the shape of MiniLM (6 layers) or bge-small (12), random weights and
dropout 0.1; AdamW, fused, updates every parameter; `clip_grad_norm_` before it. "words trimmed" trains the rows of the
embedding that occur in 4,000 texts. A batch of each case is one of eight, so that sizes vary as they do in a run.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from contextlib import ExitStack
from multiprocessing.connection import Connection

import torch
from common import command, machine, positive, show
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from acclimate.core.device import keep_memory
from acclimate.core.errors import fail, near
from acclimate.engine import linear
from acclimate.engine.attention import attending
from acclimate.models.language import cut
from acclimate.models.swap import swapped
from acclimate.models.texts import Texts

VOCABULARY, USED = 30522, 4000
WAYS = (
    "fp32 as it comes",
    "bf16 as it comes",
    "fp32 ours",
    "bf16 ours",
    "fp32 ours, words trimmed",
    "bf16 ours, words trimmed",
)
RUNS = ("forward", "forward and backward", "step")
CASES = {
    "32 x 14, no padding": (32, 14, 0),
    "32 x 14 +- 5": (32, 14, 5),
    "32 x 32, no padding": (32, 32, 0),
    "64 x 64 +- 20": (64, 64, 20),
}
Batch = dict[str, Tensor]


def batches(size: int, mean: int, spread: int) -> list[Batch]:
    """Eight batches; each is as long as its longest text."""
    generator = torch.Generator().manual_seed(0)
    made = []
    for _ in range(8):
        lengths = (torch.randn(size, generator=generator) * spread + mean).round().long().clamp(4, 128)
        mask = (torch.arange(int(lengths.max())) < lengths[:, None]).long()
        ids = torch.randint(1, USED, mask.shape, generator=generator) * mask
        made.append({"input_ids": ids, "attention_mask": mask})
    return made


class Work:
    """One way of doing the work of one case."""

    def __init__(self, way: str, case: str, layers: int) -> None:
        torch.manual_seed(0)
        sizes = {"hidden_size": 384, "num_attention_heads": 12, "intermediate_size": 1536, "num_hidden_layers": layers}
        self.net = BertModel(BertConfig(vocab_size=VOCABULARY, **sizes), add_pooling_layer=False)
        self.batches = batches(*CASES[case])
        self.kind = torch.bfloat16 if "bf16" in way else torch.float32
        self.swap = linear.forwards(self.net, self.kind) if "ours" in way else {}
        self.forever = ExitStack()
        if "trimmed" in way:
            backbone = cut(self.net, Texts(128, 128, VOCABULARY).example(3))
            self.forever.enter_context(backbone.trimmed(torch.arange(USED)))
        self.optimizer = torch.optim.AdamW(self.net.parameters(), lr=1e-6, fused=True)

    def way(self) -> ExitStack:
        stack = ExitStack()
        if self.swap:
            stack.enter_context(swapped(self.swap))
            stack.enter_context(attending(self.net, self.kind))
        stack.enter_context(torch.autocast("cpu", torch.bfloat16, enabled=self.kind == torch.bfloat16))
        return stack

    def run(self, what: str) -> None:
        self.net.train(what != "forward")
        for batch in self.batches:
            with torch.inference_mode(what == "forward"), self.way():
                loss = self.net(**batch).last_hidden_state[:, 0].float().square().mean()
            if what != "forward":
                loss.backward()
            if what == "step":
                nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
                self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)


def work(way: str, layers: int, pipe: Connection) -> None:
    """Answer questions: a case prepares it, a run is timed, in seconds a token."""
    torch.set_num_threads(1)
    if "ours" in way:
        keep_memory()
    one: Work | None = None
    while (asked := pipe.recv()) is not None:
        if asked in CASES:
            if one is not None:
                one.forever.close()
            one = Work(way, asked, layers)
            pipe.send(None)
        else:
            assert one is not None
            began = time.thread_time()
            one.run(asked)
            pipe.send((time.thread_time() - began) / sum(int(batch["attention_mask"].sum()) for batch in one.batches))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=positive, default=5)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--only", default="", help="words that the case must have")
    arguments = parser.parse_args()
    cases = [case for case in CASES if arguments.only in case]
    if not cases:
        raise fail(f"--only {arguments.only!r}", "is in none of the cases", near(arguments.only, CASES))
    context = multiprocessing.get_context("spawn")
    pipes = {}
    for way in WAYS:
        pipes[way], theirs = context.Pipe()
        context.Process(target=work, args=(way, arguments.layers, theirs), daemon=True).start()
        theirs.close()

    def ask(way: str, what: str) -> float:
        pipes[way].send(what)
        return pipes[way].recv()

    torch.set_num_threads(1)
    print(machine())
    for case in cases:
        for way in WAYS:
            ask(way, case)
        for what in RUNS:
            for way in WAYS:
                ask(way, what)  # warm up
            taken = [{way: ask(way, what) for way in WAYS} for _ in range(arguments.rounds)]
            cells = []
            for way in WAYS:
                base = WAYS["bf16" in way]
                gain = statistics.median(one[base] / one[way] for one in taken)
                cells.append(f"{1 / statistics.median(one[way] for one in taken):,.0f} ({gain:.2f})")
            first = (case, what) == (cases[0], RUNS[0])
            title = "tokens a second (times the same arithmetic as it comes)"
            show(title, ["case", "run", *WAYS], [[case, what, *cells]], begin=first)
    for pipe in pipes.values():
        pipe.send(None)


if __name__ == "__main__":
    command(main)
