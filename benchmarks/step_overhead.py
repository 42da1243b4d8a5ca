"""What the engine adds to a bare forward / backward / step loop: full fine-tuning, same precision, same batch.

    python benchmarks/step_overhead.py [--model efficientnet_lite0] [--size 160] [--batch 32] [--steps 12] [--rounds 7]

The bare loop runs on tensors that lie in memory; the engine reads the samples of an image folder (handwritten digits of
scikit-learn, enlarged), batches, schedules, clips and reports them. The sides take turns. At most 3 % is the aim.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from common import machine, ratio, show, side_by_side
from PIL import Image
from sklearn.datasets import load_digits

from acclimate.core.device import background
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


def pictures(place: Path, count: int, size: int) -> Path:
    digits = load_digits()
    for row in range(count):
        home = place / "data" / str(digits.target[row])
        home.mkdir(parents=True, exist_ok=True)
        Image.fromarray((digits.images[row] * 15.9).astype(np.uint8)).resize((size, size)).save(home / f"{row}.png")
    return place / "data"


def whole(job: Job, batch: int, augment: str, norm: str = "frozen") -> Phase:
    """A phase that trains all layers for longer than anyone waits."""
    rates = (1e-5,) * (len(job.stages) + 1)
    return Phase("all", "", (*job.stages, "head"), rates, batch_size=batch, augment=augment, epochs=1000, norm=norm)


def ready(job: Job, phase: Phase) -> Precision:
    """The arithmetic in which the layers of the phase are fast; the net is left to learn."""
    freeze(job.net.backbone, set(job.stages), norms=phase.norm == "frozen")
    job.net.train()
    return Precision.measure(job.net, job.example(), job.device)


def sides(job: Job, phase: Phase, precision: Precision, steps: int) -> dict[str, Callable[[], None]]:
    """The bare loop over the first batches of the phase, which lie in memory, and the engine's."""
    trained = trained_parameters(job.net, phase)
    stream = Batches(job.task, job.dataset, job.rows("train"), phase, [])
    with background(1) as pool:
        built = [stream.build(step, pool) for step in range(steps)]
    held = [(precision.move(one.inputs, job.device), precision.move(one.targets, job.device)) for one in built]
    bare_optimizer = build(job.net, phase)

    def bare() -> None:
        for inputs, targets in held:
            with precision.training(job.net):
                total, count = job.task.loss(job.net(inputs, 0, targets), targets)
                (total / max(1, count)).backward()
            bare_optimizer.step()
            bare_optimizer.zero_grad(set_to_none=True)

    state = State(job.net, trained, build(job.net, phase), None)
    running = train(phase, state, [stream], Supervised(job.task), precision, job.device)

    def engine() -> None:
        for _ in range(steps):
            next(running)

    return {"bare": bare, "engine": engine}


def overhead(job: Job, title: str, phases: Iterable[Phase], steps: int, rounds: int) -> None:
    """A table of what the engine adds to the bare loop in each of the phases; `title`: without the arithmetic."""
    for number, phase in enumerate(phases):
        precision = ready(job, phase)
        times = side_by_side(sides(job, phase, precision, steps), rounds)
        each = {name: 1000 * float(np.median(seconds)) / steps / phase.batch_size for name, seconds in times.items()}
        show(
            f"{title}; {precision.why}",
            ["augmentation", "bare, ms an image", "engine, ms an image", "engine / bare, median of pairs"],
            [[phase.augment, f"{each['bare']:.2f}", f"{each['engine']:.2f}", f"{ratio(times, 'engine', 'bare'):.3f}"]],
            begin=number == 0,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="efficientnet_lite0")
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        os.environ["ACCLIMATE_CACHE"] = place + "/cache"
        data = pictures(Path(place), 20 * given.batch, given.size)
        job = prepare(data, Options.check({"model": given.model, "size": given.size, "strategy": "full"}), Watcher())
        print(machine())
        title = f"{given.model}, all layers, {given.size} px, batch {given.batch}"
        phases = [whole(job, given.batch, augment) for augment in ("none", "light")]
        overhead(job, title, phases, given.steps, given.rounds)


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
