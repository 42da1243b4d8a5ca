"""Measures the bare step on one core: milliseconds of processor time an image, forward and whole step.

    python benchmarks/bare_step.py [--batch 32] [--rounds 7] [--only lite0]

Five ways of doing the same work, each in a process of its own (what an allocator was told cannot be untold), take
turns; the least of the rounds counts. Tensors are in memory; batch norm is frozen; AdamW, fused, updates every
parameter. Weights are random: the arithmetic does not look at them.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Callable
from contextlib import nullcontext
from multiprocessing.connection import Connection

import timm
import torch
import torchvision
from torch import nn

from acclimate.core.device import keep_memory, machine_key
from acclimate.engine.precision import Precision

WAYS = (
    "fp32 as it comes",
    "fp32, memory kept",
    "fp32, memory kept, channels last",
    "bf16 autocast, memory kept, channels last",
    "measured choice",
)
CASES = {
    "lite0, all layers, 160 px": ("lite0", 0, 160),
    "lite0, all layers, 192 px": ("lite0", 0, 192),
    "lite0, all layers, 224 px": ("lite0", 0, 224),
    "lite0, from blocks.5, 160 px": ("lite0", 5, 160),
    "lite0, from blocks.5, 192 px": ("lite0", 5, 192),
    "lite0, from blocks.5, 224 px": ("lite0", 5, 224),
    "resnet50, all layers, 224 px": ("resnet50", 0, 224),
}


def build(name: str, first: int, size: int, batch: int) -> tuple[nn.Module, torch.Tensor]:
    """A net in eval mode, cut before block `first`, and what flows in there."""
    torch.manual_seed(0)
    if name == "resnet50":
        return torchvision.models.resnet50(num_classes=10).eval(), torch.randn(batch // 2, 3, size, size)
    net = timm.create_model("tf_efficientnet_lite0", num_classes=10).eval()
    if not first:
        return net, torch.randn(batch, 3, size, size)
    tail = nn.Sequential(*net.blocks[first:], net.conv_head, net.bn2, net.global_pool, net.classifier)
    return tail, torch.randn(batch, 112, size // 16, size // 16).clamp(-3, 3).bfloat16().float()


def prepare(way: str, case: tuple[str, int, int], batch: int) -> tuple[dict[str, Callable[[], object]], int, str]:
    """(forward and step, images, a word on the choice)."""
    net, x = build(*case, batch)
    choice = Precision.measure(net, x, remember=False) if way == "measured choice" else Precision()
    if "channels last" in way:
        net, x = net.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
    x = choice.move(x)
    labels = torch.arange(len(x)) % 10
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-5, fused=True)
    autocast = torch.autocast("cpu", torch.bfloat16)

    def forward() -> None:
        with torch.inference_mode(), choice.inference(net), autocast if "autocast" in way else nullcontext():
            net(x)

    def step() -> None:
        with choice.training(net), autocast if "autocast" in way else nullcontext():
            loss = nn.functional.cross_entropy(net(x).float(), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return {"forward": forward, "step": step}, len(x), choice.why


def work(way: str, batch: int, pipe: Connection) -> None:
    """Answer questions: a case prepares it, "forward" and "step" are timed, in milliseconds an image."""
    torch.set_num_threads(1)
    if way != WAYS[0]:
        keep_memory()
    runs: dict[str, Callable[[], object]] = {}
    images = 1
    while (asked := pipe.recv()) is not None:
        if asked in CASES:
            runs.clear()
            began = time.perf_counter()
            runs, images, why = prepare(way, CASES[asked], batch)
            pipe.send(f"{time.perf_counter() - began:.1f} s to choose; {why}" if why else "")
        else:
            began = time.process_time()
            runs[asked]()
            pipe.send((time.process_time() - began) / images * 1e3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=32, help="images in a batch; half as many for resnet50")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", default="", help="a word that the case must have")
    arguments = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    pipes = {}
    for way in WAYS:
        pipes[way], theirs = context.Pipe()
        context.Process(target=work, args=(way, arguments.batch, theirs), daemon=True).start()
        theirs.close()

    def ask(way: str, what: str) -> object:
        pipes[way].send(what)
        return pipes[way].recv()

    torch.set_num_threads(1)
    print(machine_key())
    print("milliseconds of processor time an image: forward / forward, backward and update\n")
    print(f"| | {' | '.join(WAYS)} |\n|{' --- |' * (len(WAYS) + 1)}")
    for case in (case for case in CASES if arguments.only in case):
        notes = [ask(way, case) for way in WAYS]
        cells = []
        least = {(way, run): float("inf") for way in WAYS for run in ("forward", "step")}
        for _ in range(arguments.rounds):
            for way, run in least:
                least[way, run] = min(least[way, run], float(ask(way, run)))  # type: ignore[arg-type]
        cells = [f"{least[way, 'forward']:.2f} / {least[way, 'step']:.2f}" for way in WAYS]
        print(f"| {case} | {' | '.join(cells)} |  <!-- {notes[-1]} -->", flush=True)
    for pipe in pipes.values():
        pipe.send(None)


if __name__ == "__main__":
    main()
