"""Where the time of a detector goes: the engine beside a bare loop, the shares of a step and of an answer, suppression.

    python benchmarks/detection_step.py BCCD [--model yolox:nano] [--weights FILE] [--size 416] [--batch 8] [--steps 8] [--rounds 5]
        [--only 'overhead;step;answers;suppression']

BCCD: blood cells (github.com/Shenggan/BCCD_Dataset), or any folder of pictures with boxes. FILE: weights of the model, any form that
`--weights` takes; `--model random:yolox:nano` needs none. The bare loop runs on batches that lie in memory (`step_overhead.py`): at
most 3 % more is the aim. Shares are of the same work done in turn, in one thread, all layers learning. Suppression is of made-up
boxes: what the project does, torchvision's `batched_nms` picture by picture, and one call for the whole batch.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from common import command, folders, machine, meant, positive, show, side_by_side
from step_overhead import overhead, ready, whole
from torch import nn
from torchvision.ops import batched_nms, nms

from acclimate.core.device import background
from acclimate.core.recipe import Options
from acclimate.data.gate import read_one
from acclimate.engine.batches import Batches
from acclimate.engine.optim import build, trained_parameters
from acclimate.engine.phase import Phase
from acclimate.engine.watcher import Watcher
from acclimate.models.detection.yolox import FAR, suppressed
from acclimate.verbs.job import Job, prepare

TOLD = ("overhead", "step", "answers", "suppression")
POLICIES = ("none", "flip", "light", "mosaic")
ANSWERED = 64
"""Pictures that are answered at a time, as the engine does."""
PICTURES, CLASSES, CANDIDATES = (8, 32, 64), (1, 3, 80), (300, 3000)
FLOOR, IOU, MOST = 0.001, 0.65, 100
TOGETHER = 20_000
"""Boxes above which one call for all of them is not waited for."""


class Watch:
    """Seconds of the parts of work that is done again and again: each begins where the one before ended."""

    def __init__(self) -> None:
        self.laps: dict[str, list[float]] = {}
        self.begin()

    def begin(self) -> None:
        self.last = now()

    def lap(self, part: str, until: float | None = None) -> None:
        ended = now() if until is None else max(until, self.last)
        self.laps.setdefault(part, []).append(ended - self.last)
        self.last = ended

    def median(self, part: str) -> float:
        """Of all rounds but the first."""
        return statistics.median(self.laps[part][1:])


def now() -> float:
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
    return time.perf_counter()


@contextmanager
def last_layer(head: nn.Module) -> Iterator[Callable[[], float]]:
    """Inside, when the last layer of the head was done: what follows it is choosing and judging."""
    seen = [0.0]
    hooks = [
        layer.register_forward_hook(lambda *_: seen.append(now())) for layer in head.modules() if layer is not head
    ]
    try:
        yield lambda: seen[-1]
    finally:
        for hook in hooks:
            hook.remove()


def told(parts: dict[str, float], pictures: int) -> dict[str, str]:
    """Milliseconds an image and the share, of each part and in all."""
    total = sum(parts.values())
    return {
        name: f"{1000 * each / pictures:.2f} ({each / total:.1%})" for name, each in {**parts, "all": total}.items()
    }


# --- a step


def step_parts(job: Job, phase: Phase, rounds: int) -> tuple[dict[str, float], float]:
    """(seconds of each part of a step, seconds of reading its pictures from their files)."""
    precision = ready(job, phase)
    task, data, net, watch = job.task, job.dataset, job.net, Watch()
    stream = Batches(task, data, job.rows("train"), phase, [])
    rows, optimizer, trained = stream.rows_of(0), build(net, phase), list(trained_parameters(net, phase).values())
    with background(1) as pool, last_layer(net.head) as answered:
        for _ in range(rounds + 1):
            watch.begin()
            for row in rows:
                data.inputs.prepare(read_one(data.table, int(row))[0])
            watch.lap("read")
            samples = [data.sample(int(row)) for row in rows]
            watch.lap("taken from the store")
            data.inputs.collate(samples)
            watch.lap("normalised and put together")
            task.targets(data.targets[rows])
            watch.lap("targets")
            made = stream.build(0, pool)
            watch.lap("built")
            with precision.training(net):
                inputs, targets = (precision.move(tree, job.device) for tree in (made.inputs, made.targets))
                total, count = task.loss(net(inputs, 0, targets), targets)
                watch.lap("forward", answered())
                watch.lap("assignment and loss")
                (total / max(1, count)).backward()
            watch.lap("backward")
            nn.utils.get_total_norm([value.grad for value in trained if value.grad is not None])
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            watch.lap("optimizer")
    found = {part: watch.median(part) for part in watch.laps}
    read, built = found.pop("read"), found.pop("built")
    inside = ("taken from the store", "normalised and put together", "targets")
    return {"augmented": max(0.0, built - sum(found[part] for part in inside)), **found}, read


def step_shares(job: Job, phases: list[Phase], rounds: int) -> None:
    found = [step_parts(job, phase, rounds) for phase in phases]
    columns = [told(parts, phase.batch_size) for phase, (parts, _) in zip(phases, found, strict=True)]
    header = ["part of a step", *(f"{phase.augment}, ms an image (share)" for phase in phases)]
    show("Training", header, [[name, *(column[name] for column in columns)] for name in columns[0]])
    read = 1000 * statistics.median(seconds for _, seconds in found) / phases[0].batch_size
    print(f"\nread, decoded and fitted to the canvas, once: {read:.2f} ms an image")


# --- an answer


@torch.inference_mode()
def answer_shares(job: Job, phase: Phase, rounds: int) -> None:
    """Of validation pictures, by the head as it is before it learned these classes."""
    precision = ready(job, phase)
    rows, task, data, net, watch = job.rows("val")[:ANSWERED], job.task, job.dataset, job.net.eval(), Watch()
    with last_layer(net.head) as answered:
        for _ in range(rounds + 1):
            watch.begin()
            inputs = data.batch(rows)
            watch.lap("taken from the store, normalised")
            with precision.inference(net):
                outputs = net(precision.move(inputs, job.device))
            watch.lap("forward", answered())
            watch.lap("boxes, scores, suppression")
            predictions = task.predictions(outputs)
            watch.lap("boxes back to the picture")
            task.judge(predictions, data.targets[rows])
            watch.lap("matched, judged by average precision")
    found = told({part: watch.median(part) for part in watch.laps}, len(rows))
    show(f"Answers, {len(rows)} pictures", ["part", "ms an image (share)"], [[name, found[name]] for name in found])


# --- suppression


def crowds(pictures: int, candidates: int, classes: int) -> tuple[torch.Tensor, ...]:
    """Boxes [B, N, 4], scores and labels [B, N], all above the floor: most around 15 objects a picture, a third anywhere."""
    random = torch.Generator().manual_seed(0)
    shape = (pictures, candidates)
    own = torch.randint(15, shape, generator=random)
    objects = torch.rand(2, pictures, 15, 2, generator=random)
    place, size = objects.gather(2, own[None, ..., None].expand(2, -1, -1, 2))
    place, size = place * 416, size * 100 + 20
    centre = place + size * torch.randn(*shape, 2, generator=random) * 0.2
    centre[:, ::3] = torch.rand(centre[:, ::3].shape, generator=random) * 416
    half = size * torch.exp(torch.randn(*shape, 2, generator=random) * 0.2) / 2
    scores = torch.rand(shape, generator=random) ** 4 * 0.9 + 0.0011
    labels = own % classes
    labels[:, ::3] = torch.randint(classes, labels[:, ::3].shape, generator=random)
    return torch.cat((centre - half, centre + half), dim=2), scores, labels


def one_by_one(boxes: torch.Tensor, scores: torch.Tensor, labels: torch.Tensor) -> list[torch.Tensor]:
    """The places that stay of each picture, by torchvision's own way of keeping classes apart."""
    kept = []
    for box, score, label in zip(boxes, scores, labels, strict=True):
        likely = (score > FLOOR).nonzero().squeeze(1)
        kept.append(likely[batched_nms(box[likely], score[likely], label[likely], IOU)[:MOST]])
    return kept


