"""A run of ours as a starting point: its backbone, as it was fitted."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from acclimate.core.errors import fail
from acclimate.models.card import Card, preprocessing_of
from acclimate.models.detection.detector import NECK, Detector
from acclimate.models.sources.source import Source
from acclimate.models.weights import fill, read_weights

MANIFEST, WEIGHTS = "model.json", "model.safetensors"
BODY = "backbone.trunk."
"""How the names of the backbone's tensors begin in a saved model."""


def is_run(path: Path) -> bool:
    return (path / MANIFEST).is_file()


def card(name: str) -> Card:
    """The card of the model that the run started from, with the run's weights and preprocessing."""
    folder = Path(name)
    manifest = _manifest(folder)
    return replace(
        Card.of(manifest["model"], folder),
        name=name,
        preprocessing=preprocessing_of(manifest["preprocessing"], folder),
        weights=f"run {name}",
        offline=True,
        remedy="",
    )


def build(card: Card, size: int, pretrained: bool) -> nn.Module:
    from acclimate.models.sources import SOURCES

    folder = Path(card.name)
    module: nn.Module = SOURCES[card.source].build(card, size, False)
    if pretrained:
        tensors = read_weights(folder / WEIGHTS)
        if isinstance(module, Detector):
            return _whole(module, folder, tensors)
        body = {name.removeprefix(BODY): tensor for name, tensor in tensors.items() if name.startswith(BODY)}
        # the classifier and what never runs are not in a run: the module's own stand in, and are taken out when it is cut
        fill(module, {**module.state_dict(), **body}, None, f"weights {str(folder / WEIGHTS)!r}")
    return module


def _whole(detector: Detector, folder: Path, tensors: dict[str, torch.Tensor]) -> Detector:
    """A detector with the head of the run, which tells its classes apart."""
    detector.head = detector.head.renewed(_manifest(folder)["task"]["spec"]["classes"])
    detector.head.tuned = "proposals" if detector.head.tuned == "fresh" else detector.head.tuned
    names = {BODY: "body.", f"backbone.{NECK}.": f"{NECK}.", "head.": "head."}
    parts = ((begin, own, name) for name in tensors for begin, own in names.items() if name.startswith(begin))
    state = {own + name.removeprefix(begin): tensors[name] for begin, own, name in parts}
    fill(detector, state, None, f"weights {str(folder / WEIGHTS)!r}")
    return detector


def get(card: Card) -> Path:
    return Path(card.name)


def _manifest(folder: Path) -> dict[str, dict]:
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if manifest.keys() >= {"model", "preprocessing"}:
            return manifest
    except (OSError, ValueError):
        pass
    raise fail(f"run {str(folder)!r}", "holds no model that can be read", "give the run folder of a finished fit")


SOURCE = Source(names=list, card=card, build=build, get=get)
