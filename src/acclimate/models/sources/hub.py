"""Models of the Hugging Face hub, by name (owner/name) or as a local folder: those saved by transformers and by timm."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import timm
import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError
from timm.models import PretrainedCfg
from torch import nn

from acclimate.core.errors import MissingExtra, fail
from acclimate.models.card import Card, Preprocessing
from acclimate.models.classifier import find_classifier
from acclimate.models.offline import HUB, out_of_reach, reachable
from acclimate.models.pictures import Pictures
from acclimate.models.sources import detectors, language
from acclimate.models.sources import timm as timm_source
from acclimate.models.sources.source import Source
from acclimate.models.weights import fill, fill_from, read_weights

HUB_NAME = re.compile(r"([\w.-]+/)?[\w.-]+")
"""The oldest models have no owner: "gpt2"."""
SMALL = ["*.json", *language.TOKENIZER_FILES]
SAFE, PICKLED = ["*.safetensors"], ["pytorch_model*.bin"]


def card(name: str) -> Card:
    folder = _folder(name)
    config = _json(folder / "config.json")
    shown: Preprocessing
    if "architecture" in config:
        architecture, shown = config["architecture"], timm_source.preprocessing(_timm_config(config))
        kept: dict[str, Any] = {key: config[key] for key in ("num_classes", "model_args") if key in config}
    elif detectors.is_detector(config):
        shown = detectors.preprocessing(config, _stated(folder), name)
        architecture, kept = config["model_type"], config
    elif language.is_language(config):
        architecture, shown, kept = config["model_type"], language.preprocessing(folder, config, name), config
    elif "model_type" in config:
        architecture, shown, kept = config["model_type"], _preprocessing(folder, config), config
    else:
        rule = "has a config.json without 'architecture' (timm) or 'model_type' (transformers)"
        raise fail(f"model {name!r}", rule, _HINT)
    offline = _has_weights(folder)
    return Card(
        name=f"hf:{name}",
        source="hf",
        architecture=architecture,
        licence=_licence(folder),
        preprocessing=shown,
        weights=f"folder {folder}" if Path(name).is_dir() else f"hub {name}",
        offline=offline,
        remedy="" if offline else f"acclimate models get hf:{name}",
        config=kept,
    )


_HINT = "give a folder that timm or transformers saved, or --model ARCHITECTURE --weights FILE"


def build(card: Card, size: int, pretrained: bool) -> nn.Module:
    if detectors.is_detector(card.config):
        return detectors.build(card, get(card) if pretrained else None)
    if language.is_language(card.config):
        return language.build(card, get(card) if pretrained else None)
    if card.preprocessing.fixed and size != card.preprocessing.size:
        raise fail(f"size {size}", f"is not read by {card.name}", f"its own is {card.preprocessing.size}")
    if "model_type" in card.config:
        return _transformers(card, pretrained)
    arguments = {**card.config.get("model_args", {}), "num_classes": card.config.get("num_classes", 1000)}
    module = timm.create_model(card.architecture, pretrained=False, **arguments)
    if pretrained:
        path = get(card)
        example = torch.zeros(2, 3, size, size)
        fill(module, _state(path), find_classifier(module.eval(), example), f"model {card.name!r}")
    return module


def get(card: Card) -> Path:
    name = card.name.removeprefix("hf:")
    folder = _folder(name)
    if _has_weights(folder):
        return folder
    if Path(name).is_dir():
        raise fail(f"model {name!r}", "has no weights beside its config.json", "put model.safetensors there")
    folder = _download(name, SMALL + SAFE)
    return folder if _has_weights(folder) else _download(name, SMALL + PICKLED)


def read(module: nn.Module, card: Card, path: Path) -> None:
    own = detectors.read if detectors.is_detector(card.config) else fill_from
    own(module, card, path)


def _folder(name: str) -> Path:
    """The local folder, or the snapshot of a hub name (its small files fetched where they are missing)."""
    path = Path(name)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise fail(f"model {name!r}", "is a folder without config.json", _HINT)
        return path
    if not HUB_NAME.fullmatch(name):
        raise fail(
            f"model 'hf:{name}'",
            "is neither a folder nor a hub name (owner/name, or a name alone)",
            "see acclimate models",
        )
    try:
        return _with_config(Path(snapshot_download(name, local_files_only=True)))
    except (LocalEntryNotFoundError, FileNotFoundError):
        return _with_config(_download(name, SMALL))


def _with_config(folder: Path) -> Path:
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(folder / "config.json")
    return folder


def _download(name: str, patterns: list[str]) -> Path:
    if not reachable(HUB):
        raise out_of_reach(f"hf:{name}")
    try:
        return Path(snapshot_download(name, allow_patterns=patterns))
    except Exception as error:  # whatever the hub's client raises: the user's next step is the same
        remedy = "look at the name and the network, or give a local folder"
        raise fail(f"model 'hf:{name}'", f"could not be downloaded ({error})", remedy) from None


def _has_weights(folder: Path) -> bool:
    return any(any(folder.glob(pattern)) for pattern in SAFE + PICKLED)


def _state(folder: Path) -> dict[str, torch.Tensor]:
    files = sorted(folder.glob(SAFE[0])) or sorted(folder.glob(PICKLED[0]))
    return {name: tensor for file in files for name, tensor in read_weights(file).items()}


def _json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise fail(f"file {str(path)!r}", f"is not JSON ({error})", "restore it") from None


def _licence(folder: Path) -> str:
    readme = folder / "README.md"
    found = (
        re.search(r"^license:\s*(\S+)", readme.read_text(encoding="utf-8"), re.MULTILINE) if readme.is_file() else None
    )
    return found[1] if found else "not stated"


def _timm_config(config: dict[str, Any]) -> PretrainedCfg:
    known = {**PretrainedCfg().to_dict(), **config.get("pretrained_cfg", config)}
    arguments = config.get("model_args", {})
    if arguments.get("img_size") and not arguments.get("dynamic_img_size"):
        known["fixed_input_size"] = True
    fields = PretrainedCfg.__dataclass_fields__
    return PretrainedCfg(**{name: value for name, value in known.items() if name in fields})


def _stated(folder: Path) -> dict[str, Any]:
    path = folder / "preprocessor_config.json"
    return _json(path) if path.is_file() else {}


def _preprocessing(folder: Path, config: dict[str, Any]) -> Pictures:
    """What preprocessor_config.json says; ImageNet's mean and std where it says nothing."""
    stated = _stated(folder)
    default = Pictures()
    size = stated.get("crop_size") if stated.get("do_center_crop") else None
    side = _side(size or stated.get("size")) or _side(config.get("image_size")) or default.size
    return Pictures(
        size=_side(config.get("image_size")) or side,
        interpolation="bicubic" if stated.get("resample") == 3 else "bilinear",
        mean=tuple(stated.get("image_mean", default.mean)),
        std=tuple(stated.get("image_std", default.std)),
        fixed=config.get("image_size") is not None,
    )


