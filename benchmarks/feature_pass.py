"""Images a second of the cached feature pass, beside the same network run eagerly and the machine's measured matmul peak.

    python benchmarks/feature_pass.py PICTURES [--models efficientnet_lite0,random:torchvision:resnet50] [--images 512]

PICTURES: any image folder (the Flowers Recognition set, say). Decoding is timed apart and together. The sides take turns.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import torch
from common import command, folders, machine, show, side_by_side
from torch.utils.flop_counter import FlopCounterMode

from acclimate.core.recipe import Options
from acclimate.engine.activations import Pass
from acclimate.engine.dataset import CHUNK, scan
from acclimate.engine.precision import Precision
from acclimate.engine.store import Store
from acclimate.engine.watcher import Watcher
from acclimate.verbs.job import Job, prepare


def peak(kind: torch.dtype, side: int = 2048) -> float:
    """Multiply-adds a second of a square matmul, best of 5."""
    a, b = torch.randn(side, side, dtype=kind), torch.randn(side, side, dtype=kind)
    best = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - began)
    return side**3 / best


def measured(job: Job, images: int, place: Path, rounds: int) -> tuple[dict[str, float], float]:
    """(images a second by side, multiply-adds of an image)."""
    rows = job.rows("train")[:images]
    backbone, last = job.net.backbone, len(job.stages)
    precision = Precision.measure(job.net, job.example(), job.device)
    batches = [job.dataset.batch(rows[part]) for part in job.dataset.chunks(rows)]
    table = job.dataset.table.take(rows)

    @torch.inference_mode()
    def eager_fp32() -> None:
        for batch in batches:
            backbone(batch.contiguous())

    @torch.inference_mode()
    def eager_bf16() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            for batch in batches:
                backbone(batch.contiguous(memory_format=torch.channels_last))

    def store() -> Store:
        shutil.rmtree(place / "store", ignore_errors=True)
        return Store(place / "store")

    def cached_pass() -> None:
        Pass(backbone, job.dataset, store(), precision, job.device).bring(rows, last)

    def decode() -> None:
        scan(table, job.dataset.inputs, store())

    def together() -> None:
        decode()
        Pass(backbone, job.dataset, Store(place / "store"), precision, job.device).bring(rows, last)

    backbone.eval()
    sides = {
        "eager fp32": eager_fp32,
        "eager bf16, channels last": eager_bf16,
        "cached pass": cached_pass,
        "decoding": decode,
        "decoding and pass": together,
    }
    times = side_by_side(sides, rounds)
    with FlopCounterMode(display=False) as counter:
        backbone(batches[0][:1])
    return {
        name: len(rows) / statistics.median(seconds) for name, seconds in times.items()
    }, counter.get_total_flops() / 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures")
    parser.add_argument("--models", default="efficientnet_lite0,random:torchvision:resnet50")
    parser.add_argument("--images", type=int, default=8 * CHUNK)
    parser.add_argument("--sizes", default="160,192,224")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    print(machine())
    names = None
    for pictures in folders([given.pictures]):
        for model in given.models.split(","):
            for size in map(int, given.sizes.split(",")):
                with tempfile.TemporaryDirectory() as place:
                    os.environ["ACCLIMATE_CACHE"] = place + "/cache"
                    job = prepare(
                        pictures, Options.check({"model": model, "size": size, "strategy": "probe"}), Watcher()
                    )
                    speeds, macs = measured(job, given.images, Path(place), given.rounds)
                best = max(peak(torch.float32), peak(torch.bfloat16))
                used = speeds["cached pass"] * macs / best
                row = [model, size, *(f"{speed:.0f}" for speed in speeds.values()), f"{used:.0%}"]
                header = ["model", "px", *(f"{name}, images/s" for name in speeds), "pass, of the matmul peak"]
                show("feature pass", header, [row], begin=names is None)
                names = header


if __name__ == "__main__":
    command(main)
