"""The model card of a run: README.md with metadata as the Hugging Face hub reads them, from the run's own files alone."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCardData

from acclimate.core.legible import legible
from acclimate.core.recipe import Recipe
from acclimate.core.run import Run
from acclimate.tasks import TASKS
from acclimate.tasks.task import Task

FILE = "README.md"
FOLDER = "path/to/this/folder"
"""What stands for the run's own in the lines to copy."""
HUB = re.compile(r"(?:hub )?([\w.-]+/[\w.-]+)")
"""How a card says that its weights come from the hub."""
MARKS = re.compile(r"[\\`*_{}\[\]()#|~@]|:(?=//)|(?<=www)\.|^[-+=]")
"""What means something in Markdown, in the middle of a line or where it begins."""
FEW = 200
"""Samples below which figures are said to be of few."""
LISTED = 50
"""Classes that are named."""
DATA = ("weights", "target", "target_labels", "target_shares")
"""Options that name files elsewhere."""


def text(run: Run, result: dict[str, Any]) -> str:
    """The card of a run whose model is saved, YAML front matter and Markdown (Mitchell et al. 2019). Names from the data are shown letter
    by letter. `result`: what metrics.json says, or is about to say: the card is there before the run counts as finished."""
    manifest = run.read_json("model.json")
    recipe = Recipe.read(run.file("recipe.yaml"))
    task: Task = TASKS[manifest["task"]["name"]](manifest["task"]["spec"])
    parts = (
        _head(run, result, manifest, task),
        *_figures(result),
        "## How to use",
        _fenced(
            f'import acclimate\nmodel = acclimate.load("{FOLDER}")\nprint(model.predict({task.example}))', "python"
        ),
        *_trained_on(recipe, task),
        "## Limits",
        "\n".join(f"- {line}" for line in _limits(run, result)),
        *_recipe(recipe, result),
    )
    front = _data(run, result, manifest, recipe, task).to_yaml()
    return legible(f"---\n{front}\n---\n\n" + "\n\n".join(filter(None, parts)) + "\n", "\t\n")


# --- for machines


def _data(run: Run, result: dict[str, Any], manifest: dict[str, Any], recipe: Recipe, task: Task) -> ModelCardData:
    model, data = manifest["model"], _data_name(recipe)
    name = model_name(run)
    hub = HUB.fullmatch(model["weights"])
    figures = [
        EvalResult(
            task_type=task.hub_tag,
            dataset_type=re.sub(r"[^\w.-]+", "-", data),
            dataset_name=data,
            dataset_split=result["split"],
            metric_type=figure,
            metric_name=figure.replace("_", " "),
            metric_value=metric["value"],
        )
        for figure, metric in result["metrics"].items()
    ]
    return ModelCardData(
        base_model=hub[1] if hub else None,
        library_name="acclimate",
        pipeline_tag=task.hub_tag,
        tags=["acclimate", "fine-tuned"],
        metrics=list(result["metrics"]),
        model_name=name,
        eval_results=figures,
        **_licence(model["licence"]),
    )


def _licence(stated: str) -> dict[str, Any]:
    """As the hub names licences: of "package / weights" that of the weights; what it has no name for is "other", with the words."""
    licence = stated.rpartition(" / ")[2]
    if licence == "not stated":
        return {}
    if licence.startswith("http"):
        return {"license": "other", "license_link": licence}
    if re.fullmatch(r"[\w.-]+", licence):
        return {"license": licence.lower()}
    return {"license": "other", "license_name": licence}


# --- for people


def _head(run: Run, result: dict[str, Any], manifest: dict[str, Any], task: Task) -> str:
    name, kind = plain(model_name(run)), task.name.replace("_", " ")
    base, verdict = plain(_base(manifest["model"])), result.get("verdict", "")
    told = f"{kind[0].upper()}{kind[1:]}, {plain(task.about)}: {base}, fine-tuned by acclimate."
    return "\n\n".join(filter(None, (f"# {name}", told, verdict and f"**{plain(verdict)}**")))


