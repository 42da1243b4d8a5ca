"""acclimate evaluate: the figures of a run on labelled data."""

from __future__ import annotations

import json
from typing import Any

import click

from acclimate.cli.fit import reading


@click.command()
@click.argument("run")
@click.argument("data")
@click.option("--split", metavar="NAME", help="train, val or test [default: test where there is one, else val]")
@click.option(
    "--slice",
    "slice_",
    multiple=True,
    metavar="COLUMN",
    help="tell the primary figure for each value of this column too; may be said several times",
)
@reading
@click.option("--device", default="auto", help="where to run: auto, cpu, cuda or mps")
@click.option("--json", "as_json", is_flag=True, help="print one JSON object on stdout")
def evaluate(run: str, data: str, slice_: tuple[str, ...], as_json: bool, **asked: Any) -> int:
    """The figures of RUN on DATA; on the data of the fit the same numbers as at its end."""
    from acclimate.cli.terminal import Terminal, print_metrics
    from acclimate.verbs.evaluate import evaluate as verb

    with Terminal() as watcher:
        said = {name: value for name, value in asked.items() if value is not None}
        result = verb(run, data, slice=slice_, watcher=watcher, **said)
    if as_json:
        click.echo(json.dumps(result))
    else:
        print_metrics(result)
    return 0
