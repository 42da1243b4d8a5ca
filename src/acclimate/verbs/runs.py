"""runs: the run folders of a folder, what each reached and how far it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from acclimate.core.errors import UserError, fail
from acclimate.core.recipe import Recipe
from acclimate.core.run import Run

DEPTH = 2
"""How deep below the folder runs are looked for."""


def runs(folder: str | Path = "runs") -> list[dict[str, Any]]:
    """Every run in a folder, newest first: {"run", "state", "data", "task", "model", "strategy", "split", "seconds", "metric", "figure",
    "verdict"}. "state": "finished", "unfinished", or "damaged" where a file cannot be read; what is not known is null.

    Raises `UserError` for a folder that is not there.
    """
    path = Path(folder)
    if not path.is_dir():
        raise fail(
            f"folder {str(path)!r}", "is not there" if not path.exists() else "is a file", "name a folder of runs"
        )
    found = [Run(path)] if Run(path).exists else _below(path, DEPTH)
    return [_row(run) for run in sorted(found, key=lambda run: -run.file("recipe.yaml").stat().st_mtime)]


def _below(folder: Path, depth: int) -> list[Run]:
    found = []
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.name.startswith("."):
            found += [Run(path)] if Run(path).exists else _below(path, depth - 1) if depth > 1 else []
    return found


def _row(run: Run) -> dict[str, Any]:
    names = ("data", "task", "model", "strategy", "split", "seconds", "metric", "figure", "verdict")
    row: dict[str, Any] = {"run": str(run.path), "state": "unfinished", **dict.fromkeys(names)}
    try:
        recipe = Recipe.read(run.file("recipe.yaml"))
        row |= {"data": recipe.data, **{name: recipe.resolved.get(name) for name in ("task", "model", "strategy")}}
        if run.finished:
            told = run.metrics()
            name, figures = told["primary"], told["metrics"]
            row |= {"state": "finished", "metric": name, "figure": figures.get(name), "verdict": told["verdict"]}
            row |= {name: told[name] for name in ("task", "model", "strategy", "split", "seconds")}
    except (UserError, OSError, ValueError, KeyError, TypeError, AttributeError):
        row["state"] = "damaged"
    return row
