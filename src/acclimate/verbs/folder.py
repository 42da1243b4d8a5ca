"""Where a fit writes: which run folder is meant, what makes it readable from its first second, and what a resume must find."""

from __future__ import annotations

import json
import os
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import acclimate
from acclimate.core import device as machine
from acclimate.core.errors import fail
from acclimate.core.recipe import Options, Recipe, flag, spoken
from acclimate.core.run import Run, next_folder, numbered
from acclimate.verbs.job import Job

RUNS = Path("runs")


def stem(data: Any) -> str:
    """What to call the data in a folder name."""
    return Path(data).resolve().name.split(".")[0] or "data" if isinstance(data, str | Path) else "data"


def described(data: Any) -> str:
    return str(data) if isinstance(data, str | Path) else f"<{type(data).__name__} in memory>"


def same(run: Run, data: Any, options: Options) -> bool:
    recipe = Recipe.read(run.file("recipe.yaml"))
    return recipe.data == described(data) and recipe.asked == options.asked()


def finished(data: Any, out: str | Path | None, options: Options) -> Run | None:
    run = existing_run(data, out, options)
    return run if run is not None and run.finished and same(run, data, options) else None


def existing_run(data: Any, out: str | Path | None, options: Options) -> Run | None:
    """The run that --resume means: the named folder, else the newest one of these data that was asked the same."""
    if out is not None:
        return Run(Path(out)) if Run(Path(out)).exists else None
    runs = [Run(path) for _, path in reversed(numbered(RUNS, stem(data)))]
    return next((run for run in runs if run.exists and same(run, data, options)), None)


def decided(
    name: str, decisions: dict[str, Any], data: Any, out: str | Path | None, options: Options, resume: bool
) -> Any:
    """What was decided under a name by the run that is replayed (`decisions`) or gone on with; None where nothing was."""
    run = existing_run(data, out, options) if resume else None
    return decisions.get(name) or (run.decisions().get(name) if run is not None else None)


def find(data: Any, out: str | Path | None, resume: bool, options: Options) -> Run:
    """The run folder to work in; nothing is written yet. Raises `UserError` where it cannot be made or holds something else."""
    found = existing_run(data, out, options) if resume else None
    if found is not None:
        return found
    if out is None:
        return Run(next_folder(RUNS, stem(data)))
    path = Path(out)
    above = next(parent for parent in path.absolute().parents if parent.exists())
    if not above.is_dir():
        raise fail(f"--out {str(path)!r}", f"cannot be made: {above} is a file", "give another --out")
    if not os.access(above, os.W_OK):
        raise fail(f"--out {str(path)!r}", f"cannot be made: {above} may not be written to", "give another --out")
    if path.exists() and (not path.is_dir() or any(not entry.name.startswith(".") for entry in path.iterdir())):
        run = Run(path)
        rule = (
            "holds a run"
            if run.finished
            else "holds an unfinished run"
            if run.exists
            else "exists and holds something else"
        )
        way = "go on with it by --resume, or " if run.exists and not run.finished else ""
        raise fail(f"--out {str(path)!r}", rule, f"{way}give another --out")
    return Run(path)


def begin(run: Run, data: Any, job: Job, began: float) -> None:
    """Write what makes the folder readable from the first second; on a resume, refuse what would give another result."""
    run.mend_log()
    run.start(began)
    if run.exists:
        _check_same(run, data, job)
    if any(event["event"] == "begin" for event in run.events()):
        return
    run.path.mkdir(parents=True, exist_ok=True)
    run.write("recipe.yaml", recipe_of(data, job).text())
    run.write_json("environment.json", {"command": shlex.join(sys.argv), **machine.describe()})
    run.log(
        "begin",
        durable=True,
        content=job.dataset.fingerprint(),
        samples=job.samples,
        passed_over=job.dataset.table.passed,
        findings=[asdict(finding) for finding in job.findings],
    )


def _check_same(run: Run, data: Any, job: Job) -> None:
    """Refuse to go on with a run that another command, another version or other data began."""
    recipe, value = Recipe.read(run.file("recipe.yaml")), f"--resume of {str(run.path)!r}"
    if recipe.asked != job.asked or recipe.data != described(data):
        other = sorted(name for name in {*recipe.asked, *job.asked} if recipe.asked.get(name) != job.asked.get(name))
        differs = ", ".join(flag(name) for name in other) or "the data"
        remedy = f"type it again, or begin anew with another --out; it was: {command(recipe, run)}"
        raise fail(value, f"was begun by another command, which differs in {differs}", remedy)
    if recipe.acclimate != acclimate.__version__:
        versions = f"acclimate {recipe.acclimate}, this is {acclimate.__version__}"
        raise fail(
            value, f"was begun by {versions}: the result would be another", "begin anew, or install that version"
        )
    content = {event["content"] for event in run.events() if event["event"] == "begin"}
    if content and content != {job.dataset.fingerprint()}:
        raise fail(value, "was begun on other data: their content has changed", "begin anew")


def command(recipe: Recipe, run: Run) -> str:
    said = " ".join(spoken(name, value) for name, value in recipe.asked.items())
    return f"acclimate fit {recipe.data} {said} --out {run.path}"


def recipe_of(data: Any, job: Job, run: Run | None = None) -> Recipe:
    """What was asked and what became of it; of a finished run with the phases that ran and what was decided."""
    resolved = {
        "task": job.task.name,
        "model": job.card.name,
        "weights": job.card.weights,
        "preprocessing": job.preprocessing.json(),
        "stages": job.stages,
        "reader": job.dataset.table.reader,
        "strategy": job.options.strategy,
        "seed": job.options.seed,
        "samples": job.samples,
    }
    decisions: dict[str, Any] = {}
    if run is not None:
        resolved["phases"] = [event["phase"] for event in run.events() if event["event"] == "outcome"]
        decisions = run.decisions()
    return Recipe(
        acclimate=acclimate.__version__,
        data=described(data),
        asked=job.asked,
        resolved=json.loads(json.dumps(resolved)),
        decisions=decisions,
    )
