"""acclimate compare: which of several runs is better, and what each costs."""

from __future__ import annotations

import json
from typing import Any

import click

from acclimate.cli.fit import reading

COSTS = {
    "the fit": ("seconds", "seconds"),
    "one sample alone": ("latency_ms", "ms"),
    "a sample in batches": ("batch_ms", "ms"),
    "memory": ("memory_bytes", "bytes"),
    "on disk": ("disk_bytes", "bytes"),
    "parameters": ("parameters", ""),
}
"""What a run costs, as measured at the end of its fit: what it is called, its name among the costs, its unit."""


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN RUN...")
@click.option("--data", help="labelled data that each answers now [default: the samples that judged all of them]")
@click.option("--split", metavar="NAME", help="of --data: train, val or test [default: test where there is one]")
@reading
@click.option("--device", default="auto", help="where to run: auto, cpu, cuda or mps")
@click.option("--json", "as_json", is_flag=True, help="print one JSON object on stdout")
def compare(runs: tuple[str, ...], as_json: bool, **asked: Any) -> int:
    """Compare two RUNs or more on the same samples: which is better, by how much, and whether that can be told from noise."""
    from acclimate.cli.terminal import Terminal
    from acclimate.verbs.compare import compare as verb

    with Terminal() as watcher:
        found = verb(*runs, watcher=watcher, **{name: value for name, value in asked.items() if value is not None})
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False))
    else:
        show(found)
    return 0


def show(found: dict[str, Any]) -> None:
    """The sentence, then the runs with their costs, then the pairs."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from acclimate.core.units import duration, size
    from acclimate.verbs.judging import interval

    forms = {"seconds": duration, "bytes": size, "ms": "{:.1f} ms".format, "": "{:,}".format}
    console = Console(highlight=False)
    console.print(found["verdict"], markup=False, soft_wrap=True)
    for note in found["notes"]:
        console.print(f"  {note}", markup=False, soft_wrap=True)
    table = Table(box=None, pad_edge=False, header_style="bold")
    primary = found["metric"]
    table.add_column("")
    for one in found["runs"]:
        table.add_column(escape(one["name"]), overflow="fold")
    rows = {
        "model": [escape(one["model"] or "-") for one in found["runs"]],
        "strategy": [escape(one["strategy"] or "-") for one in found["runs"]],
        primary.replace("_", " "): [
            interval(one["metrics"][primary]) if primary in one["metrics"] else "-" for one in found["runs"]
        ],
    }
    for told, (name, kind) in COSTS.items():
        costs = [one["cost"][name] for one in found["runs"]]
        rows[told] = ["-" if cost is None else forms[kind](cost) for cost in costs]
    for told, cells in rows.items():
        table.add_row(told, *cells)
    console.print(table)
    for pair in found["pairs"]:
        word = "better" if pair["told"] else "within noise"
        p = f"p {pair['p']:.2g}" + (f", {pair['adjusted']:.2g} corrected" if len(found["pairs"]) > 1 else "")
        line = f"  {pair['better']} - {pair['than']}: {interval(pair['difference'], sign=True)}, {p}: {word}"
        console.print(line, markup=False, soft_wrap=True)
        for name, metric in pair["also"].items():
            console.print(f"    {name.replace('_', ' ')} {interval(metric, sign=True)}", markup=False)
