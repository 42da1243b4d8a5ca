"""What a finished fit leaves: the chosen weights, saved and loaded back, and everything that the loaded model gives to tell."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from acclimate.core.device import give_back_memory
from acclimate.core.run import Run
from acclimate.engine import costs
from acclimate.engine.adapters import files as adapter_files
from acclimate.engine.learned import leaked
from acclimate.engine.phase import Outcome, Phase
from acclimate.engine.saved import Saved, load_model, save_model
from acclimate.engine.trainer import Trainer
from acclimate.engine.watcher import Exhibit
from acclimate.report import card
from acclimate.report.page import Drawn, page
from acclimate.strategies.probe import solved
from acclimate.strategies.strategy import Context
from acclimate.tasks.task import Baseline
from acclimate.verbs import adapted, baselines, folder, history
from acclimate.verbs.evaluate import SAID
from acclimate.verbs.job import Job
from acclimate.verbs.judging import judge
from acclimate.verbs.models import macs

ADAPTER = "adapter"
"""Folder of the run in which an adapter is kept apart."""
ASIDE = 0.2
"""Share of a budget that the probe may take which only stands beside the result."""


def judged_split(job: Job) -> str:
    """The split that judges the result."""
    return "test" if len(job.rows("test")) else "val"


def finish(
    run: Run,
    data: Any,
    job: Job,
    trainer: Trainer,
    chosen: Outcome,
    context: Context,
    beside: list[Baseline],
    parts: history.Parts,
    until: float,
) -> list[Exhibit]:
    """Save the chosen weights, load them back from disk, and report what the loaded model does.

    `beside`: baselines that stand already. `until`: time.monotonic() at which the budget ends.
    """
    split = judged_split(job)
    rows = job.rows(split)
    constant = job.task.constant(job.dataset.targets[job.dataset.own("train")])
    beside = [*baselines.majority(constant, len(rows)), *beside, *_probe(trainer, chosen, context, rows, until)]
    parts.end("baselines")
    trainer.restore(chosen.index)
    before, job.task = job.task.spec, job.task.settled(lambda: trainer.answers(chosen))
    settled = {name: value for name, value in job.task.spec.items() if value != before.get(name)}
    about = {
        "model": job.card.json(),
        "preprocessing": job.preprocessing.json(),
        "columns": list(job.dataset.table.named),
        "constant": None if constant is None else constant.tolist(),
    }
    learned = trainer.pass_rows if chosen.learned_from_validation else job.rows("train")
    if job.options.adapter == "apart":
        save_adapter(run, trainer, chosen, job.card.name.removeprefix("hf:"))
    besides = adapted.learned(job, trainer.outcomes.phase(chosen.index))
    precision = job.answering(trainer.precision)
    save_model(run, job.net, job.task, job.dataset, learned, precision, about, besides)
    give_back_memory()
    saved = load_model(run.path, job.device)
    give_back_memory()
    parts.end("saving, loading back")
    found, answers = judge(
        saved, job.dataset, rows, job.device, on=SAID[split], beside=beside, leaked=leaked(job.dataset, rows, learned)
    )
    answers.save(run)
    parts.end("judging")
    cost = _cost(job, saved)
    run.log("chosen", index=chosen.index, name=chosen.phase)
    run.write("recipe.yaml", folder.recipe_of(data, job, run).text())
    told = {
        "run": str(run.path),
        "task": job.task.name,
        "model": job.card.name,
        "strategy": job.options.strategy,
        "split": split,
        **found,
        **({"selection": chosen_among} if split == "val" and (chosen_among := history.selection(trainer)) else {}),
        **adapted.told(run, job, chosen),
        "settled": settled,
        "chosen": chosen.phase,
        "phases": history.phases(trainer, chosen),
        "trials": history.trials(run),
        "remarks": history.remarks(run),
        "samples": job.samples,
        "findings": [asdict(one) for one in job.findings],
    }
    parts.end("figures and costs")
    told["cost"] = {**cost, "seconds": history.seconds(run)}
    told["seconds"] = round(run.elapsed(), 2)
    recipe = run.file("recipe.yaml").read_text(encoding="utf-8")
    run.write("report.html", page(told, Drawn(), recipe, "data", job.task.example))
    run.write(card.FILE, card.text(run, told))
    run.write_json("metrics.json", told)  # last: with it the run is finished
    return []


def _probe(trainer: Trainer, chosen: Outcome, context: Context, rows: np.ndarray, until: float) -> Iterator[Baseline]:
    """Of a head that can be solved."""
    if context.tuning.solved:
        yield from baselines.probe(trainer, solved(context), chosen, rows, until)


def left_aside(context: Context, phases: list[Phase], left: float) -> float:
    """Seconds of `left` that the probe needs where it is fitted for the comparison alone; 0 where that is a large share of them."""
    if not context.tuning.solved or any(map(baselines.is_probe, phases)):
        return 0.0
    needed = context.seconds(solved(context))
    return needed if needed <= ASIDE * left else 0.0


def _cost(job: Job, saved: Saved) -> dict[str, Any]:
    """What the saved model takes on this machine, and what the fit took in memory."""
    rows = job.rows("train")

    def example(samples: int) -> Any:
        return job.dataset.batch(rows[:samples])

    measured = costs.measure(saved.net, example, saved.precision, job.device)
    operations = macs(saved.net.backbone.cpu(), job.preprocessing)
    saved.net.to(job.device)
    return {**measured.json(), "macs": operations, "fit_memory_bytes": most_memory(job.device)}


def most_memory(device: torch.device) -> int:
    """Bytes that this process held at most: of the device where it counts them, else of the machine."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


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
