"""A run as trackers compare runs: its settings and its figures, each one name and one value."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from acclimate.core.recipe import Recipe
from acclimate.core.run import Run

Value = str | int | float | bool

TOLD = ("name", "why", "start", "seed")
"""Of a phase: no settings of its own."""
APART = ("stages", "phases")
"""Of what was resolved: told otherwise, or not to be compared."""


def settings(run: Run) -> dict[str, Value]:
    """What was asked and what it was resolved to; of a finished run also the phase that was chosen, as `phase.lr` and so on."""
    recipe = Recipe.read(run.file("recipe.yaml"))
    resolved = {name: value for name, value in recipe.resolved.items() if name not in APART}
    asked = {name: json.dumps(value) if isinstance(value, dict) else value for name, value in recipe.asked.items()}
    told = {"data": recipe.data, **resolved, **asked}
    chosen = [event["index"] for event in run.events() if event["event"] == "chosen"]
    if chosen and "phases" in recipe.resolved:
        phase = recipe.resolved["phases"][chosen[-1]]
        told |= {"phases": [one["name"] for one in recipe.resolved["phases"]]}
        told |= {"chosen": phase["name"], "phase": {name: value for name, value in phase.items() if name not in TOLD}}
    return dict(_flat(told))


def _flat(tree: dict[str, Any], above: str = "") -> Iterator[tuple[str, Value]]:
    """Inner keys by a dot; a list is one text, and nothing is left out as nothing."""
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{name}.")
        elif isinstance(value, list | tuple):
            yield f"{above}{name}", ", ".join(map(str, value))
        elif value is not None:
            yield f"{above}{name}", value if isinstance(value, Value) else str(value)


def figures(run: Run) -> dict[str, float]:
    """The figures of a finished run, with the ends of their intervals: {"test/accuracy": 0.91, "test/accuracy low": 0.76, ...}."""
    result = run.metrics()
    found: dict[str, float] = {"seconds": result["seconds"]}
    for name, metric in result["metrics"].items():
        one = f"{result['split']}/{name}"
        found |= {one: metric["value"], f"{one} low": metric["low"], f"{one} high": metric["high"]}
    return found


def verdict(run: Run) -> str:
    """The result in one sentence; empty where the run tells none."""
    return str(run.metrics().get("verdict", ""))
