"""`Source`: one place that pretrained models come from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from acclimate.models.card import Card
from acclimate.models.weights import fill_from


def _same(card: Card) -> Card:
    return card


@dataclass(frozen=True)
class Source:
    """A few functions; a new source is one file that defines them and one line in `SOURCES`."""

    names: Callable[[], list[str]]
    """What can be named here, without the prefix of the source; no weights are read, no network is used."""
    card: Callable[[str], Card]
    """The card of a name, without parameters and MACs. Raises `UserError` with near names for an unknown one."""
    build: Callable[[Card, int, bool], nn.Module]
    """`build(card, size, pretrained)`: the whole module, with its classifier, for inputs of size x size pixels.

    Pretrained: with the card's weights, read strictly. Raises `UserError` where they are not at hand.
    """
    get: Callable[[Card], Path]
    """Fetch the weights for use without a network; where they lie."""
    read: Callable[[nn.Module, Card, Path], None] = fill_from
    """`read(module, card, path)`: put the weights of a file into what `build` gave, strictly. Raises `UserError` where they do not fit."""
    fresh: Callable[[Card], Card] = _same
    """The card where random weights are asked for: what is built may then differ in what only pretrained weights need."""
