"""acclimate choose: which pretrained model to start from, at which size, with what it costs."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

import click

from acclimate.cli.fit import option

if TYPE_CHECKING:
    from acclimate.verbs.choose import Choice, Judged

LEFT = range(4, 10)
"""Columns of figures, which are flush right."""
LEGEND = """
* on the front: nothing else is as good and as cheap; = not told from the best, by a standard error; by: the last round it took part in:
what dropped out there has the best's figure less how far it was behind, sample by sample
order: by accuracy at the source and size alone; alone: latency of one sample; batch: of a sample in the best batch; ~ by estimate"""


@click.command()
@click.argument("data")
@click.option(
    "--models", metavar="A,B,...", default="", help="names beside what is on this machine; NAME=FILE gives the weights"
)
@click.option("--only", is_flag=True, help="look at the models named by --models alone")
@click.option(
    "--minutes", type=float, metavar="X", help="about how long it may take; what there is no time for is told"
)
@click.option(
    "--max-latency", type=float, metavar="MS", help="milliseconds that one sample alone may take on this machine"
)
@click.option("--max-params", type=float, metavar="M", help="millions of parameters at most")
@click.option("--licence", metavar="NAME", help="permissive, or a licence by name, that the weights must have")
@click.option(
    "--target", metavar="B", help="unlabelled data; of what is within noise take what will be right there most often"
)
@click.option("--out", metavar="FOLDER", help="write choose.json and a picture of the front here")
@option("strategy")
@option("size")
@option("task")
@option("format")
@option("image")
@option("text")
@option("label")
@option("split")
@option("group")
@option("separator")
@option("quoting")
@option("encoding")
@option("val")
@option("test")
@option("seed")
@option("device")
@option("precision")
@click.option("--json", "as_json", is_flag=True, help="print one JSON object on stdout")
def choose(data: str, as_json: bool, **asked: Any) -> int:
    """Look at every pretrained model that is usable now, at several sizes of its inputs, on samples of DATA: how good it is, what it
    costs on this machine, and which one to start from."""
    from acclimate.cli.terminal import Terminal
    from acclimate.verbs.choose import choose as verb

    with Terminal() as watcher:
        found = verb(data, watcher=watcher, **{name: value for name, value in asked.items() if value is not None})
    if as_json:
        click.echo(json.dumps(found.json(), ensure_ascii=False))
        return 0
    _print(found, data)
    if asked["out"] is not None:
        click.echo(f"written to {asked['out']}")
    return 0


def _print(found: Choice, data: str) -> None:
    click.echo(f"{found.why}\n")
    rows = [_header(found), *(_row(one, found.target is not None) for one in found.candidates)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (
            cell.rjust(width) if number in LEFT else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        click.echo("  ".join(cells).rstrip())
    click.echo(LEGEND)
    for note in found.notes:
        click.echo(f"note: {note}")
    words = [
        "acclimate",
        "fit",
        data,
        *(word for name, value in found.settings.items() for word in (f"--{name}", str(value))),
    ]
    click.echo(f"go on with: {shlex.join(words)}")


def _header(found: Choice) -> list[str]:
    expected = [f"expected on {found.target}"] if found.target is not None else []
    quality = found.metric.replace("_", " ")
    return ["", "candidate", quality, "by", "order", "alone", "batch", "memory", "disk", "fit", *expected, "licence"]


def _row(one: Judged, target: bool) -> list[str]:
    from acclimate.core.units import duration, size

    costs, quality, told = one.entrant.costs, one.quality, one.json()
    expected = told["expected_on_target"]
    span = "-" if expected is None else f"{min(expected.values()):.2f} to {max(expected.values()):.2f}"
    return [
        ("*" if one.on_front else " ") + ("=" if one.within else " "),
        one.entrant.title,
        f"{quality['value']:.3f} [{quality['low']:.3f}, {quality['high']:.3f}]",
        one.entrant.last,
        str(one.static),
        f"{1000 * costs.latency:.3g} ms",
        f"{1000 * costs.each:.3g} ms",
        *("-" if value is None else size(value) for value in (costs.memory, costs.disk)),
        ("" if one.entrant.timed else "~") + duration(one.entrant.training),
        *([span] if target else []),
        told["licence"],
    ]