def _side(size: Any) -> int | None:
    """The side in pixels, from a number, a pair or a dict of sides."""
    if isinstance(size, dict):
        size = next((size[key] for key in ("height", "shortest_edge", "longest_edge") if key in size), None)
    if isinstance(size, list | tuple):
        size = size[0] if size else None
    return size if isinstance(size, int) else None


def _transformers(card: Card, pretrained: bool) -> nn.Module:
    try:
        import transformers
    except ImportError:
        raise MissingExtra(f"model {card.name!r}", "hub") from None
    mapping: Any = transformers.models.auto.configuration_auto.CONFIG_MAPPING
    if card.architecture not in mapping:
        raise fail(
            f"model {card.name!r}", f"is of a kind that transformers does not know: {card.architecture}", "update it"
        )
    config = mapping[card.architecture].from_dict(dict(card.config))
    kinds: Any = transformers.models.auto.modeling_auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING
    if type(config) not in kinds:
        raise fail(f"model {card.name!r}", f"is no image classifier: {card.architecture}", "see acclimate models")
    kind = kinds[type(config)]
    kind = kind[0] if isinstance(kind, tuple) else kind
    if not pretrained:
        return kind(config)
    asked = {"local_files_only": True, "output_loading_info": True, "ignore_mismatched_sizes": True}
    with language.reading(card.name), language.quiet():
        module, said = kind.from_pretrained(get(card), config=config, **asked)
    _strict(module, said, card)
    return module


def _strict(module: nn.Module, said: dict[str, Any], card: Card) -> None:
    """Only the classifier may be missing or new."""
    size = card.preprocessing.size
    classifier = find_classifier(module.eval(), torch.zeros(2, 3, size, size))
    language.check_complete(said, f"model {card.name!r}", (f"{classifier}.",) if classifier else ())


SOURCE = Source(names=list, card=card, build=build, get=get, read=read)
