"""acclimate fit: parse, call the verb, show what goes on, print the result."""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Callable
from typing import Any, get_args

import click

from acclimate.cli.mistakes import told
from acclimate.core.recipe import Options, choices, flag, repeats
from acclimate.data.readers import READERS
from acclimate.objectives import OBJECTIVES
from acclimate.strategies import ADAPTATIONS, STRATEGIES
from acclimate.tracking import TRACKERS

LISTS = {
    "format": ", ".join(READERS),
    "strategy": f"{', '.join(STRATEGIES)} (last:2 for two stages)",
    "objective": ", ".join(OBJECTIVES),
    "adapt": f"{', '.join(ADAPTATIONS)} (shot:2: the last two stages learn too)",
}


def with_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add every field of `Options` to a command; the values are checked by `Options` alone, so that all mistakes come together."""
    for name in reversed(Options.model_fields):
        command = option(name)(command)
    return command


def option(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A field of `Options` as an option of a command; None where it is not said."""
    field = Options.model_fields[name]
    values = ", ".join(choices(name)) or LISTS.get(name, "")
    default = "" if field.default is None else f" [default: {field.default}]"
    about = f"{field.description or ''}{f': {values}' if values else ''}{default}"
    several: dict[str, Any] = (
        {"multiple": True, "callback": lambda _, __, given: given or None} if repeats(name) else {}
    )
    return click.option(flag(name), name, metavar=_metavar(field.annotation), help=about, **several)


def reading(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say how labelled data are read by a model that is there already."""
    for name in ("encoding", "quoting", "separator", "label", "text", "image"):
        command = option(name)(command)
    return command


def _metavar(annotation: Any) -> str:
    kinds = {kind for kind in (annotation, *get_args(annotation)) if isinstance(kind, type)}
    return "N" if int in kinds else "X" if float in kinds else "NAME"


@click.command()
@click.argument("data", required=False)
@with_options
@click.option("--out", metavar="FOLDER", help="the run folder [default: runs/NAME-N]")
@click.option("--recipe", metavar="FILE", help="a recipe.yaml to replay; other options replace its entries")
@click.option("--resume", is_flag=True, help="go on with the newest unfinished run of the same command")
@click.option("--fresh", is_flag=True, help="train again even what the cache remembers having trained alike")
@click.option(
    "--track",
    metavar="NAME",
    multiple=True,
    help=f"where curves, settings and mistakes are kept besides, for any number of names: {', '.join(TRACKERS)}",
)
@click.option("--dry-run", is_flag=True, help="show what would train, then stop")
@click.option(
    "--checkpoint-every",
    type=click.FloatRange(min=0),
    default=30.0,
    metavar="SECONDS",
    help="between checkpoints [default: 30]",
)
@click.option("--quiet", is_flag=True, help="print nothing but the result")
@click.option("--json", "as_json", is_flag=True, help="print one JSON object on stdout, all else on stderr")
def fit(data: str | None, quiet: bool, as_json: bool, **asked: Any) -> int:
    """Fine-tune a pretrained model on DATA: class folders; a table with a column of pictures or texts and one of labels; or boxes: Pascal
    VOC, COCO, YOLO, or a table with a row a box (image, xmin, ymin, xmax, ymax, label) or a row a picture."""
    began = time.monotonic()
    from acclimate.cli.terminal import Terminal, print_metrics, print_plan
    from acclimate.core.run import Run
    from acclimate.engine.trainer import Stopped
    from acclimate.engine.watcher import Watcher
    from acclimate.verbs.fit import fit as verb

    watcher = Watcher() if quiet else Terminal()
    try:
        with watcher:
            done = verb(data, watcher=watcher, began=began, **asked)
    except Stopped as stopped:
        click.echo(f"stopped; {_way_on(watcher.run)}", err=True)
        return 128 + stopped.signal
    except Exception as error:
        if watcher.run is not None:
            ours = "" if told(error) else "this is a fault of acclimate; "
            error.__notes__ = [*getattr(error, "__notes__", ()), ours + _way_on(watcher.run)]  # type: ignore[attr-defined]
        raise
    shown: Any = done.metrics() if isinstance(done, Run) else done
    if as_json:
        click.echo(json.dumps(shown if isinstance(done, Run) else done.json()))
    elif isinstance(done, Run):
        print_metrics(shown)
    else:
        print_plan(done)
    return 0


def _way_on(run: Any) -> str:
    """Where the run is, and the line that goes on with it."""
    line = [word for word in sys.argv[1:] if word != "--resume"]
    return f"the run is saved in {run.path}. Go on with:\n  acclimate {shlex.join(line)} --resume"
