"""What pictures and folders of results have in common: colours, an empty figure, its files, and a folder that is free."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from acclimate.core.errors import fail

COLOURS = ("#3b6ea8", "#d1603d")


def free(folder: Path) -> Path:
    """Raises `UserError` for a path that is no folder, or a folder with something in it."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise fail(f"--out {folder}", "is there already", "name a new folder, or remove it")
    return folder


def empty(width: float, height: float) -> tuple[Any, Any]:
    """(figure, axes) of so many inches, drawn without a screen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def files(figure: Any, stem: str) -> dict[str, bytes]:
    """The figure as STEM.svg and STEM.png."""
    found = {}
    for kind in ("svg", "png"):
        buffer = io.BytesIO()
        figure.savefig(buffer, format=kind, dpi=150)
        found[f"{stem}.{kind}"] = buffer.getvalue()
    return found
