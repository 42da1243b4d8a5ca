"""acclimate models: list pretrained models, show one, fetch one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from acclimate.models.card import Card
    from acclimate.verbs.models import Shown


class Words(click.Group):
    """A first word that is no command is what to look for: `acclimate models resnet`."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] not in context.help_option_names):
            args = ["list", *args]
        return super().parse_args(context, args)


as_json = click.option("--json", "as_json", is_flag=True, help="print one JSON object on stdout")


@click.group(cls=Words, subcommand_metavar="[WORD] | show NAME | get NAME")
def models() -> None:
    """List pretrained models whose name holds WORD, and say which are usable without a network.

    \b
    acclimate models                      packaged models, and what is on this machine
    acclimate models resnet               every model with "resnet" in its name
    acclimate models show torchvision:resnet50
    acclimate models get mobilenetv2
    """


@models.command("list")
@click.argument("word", default="")
@as_json
def list_(word: str, as_json: bool) -> int:
    """List the models whose name holds WORD."""
    from acclimate.verbs.models import find

    cards = find(word)
    if as_json:
        click.echo(json.dumps({"models": [card.json() for card in cards]}))
    else:
        _print_list(cards, word)
    return 0


@models.command()
@click.argument("name")
@as_json
def show(name: str, as_json: bool) -> int:
    """Show what is known of NAME, and its stages."""
    from acclimate.verbs.models import show

    shown = show(name)
    if as_json:
        click.echo(json.dumps(shown.json()))
    else:
        _print_shown(shown)
    return 0


@models.command("get")
@click.argument("name")
@as_json
def get_(name: str, as_json: bool) -> int:
    """Fetch the weights of NAME for use without a network, and say where they lie."""
    from acclimate.verbs.models import get

    path = get(name)
    click.echo(json.dumps({"model": name, "path": str(path)}) if as_json else f"{name}: {path}")
    return 0


def _print_list(cards: list[Card], word: str) -> None:
    """Without a word, thousands of names would hide the few that matter: those that work now."""
    shown = cards if word else [card for card in cards if card.offline or card.source == "packaged"]
    table = _table("model", "input", "licence", "usable offline")
    for card in shown:
        offline = "yes" if card.offline else "no weights" if card.weights == "none" else "after get"
        table.add_row(card.name, f"{card.preprocessing.size} {card.preprocessing.unit}", card.licence, offline)
    _console().print(table)
    if len(shown) < len(cards):
        click.echo(
            f"and {len(cards) - len(shown):,} more by name: acclimate models WORD; hf:owner/name and folders too"
        )
    elif not cards:
        click.echo(f"no name holds {word!r}; hf:owner/name and folders can be named too")


def _print_shown(shown: Shown) -> None:
    card, look = shown.card, shown.card.preprocessing
    rows = {
        "model": card.name,
        "architecture": f"{card.architecture} ({card.source})",
        "weights": card.weights,
        "licence": card.licence,
        "usable offline": "yes" if card.offline else f"no: {card.remedy}",
        "preprocessing": look.told(),
        "parameters": f"{card.parameters:,} without the classifier",
        "MACs": f"{(card.macs or 0) / 1e6:,.0f} million a sample",
    }
    facts = _table("", "", show_header=False)
    for name, value in rows.items():
        facts.add_row(name, value)
    stages = _table("", "stage", "parameters")
    for number, (name, parameters) in enumerate(shown.stages):
        stages.add_row(str(number), name, f"{parameters:,}")
    console = _console()
    console.print(facts)
    console.print(stages)


def _table(*columns: str, **look: Any) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, **look)
    for name in columns:
        table.add_column(name, overflow="fold", justify="right" if name in ("input", "parameters") else "left")
    return table


def _console() -> Any:
    from rich.console import Console

    return Console(highlight=False, markup=False)
