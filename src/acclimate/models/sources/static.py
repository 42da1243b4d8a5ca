"""Static token vectors as folders of ours: config.json, model.safetensors, tokenizer.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from acclimate.models.card import Card
from acclimate.models.packages.content import WEIGHTS
from acclimate.models.sources.language import READS
from acclimate.models.static import StaticVectors
from acclimate.models.texts import Texts
from acclimate.models.weights import fill, read_weights

MOST = 8192
"""Tokens of a text that may be asked for: the vectors set no limit, memory does."""


def preprocessing(folder: Path, config: dict[str, Any], name: str, prefix: str = "") -> Texts:
    return Texts(READS, MOST, config["vocab_size"], prefix, family="static", folder=folder)


def build(card: Card, folder: Path | None) -> nn.Module:
    """The table, with the vectors in `folder`, read strictly; with random ones where it is None."""
    module = StaticVectors(card.config["vocab_size"], card.config["hidden_size"])
    if folder is not None:
        fill(module, read_weights(folder / WEIGHTS), None, f"model {card.name!r}")
    return module