def _figures(result: dict[str, Any]) -> Iterator[str]:
    yield "## Figures"
    apart = "test data that had no part in training or choosing"
    where = {
        "test": "test data, some of which training holds too (see the limits)" if result.get("leaks") else apart,
        "val": "validation data, which also chose the model",
    }
    yield f"On {where.get(result['split'], plain(result['split']))}, with 95 % intervals."
    rows = [(plain(name.replace("_", " ")), *_cells(metric)) for name, metric in result["metrics"].items()]
    yield _table(("figure", "value", "95 % interval", "samples"), rows)
    beside = [
        (plain(one["name"]), plain(name.replace("_", " ")), *_cells(metric)[:2], *_cells(one["better by"])[:2])
        for one in result.get("baselines", [])
        for name, metric in one["metrics"].items()
    ]
    if beside:
        yield _table(
            ("baseline", "figure", "value", "95 % interval", "this model is better by", "95 % interval"), beside
        )


def _cells(metric: dict[str, Any]) -> tuple[str, str, str]:
    return f"{metric['value']:.3f}", f"{metric['low']:.3f} to {metric['high']:.3f}", f"{metric['n']:,}"


def _trained_on(recipe: Recipe, task: Task) -> Iterator[str]:
    counts = ", ".join(f"{count:,} {split}" for split, count in recipe.resolved["samples"].items() if count)
    yield "## Trained on"
    yield f"Samples of {plain(_data_name(recipe))}: {counts}."
    classes = task.spec.get("classes", [])
    more = f", and {len(classes) - LISTED:,} more" if len(classes) > LISTED else ""
    if classes:
        yield f"Classes: {', '.join(map(plain, classes[:LISTED]))}{more}."


def _limits(run: Run, result: dict[str, Any]) -> Iterator[str]:
    n = next(iter(result["metrics"].values()))["n"]
    if result["split"] == "val":
        yield "No test data were given: the figures are of the validation samples that the model was chosen on, and may be too good."
    if among := result.get("selection"):
        told = among["corrected"]
        yield f"Corrected for the choice among {among['tried']} outcomes: {told['value']:.3f} \\[{told['low']:.3f}, {told['high']:.3f}\\]."
    if leaks := result.get("leaks"):
        metric = leaks.get("metrics", {}).get(result["primary"])
        without = f"; without them {result['primary'].replace('_', ' ')} is {metric['value']:.3f}" if metric else ""
        yield f"{leaks['count']:,} of these samples are, or nearly are, among those it learned from{without}."
    if n < FEW:
        yield f"The figures are of {n:,} samples, which is few: read the intervals, not the values."
    yield "The figures hold for samples like these; data from elsewhere may look different."
    for event in run.events():
        for finding in event["findings"] if event["event"] == "begin" else ():
            yield plain(f"{finding['what']}; {finding['done']}")


def _recipe(recipe: Recipe, result: dict[str, Any]) -> Iterator[str]:
    asked = {name: value for name, value in recipe.asked.items() if name not in DATA}
    if "model" in asked:
        asked["model"] = _last(asked["model"])
    resolved = recipe.resolved
    told = {
        "strategy": resolved["strategy"],
        "phases": [phase["name"] for phase in resolved.get("phases", [])],
        "chosen": result["chosen"],
        "seed": resolved["seed"],
        "asked": asked,
        "acclimate": recipe.acclimate,
    }
    yield "## Recipe"
    yield "What was asked, and what it came to; `recipe.yaml` holds the whole, and `acclimate fit DATA --recipe recipe.yaml` replays it."
    yield _fenced(yaml.safe_dump(told, sort_keys=False, allow_unicode=True).rstrip(), "yaml")


# --- names, as they may be shown


def model_name(run: Run) -> str:
    return run.path.resolve().name


def _data_name(recipe: Recipe) -> str:
    return "data in memory" if recipe.data.startswith("<") else Path(recipe.data).name or "data"


def _base(model: dict[str, Any]) -> str:
    """The name of what it started from, without folders of the machine that it lay on."""
    return str(model["name"]) if HUB.fullmatch(model["weights"]) else _last(model["name"])


def _last(name: str) -> str:
    return Path(name).name if "/" in name else name


def plain(words: str) -> str:
    """Words on one line of Markdown that mean nothing in it, nor in HTML."""
    return MARKS.sub(r"\\\g<0>", html.escape(" ".join(words.split()), quote=False))


def _table(names: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [names, tuple("---" for _ in names), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _fenced(code: str, language: str) -> str:
    """A block of code, fenced longer than any run of backticks in it."""
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", code)), 3)
    return f"{fence}{language}\n{code}\n{fence}"
