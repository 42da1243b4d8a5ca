"""acclimate runs: the runs of a folder, newest first."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command()
@click.argument("folder", default="runs")
@click.option("--json", "as_json", is_flag=True, help="print one JSON list on stdout")
def runs(folder: str, as_json: bool) -> int:
    """The runs in FOLDER [default: runs], newest first: what each reached, and how far it is."""
    from rich.console import Console
    from rich.table import Table

    from acclimate.core.units import duration
    from acclimate.verbs.judging import interval
    from acclimate.verbs.runs import runs as verb

    found = verb(folder)
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False))
        return 0
    if not found:
        click.echo(f"no runs in {folder}")
        return 0
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("run", "figure", "on", "time", "strategy", "model"):
        table.add_column(name, overflow="fold", no_wrap=name != "model")
    for one in found:
        figure = f"{one['metric'].replace('_', ' ')} {interval(one['figure'])}" if one["figure"] else one["state"]
        took = duration(one["seconds"]) if one["seconds"] is not None else ""
        cells = (_within(one["run"], folder), figure, one["split"], took, one["strategy"], one["model"])
        table.add_row(*(_plain(cell) for cell in cells))
    Console(highlight=False).print(table)
    return 0


def _within(run: str, folder: str) -> str:
    """The path of a run from the folder on."""
    path = Path(run)
    return str(path.relative_to(folder)) if path != Path(folder) else run


def _plain(cell: str | None) -> str:
    from rich.markup import escape

    return escape(cell or "")
