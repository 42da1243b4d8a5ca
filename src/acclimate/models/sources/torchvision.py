"""torchvision's classification models, with the weights it calls DEFAULT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision import models

from acclimate.core.errors import fail, near
from acclimate.models.card import Card
from acclimate.models.offline import fetched
from acclimate.models.pictures import Pictures
from acclimate.models.sources.source import Source
from acclimate.models.weights import read_weights

SIZED = {"vit_": "image_size", "maxvit_": "input_size"}
"""Architectures that are built for one size, and the argument that says which."""
AUXILIARY = {
    "googlenet": {"transform_input": True, "init_weights": False},
    "inception_v3": {"transform_input": True, "init_weights": False},
}
"""Arguments that go with the weights of these two."""


def names() -> list[str]:
    return models.list_models(module=models)


def card(name: str) -> Card:
    known = names()
    if name not in known:
        raise fail(
            f"model 'torchvision:{name}'", "is not one of torchvision's classification models", near(name, known)
        )
    weights = weights_of(name)
    shown = weights.transforms()
    offline = cached(weights).is_file()
    return Card(
        name=f"torchvision:{name}",
        source="torchvision",
        architecture=name,
        licence=weights.meta.get("license", "not stated"),
        preprocessing=Pictures(
            size=shown.crop_size[0],
            interpolation=shown.interpolation.value,
            mean=tuple(shown.mean),
            std=tuple(shown.std),
            fixed=_sized(name) is not None,
        ),
        weights=f"torchvision {weights}",
        offline=offline,
        remedy="" if offline else f"acclimate models get torchvision:{name}",
        accuracy=_stated(weights),
    )


def build(card: Card, size: int, pretrained: bool) -> nn.Module:
    name = card.architecture
    path = get(card) if pretrained else None
    arguments: dict[str, Any] = dict(AUXILIARY.get(name, {}))
    sized = _sized(name)
    if sized == "image_size":
        arguments[sized] = size
    elif sized:
        arguments[sized] = (size, size)
    module = models.get_model(name, weights=None, **arguments)
    if path is not None:
        module.load_state_dict(read_weights(path), strict=True)
    return module


def get(card: Card) -> Path:
    weights = weights_of(card.architecture)
    path = cached(weights)
    return path if path.is_file() else fetched(weights.url, path, card.name, path.stem.rpartition("-")[2])


def weights_of(name: str) -> Any:
    """The weights that torchvision calls DEFAULT, of any of its models."""
    return models.get_model_weights(name).DEFAULT


def cached(weights: Any) -> Path:
    """Where torchvision keeps the file."""
    return Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rpartition("/")[2]


def _stated(weights: Any) -> float | None:
    top: float | None = weights.meta.get("_metrics", {}).get("ImageNet-1K", {}).get("acc@1")
    return None if top is None else top / 100


def _sized(name: str) -> str | None:
    return next((argument for prefix, argument in SIZED.items() if name.startswith(prefix)), None)


SOURCE = Source(names=names, card=card, build=build, get=get)
