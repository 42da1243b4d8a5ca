"""What a finished fit leaves: the chosen weights, saved and loaded back, and everything that the loaded model gives to tell."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from acclimate.core.device import give_back_memory
from acclimate.core.run import Run
from acclimate.engine import costs, second_look
from acclimate.engine.adapters import files as adapter_files
from acclimate.engine.learned import CHOSE, entries, leaked, packed
from acclimate.engine.phase import Outcome, Phase
from acclimate.engine.saved import WEIGHTS, Saved, load_model, save_model
from acclimate.engine.trainer import Trainer
from acclimate.engine.watcher import Mistake
from acclimate.report import card
from acclimate.strategies.probe import solved
from acclimate.strategies.strategy import Context
from acclimate.tasks.task import Baseline
from acclimate.verbs import adapted, baselines, folder, history
from acclimate.verbs.baselines import PROBE
from acclimate.verbs.evaluate import SAID
from acclimate.verbs.job import Job
from acclimate.verbs.judging import corrected, judge
from acclimate.verbs.models import macs
from acclimate.verbs.reporting import gallery, report

ADAPTER = "adapter"
"""Folder of the run in which an adapter is kept apart."""
ASIDE = 0.2
"""Share of a budget that the probe may take which only stands beside the result, and that a second look at labels may take."""
LOOK = 1.3e-3
"""Seconds a sample that the second look takes on features that are there."""


def judged_split(job: Job) -> str:
    """The split that judges the result."""
    return "test" if len(job.rows("test")) else "val"


@dataclass(frozen=True)
class Ended:
    """What a fit has come to when training is over. `beside`: baselines that stand already; `until`: time.monotonic() at which the
    budget ends."""

    run: Run
    data: Any
    job: Job
    trainer: Trainer
    chosen: Outcome
    context: Context
    beside: list[Baseline]
    parts: history.Parts
    until: float
    forward: float
    """Seconds of one sample's forward pass."""


def finish(end: Ended) -> list[Mistake]:
    """Save the chosen weights, load them back from disk, and report what the loaded model does; gives its worst mistakes, drawn."""
    run, job, parts, split = end.run, end.job, end.parts, judged_split(end.job)
    rows = job.rows(split)
    constant = job.task.constant(job.dataset.targets[job.dataset.own("train")])
    beside = [*baselines.majority(constant, len(rows)), *end.beside, *_probe(end, rows)]
    parts.end("baselines")
    learned = end.trainer.pass_rows if end.chosen.learned_from_validation else job.rows("train")
    saved, settled = _saved(end, learned, constant)
    parts.end("saving, loading back")
    leaks = leaked(job.dataset, rows, learned)
    found, answers = judge(saved, job.dataset, rows, job.device, on=SAID[split], beside=beside, leaked=leaks)
    answers.save(run)
    parts.end("judging")
    doubtful = _doubtful(end, learned, PROBE in {one.name for one in beside})
    run.write("doubtful.csv", second_look.table(doubtful))
    parts.end("second look at labels")
    cost = _cost(run, job, saved)
    parts.end("measuring what it costs")
    made = gallery(saved, job.dataset, rows, answers, doubtful, job.device)
    parts.end("drawing samples")
    run.log("chosen", index=end.chosen.index, name=end.chosen.phase)
    run.write("recipe.yaml", folder.recipe_of(end.data, job, run).text())
    how = _told(end, split)
    if among := how.get("selection"):
        found["verdict"] += corrected(among)
    told = {"verdict": found["verdict"], **how, **found, "settled": settled}
    told |= {"doubtful": len(doubtful), "shown": made.json(), **adapted.told(run, job, end.chosen)}
    told |= {"cost": {**cost, "seconds": history.seconds(run)}, "seconds": round(run.elapsed(), 2)}
    report(run, told, made, folder.stem(end.data), saved.task.example)
    run.write(card.FILE, card.text(run, told))
    run.write_json("metrics.json", told)  # last: with it the run is finished
    return made.mistakes()


def _saved(end: Ended, learned: np.ndarray, constant: np.ndarray | None) -> tuple[Saved, dict[str, Any]]:
    """(the chosen model as it was loaded back from disk, what its task was settled to on validation)."""
    run, job, trainer, chosen = end.run, end.job, end.trainer, end.chosen
    trainer.restore(chosen.index)
    before, job.task = job.task.spec, job.task.settled(lambda: trainer.answers(chosen))
    settled = {name: value for name, value in job.task.spec.items() if value != before.get(name)}
    about = {
        "model": job.card.json(),
        "preprocessing": job.preprocessing.json(),
        "columns": list(job.dataset.table.named),
        "constant": None if constant is None else constant.tolist(),
    }
    if job.options.adapter == "apart":
        save_adapter(run, trainer, chosen, job.card.name.removeprefix("hf:"))
    besides = adapted.learned(job, trainer.outcomes.phase(chosen.index))
    chose = np.setdiff1d(job.rows("val"), learned)
    run.write(CHOSE, packed(entries(job.task, job.dataset, chose)))
    save_model(run, job.net, job.task, job.dataset, learned, job.answering(trainer.precision), about, besides)
    give_back_memory()
    saved = load_model(run.path, job.device)
    give_back_memory()
    return saved, settled


