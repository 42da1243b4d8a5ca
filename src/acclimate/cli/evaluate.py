"""acclimate evaluate: the figures of a run on labelled data."""

from __future__ import annotations

import json
from typing import Any

import click


@click.command()
@click.argument("run")
@click.argument("data")
@click.option("--split", metavar="NAME", help="train, val or test [default: test where there is one, else val]")
@click.option("--image", metavar="NAME", help="the column that holds the pictures")
@click.option("--label", metavar="NAME", help="the column that holds the labels")
@click.option("--separator", metavar="TEXT", help="what separates several labels in one field")
@click.option("--device", default="auto", help="where to run: auto, cpu, cuda or mps")
@click.option("--json", "as_json", is_flag=True, help="print one JSON object on stdout")
def evaluate(run: str, data: str, as_json: bool, **asked: Any) -> int:
    """The figures of RUN on DATA; on the data of the fit the same numbers as at its end."""
    from acclimate.cli.terminal import Terminal, print_metrics
    from acclimate.verbs.evaluate import evaluate as verb

    with Terminal() as watcher:
        result = verb(run, data, watcher=watcher, **{name: value for name, value in asked.items() if value is not None})
    if as_json:
        click.echo(json.dumps(result))
    else:
        print_metrics(result)
    return 0
