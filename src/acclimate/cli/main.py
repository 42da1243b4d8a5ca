"""The entry point: finds the command, and gives every mistake of the user's one form and exit code 2."""

from __future__ import annotations

import os
import sys

import click

import acclimate
from acclimate.cli import COMMANDS
from acclimate.cli.mistakes import report

SPIN = "3000"
"""Turns that a thread of libgomp waits for the others before it sleeps. The default is some hundred thousand: where another
process takes one of the cores, each of some hundred operations a step then waits whole time slices (docs/log.md)."""

HELP = {
    "fit": "Fine-tune a pretrained model on your data.",
    "predict": "Predict with a run: files, folders, globs, or a list on stdin.",
    "evaluate": "The figures of a run on labelled data.",
    "compare": "Which of several runs is better, and whether that can be told.",
    "runs": "List the runs of a folder.",
    "choose": "Which pretrained model to start from, and what it costs.",
    "shift": "Do two data sets differ, does it matter, and in which way?",
    "models": "List pretrained models, show one, fetch one.",
    "cache": "Show the cache of frozen activations, or clear it.",
}


class Commands(click.Group):
    """Commands by name, imported when they run; the help of the group needs none of them."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        return COMMANDS[name]

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, HELP[name]) for name in COMMANDS])


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(acclimate.__version__, "--version", prog_name="acclimate")
def cli() -> None:
    """Fine-tune a pretrained model on your data: fast, on the machine you have, and with the truth about how good it is.

    \b
    acclimate fit photos/               a folder of pictures in class folders
    acclimate fit reviews.csv           a table with a column of texts and one of labels
    acclimate predict runs/photos-1 x.jpg
    """


def main() -> None:
    """Run the command line; exit 0, 2 for mistakes of the user's, 130 or 143 for a stop by a signal, 1 for faults of ours.

    `predict` also exits 1 where it could read no sample at all.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", SPIN)  # read when torch is imported
    try:
        sys.exit(cli.main(prog_name="acclimate", standalone_mode=False) or 0)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.ctx.get_help())
        sys.exit(2)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        sys.exit(130)
    except Exception as error:
        sys.exit(report(error))
