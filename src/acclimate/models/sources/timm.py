"""timm's models: NAME, or NAME.TAG where an architecture has several weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import timm
import torch
from huggingface_hub import hf_hub_download, try_to_load_from_cache
from timm.models import PretrainedCfg
from torch import nn

from acclimate.core.errors import UserError, fail, near
from acclimate.models.card import Card
from acclimate.models.offline import HUB, out_of_reach, reachable
from acclimate.models.pictures import Pictures
from acclimate.models.sources.source import Source

FILES = ("model.safetensors", "pytorch_model.bin")
"""Where timm keeps weights in a repository of the hub."""


def names() -> list[str]:
    return timm.list_models()


def card(name: str) -> Card:
    config = _config(name)
    offline = config.has_weights and _cached(config) is not None
    remedy = f"acclimate models get timm:{name}" if config.has_weights else f"--weights FILE, or random:timm:{name}"
    return Card(
        name=f"timm:{name}",
        source="timm",
        architecture=name,
        licence=config.license or "not stated",
        preprocessing=preprocessing(config),
        weights=(config.hf_hub_id or str(config.url)) if config.has_weights else "none",
        offline=offline,
        remedy="" if offline else remedy,
    )


def preprocessing(config: PretrainedCfg) -> Pictures:
    interpolation = config.interpolation if config.interpolation in ("bilinear", "bicubic") else "bicubic"
    mean, std = tuple(config.mean), tuple(config.std)
    if config.input_size[0] != 3 or len(mean) != 3 or len(std) != 3:
        raise fail(
            f"model 'timm:{config.architecture}'", "does not read pictures of three channels", "use another model"
        )
    return Pictures(config.input_size[-1], "squash", interpolation, mean, std, bool(config.fixed_input_size))


def build(card: Card, size: int, pretrained: bool) -> nn.Module:
    config = _config(card.architecture)
    arguments: dict[str, Any] = {}
    if config.fixed_input_size and size != config.input_size[-1]:
        arguments["img_size"] = size
    if pretrained and not config.has_weights:
        raise fail(f"model {card.name!r}", "has no pretrained weights", f"random:{card.name} starts without")
    if pretrained:
        arguments["pretrained_cfg_overlay"] = {"file": str(get(card))}
    try:
        return timm.create_model(card.architecture, pretrained=pretrained, **arguments)
    except TypeError:
        if "img_size" not in arguments:
            raise
        raise fail(f"size {size}", f"is not read by {card.name}", f"its own is {config.input_size[-1]}") from None


def get(card: Card) -> Path:
    config = _config(card.architecture)
    found = _cached(config)
    if found is not None:
        return found
    if not reachable(HUB if config.hf_hub_id else str(config.url)):
        raise out_of_reach(card.name)
    try:
        return _download(config)
    except Exception as error:  # whatever the hub's client raises: the user's next step is the same
        raise fail(
            f"model {card.name!r}", f"could not be downloaded ({error})", "try again, or give --weights FILE"
        ) from None


def _config(name: str) -> PretrainedCfg:
    try:
        if timm.is_model(name) and (config := timm.get_pretrained_cfg(name)) is not None:
            return config
    except RuntimeError:  # an unknown tag
        pass
    raise unknown(name)


def unknown(name: str) -> UserError:
    known = names()
    if timm.is_model(name):
        known = timm.list_pretrained(f"{name.split('.')[0]}.*")
    return fail(
        f"model 'timm:{name}'",
        "is not one of timm's",
        f"{near(name, known, most=4)} (acclimate models WORD lists them)",
    )


def _files(config: PretrainedCfg) -> tuple[str, ...]:
    return (config.hf_hub_filename,) if config.hf_hub_filename else FILES


def _cached(config: PretrainedCfg) -> Path | None:
    if config.hf_hub_id:
        for file in _files(config):
            if isinstance(found := try_to_load_from_cache(config.hf_hub_id, file), str):
                return Path(found)
    path = Path(torch.hub.get_dir()) / "checkpoints" / str(config.url).rpartition("/")[2]
    return path if config.url and path.is_file() else None


def _download(config: PretrainedCfg) -> Path:
    if not config.hf_hub_id:
        from timm.models._hub import download_cached_file

        return Path(download_cached_file(str(config.url)))
    failed: Exception = FileNotFoundError(config.hf_hub_id)
    for file in _files(config):
        try:
            return Path(hf_hub_download(config.hf_hub_id, file))
        except Exception as error:
            failed = error
    raise failed


SOURCE = Source(names=names, card=card, build=build, get=get)