def at_once(boxes: torch.Tensor, scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The places that stay in the whole batch, flat: one call, every class of every picture moved apart."""
    group = torch.arange(len(boxes), device=boxes.device)[:, None] * (labels.max() + 1) + labels
    apart = boxes.double().clamp(-FAR, FAR) + 2 * FAR * group[..., None]
    return nms(apart.flatten(0, 1), scores.flatten().double(), IOU)


def suppression(device: torch.device, rounds: int) -> None:
    header = ["candidates", "classes", "pictures", "stay", "ours, ms an image", "one by one, ms", "one call, ms"]
    show("Suppression", header, [])
    for candidates in CANDIDATES:
        for classes in CLASSES:
            for pictures in PICTURES:
                given = [values.to(device) for values in crowds(pictures, candidates, classes)]
                show("", [], [suppression_row(given, classes, rounds)], begin=False)


def suppression_row(given: list[torch.Tensor], classes: int, rounds: int) -> list[str]:
    pictures, candidates = given[1].shape
    ways: dict[str, Callable[[], Any]] = {
        "ours": lambda: suppressed(*given, FLOOR, IOU, MOST),
        "one by one": lambda: one_by_one(*given),
        "one call": lambda: at_once(*given),
    }
    few = pictures * candidates <= TOGETHER
    times = side_by_side({way: run for way, run in ways.items() if few or way != "one call"}, rounds)
    each = [f"{1000 * statistics.median(times[way]) / pictures:.2f}" if way in times else "" for way in ways]
    stay = int((ways["ours"]()["labels"] >= 0).sum()) / pictures
    return [f"{candidates}", f"{classes}", f"{pictures}", f"{stay:.0f}", *each]


# --- all of it


def measured(job: Job, title: str, only: list[str], batch: int, steps: int, rounds: int) -> None:
    norm = job.task.tuning(job.net.head, job.preprocessing).defaults["norm"]
    phases = [whole(job, batch, augment, norm) for augment in POLICIES]
    if "overhead" in only:
        overhead(job, title, phases, steps, rounds)
    if "step" in only:
        step_shares(job, phases, rounds)
    if "answers" in only:
        answer_shares(job, phases[0], rounds)
    if "suppression" in only:
        suppression(job.device, rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--model", default="yolox:nano")
    parser.add_argument("--weights", help="of the model")
    parser.add_argument(
        "--size", type=positive, help="the longer side of the canvas in pixels (default: the model's own)"
    )
    parser.add_argument("--batch", type=positive, default=8)
    parser.add_argument("--steps", type=positive, default=8)
    parser.add_argument("--rounds", type=positive, default=5)
    parser.add_argument("--only", default="", help=f"some of {'; '.join(TOLD)}, separated by semicolons")
    given = parser.parse_args()
    only = meant(given.only, TOLD)
    for data in folders([given.data]):
        asked = {"model": given.model, "weights": given.weights, "size": given.size, "strategy": "full"}
        job = prepare(data, Options.check(asked), Watcher())
        print(machine())
        title = f"{given.model}, all layers, {job.preprocessing.told()}, batch {given.batch}"
        measured(job, title, only, given.batch, given.steps, given.rounds)


if __name__ == "__main__":
    torch.manual_seed(0)
    command(main)
