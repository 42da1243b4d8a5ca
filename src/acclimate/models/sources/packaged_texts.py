"""Language models that come as files inside packages of the index (`models.packages`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import nn

from acclimate.core.errors import fail, near
from acclimate.models.card import Card
from acclimate.models.packages import table
from acclimate.models.packages.table import TEXTS
from acclimate.models.sources import language, static
from acclimate.models.sources.source import Source
from acclimate.models.texts import Texts

BUILT_BY: dict[str, Any] = {"bert": language, "llama": language, "static": static}
"""By the architecture: the file that knows its preprocessing and builds it."""


def _entry(name: str) -> table.PackagedText:
    if name not in TEXTS:
        raise fail(f"model {name!r}", "is not a packaged model of texts", near(name, TEXTS))
    return TEXTS[name]


def card(name: str) -> Card:
    entry = _entry(name)
    found = table.find(entry) is not None
    config, shown = {}, Texts(language.READS, language.READS, 0, entry.prefix)
    if found:
        folder = table.folder(entry)
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        shown = BUILT_BY[entry.architecture].preprocessing(folder, config, name, entry.prefix)
    return Card(
        name=name,
        source="packaged-texts",
        architecture=entry.architecture,
        licence=entry.licence,
        preprocessing=shown,
        weights=f"{entry.title}, package {entry.package} {entry.version}",
        offline=found,
        remedy="" if found else f"acclimate models get {name}",
        config=config,
    )


def build(card: Card, size: int, pretrained: bool) -> nn.Module:
    build = BUILT_BY[card.architecture].build
    if pretrained or not card.config:  # an architecture, too, is known only from the files
        return build(card if card.config else _made(card.name), table.folder(_entry(card.name)))
    return build(card, None)


def _made(name: str) -> Card:
    table.folder(_entry(name))
    return card(name)


def get(card: Card) -> Path:
    return table.get(_entry(card.name))


SOURCE = Source(names=lambda: list(TEXTS), card=card, build=build, get=get)
