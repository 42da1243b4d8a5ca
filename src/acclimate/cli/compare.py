"""acclimate compare: which of several runs is better, and what each costs."""

from __future__ import annotations

import json
from typing import Any

import click

from acclimate.cli.fit import option


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN RUN...")
@click.option("--data", help="labelled data that each answers now [default: the samples that judged all of them]")
@click.option("--split", metavar="NAME", help="of --data: train, val or test [default: test where there is one]")
@option("image")
@option("text")
@option("label")
@option("separator")
@option("quoting")
@option("encoding")
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

    from acclimate.cli.terminal import duration, size
    from acclimate.verbs.judging import interval

    console = Console(highlight=False)
    console.print(found["verdict"], markup=False, soft_wrap=True)
    for note in found["notes"]:
        console.print(f"  {note}", markup=False, soft_wrap=True)
    table = Table(box=None, pad_edge=False, header_style="dim")
    primary = found["metric"]
    names = ("run", "model", primary.replace("_", " "), "fit", "alone", "in batches", "memory", "on disk", "parameters")
    for name in names:
        table.add_column(name, overflow="fold")
    for one in found["runs"]:
        cost = one["cost"]

        def told(name: str, form: Any, cost: dict[str, Any] = cost) -> str:
            return "-" if cost[name] is None else form(cost[name])

        table.add_row(
            escape(one["name"]),
            escape(one["model"] or ""),
            interval(one["metrics"][primary]) if primary in one["metrics"] else "-",
            told("seconds", duration),
            told("latency_ms", "{:.1f} ms".format),
            told("batch_ms", "{:.1f} ms".format),
            told("memory_bytes", size),
            told("disk_bytes", size),
            told("parameters", "{:,}".format),
        )
    console.print(table)
    for pair in found["pairs"]:
        word = "better" if pair["told"] else "within noise"
        p = f"p {pair['p']:.2g}" + (f", {pair['adjusted']:.2g} corrected" if len(found["pairs"]) > 1 else "")
        line = f"  {pair['better']} - {pair['than']}: {interval(pair['difference'], sign=True)}, {p}: {word}"
        console.print(line, markup=False, soft_wrap=True)