def _told(end: Ended, split: str) -> dict[str, Any]:
    """What metrics.json says beside the figures: how the run came to its model."""
    run, job = end.run, end.job
    among = history.selection(end.trainer) if split == "val" else {}
    return {
        "run": str(run.path),
        "task": job.task.name,
        "model": job.card.name,
        "strategy": job.options.strategy,
        "split": split,
        "chosen": end.chosen.phase,
        **({"selection": among} if among else {}),
        "phases": history.phases(end.trainer, end.chosen),
        "trials": history.trials(run),
        "remarks": history.remarks(run),
        "samples": job.samples,
        "findings": [asdict(one) for one in job.findings],
    }


def _doubtful(end: Ended, learned: np.ndarray, probed: bool) -> list[second_look.Row]:
    """Labels worth a second look. With a budget it is taken only where time was left aside for it, and what it needs is there.

    `probed`: whether the probe on the frozen network was fitted, and so has left its features in the cache.
    """
    has = probed or baselines.is_probe(end.trainer.outcomes.phase(end.chosen.index)) or not end.context.tuning.solved
    lacking = 0.0 if has else len(end.job.dataset) * end.forward
    budget = end.job.options.minutes is not None
    if budget and (not look_aside(end.job, end.forward) or (lacking and time.monotonic() + lacking > end.until)):
        end.trainer.watcher.say("labels: no second look, the budget has no time for it")
        return []
    return second_look.second_look(end.trainer, end.job.task, learned)


def look_aside(job: Job, forward: float) -> float:
    """Seconds of a budget that are left aside for the second look; 0 where that would be a large share of it.

    `forward`: seconds of a sample's forward pass, which the look needs where no probe has left features."""
    solved = job.task.tuning(job.net.head, job.preprocessing).solved
    needed = (LOOK if solved else LOOK + forward) * len(job.dataset)
    return needed if job.options.minutes is not None and needed <= ASIDE * job.options.minutes * 60 else 0.0


def _probe(end: Ended, rows: np.ndarray) -> Iterator[Baseline]:
    """Of a head that can be solved."""
    if end.context.tuning.solved:
        yield from baselines.probe(end.trainer, solved(end.context), end.chosen, rows, end.until)


def left_aside(context: Context, phases: list[Phase], left: float) -> float:
    """Seconds of `left` that the probe needs where it is fitted for the comparison alone; 0 where that is a large share of them."""
    if not context.tuning.solved or any(map(baselines.is_probe, phases)):
        return 0.0
    needed = context.seconds(solved(context))
    return needed if needed <= ASIDE * left else 0.0


def _cost(run: Run, job: Job, saved: Saved) -> dict[str, Any]:
    """What the saved model takes on this machine, and what the fit took in memory."""
    rows = job.rows("train")

    def example(samples: int) -> Any:
        return job.dataset.batch(rows[:samples])

    measured = costs.measure(saved.net, example, saved.precision, job.device)
    operations = macs(saved.net.requires_grad_(False).cpu(), job.preprocessing)
    saved.net.to(job.device)
    disk = run.file(WEIGHTS).stat().st_size
    return {**measured.json(), "disk_bytes": disk, "macs": operations, "fit_memory_bytes": most_memory(job.device)}


def most_memory(device: torch.device) -> int | None:
    """Bytes that this process held at most: of the device where it counts them, else of the machine; None where that cannot be asked."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    if sys.platform == "win32":
        return None
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def save_adapter(run: Run, trainer: Trainer, chosen: Outcome, model: str) -> None:
    """Keep the adapter beside the model that it is merged into, in files that peft reads, and the head with it.

    `model`: what peft is told it belongs to.
    """
    tensors, phase = trainer.outcomes.adapter(chosen.index), trainer.outcomes.phase(chosen.index)
    adapter, config = adapter_files(tensors, phase, model)
    head = {name: value.detach().cpu().contiguous() for name, value in trainer.net.head.state_dict().items()}
    run.write(f"{ADAPTER}/adapter_model.safetensors", save(adapter, {"format": "pt"}))
    run.write_json(f"{ADAPTER}/adapter_config.json", config)
    run.write(f"{ADAPTER}/head.safetensors", save(head, {"format": "pt"}))
