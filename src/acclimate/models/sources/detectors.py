"""Detectors of the library transformers, as folders: their card's preprocessing, their module, files of their weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from acclimate.core.errors import MissingExtra, fail
from acclimate.models.card import Card
from acclimate.models.detection.canvas import Canvas
from acclimate.models.detection.detr import taken_apart
from acclimate.models.sources import language
from acclimate.models.weights import read_weights

KINDS = ("rt_detr", "rt_detr_v2", "d_fine", "deimv2")
OLDEST = "5.18"
"""Of transformers: older releases match boxes with denoising queries as well, which spoils training (its pull request 48528)."""
SIDE = 640
"""Pixels of the canvas where nothing is said: what all these were trained at."""


def is_detector(config: dict[str, Any]) -> bool:
    """Whether config.json describes a model that finds boxes, of these kinds or another."""
    ends = [str(name).endswith("ForObjectDetection") for name in config.get("architectures") or ()]
    return config.get("model_type") in KINDS or any(ends)


def preprocessing(config: dict[str, Any], stated: dict[str, Any], name: str) -> Canvas:
    """`stated`: preprocessor_config.json, or nothing. Raises `UserError` for a kind of detector, or a way to fit pictures, that is
    not read here."""
    if config.get("model_type") not in KINDS:
        kinds = f"give one of the kinds {', '.join(KINDS)}, or a detector of torchvision or YOLOX"
        raise fail(f"model {name!r}", f"is a detector of a kind that is not read: {config.get('model_type')}", kinds)
    if config.get("share_bbox_head"):
        rule = (
            "shares one box layer among all layers of its decoder, which transformers does not bring back from a file"
        )
        raise fail(f"model {name!r}", rule, "use a larger size of DEIMv2")
    size = stated.get("size") or SIDE
    sides = {"width": size, "height": size} if isinstance(size, int) else size
    if not {"width", "height"} <= sides.keys():
        rule = f"has a preprocessor_config.json that keeps proportions (size {size})"
        raise fail(f"model {name!r}", rule, 'give "size" as "width" and "height", as it was trained')
    normalised = stated.get("do_normalize", False)
    return Canvas(
        size=max(sides["width"], sides["height"]),
        shape=(sides["width"], sides["height"]),
        stride=max(config.get("feat_strides") or (32,)),
        fit="squash",
        mean=tuple(stated["image_mean"]) if normalised else (0.0, 0.0, 0.0),
        std=tuple(stated["image_std"]) if normalised else (1.0, 1.0, 1.0),
        interpolation="bicubic" if stated.get("resample") == 3 else "bilinear",
    )


def build(card: Card, folder: Path | None) -> nn.Module:
    """The detector, with the weights in `folder`, read strictly; with random ones where it is None."""
    kind, config = _kind(card)
    if folder is None:
        return taken_apart(_alive(kind(config).float()))
    return _read(card, f"model {card.name!r}", folder, {"local_files_only": True})


def _alive(model: nn.Module) -> nn.Module:
    """Convolutions and batch norm drawn anew: transformers draws them so near to zero that no picture shows in the maps."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
    return model


def read(module: nn.Module, card: Card, path: Path) -> None:
    """Put the weights of a file, named as transformers names them, into the detector. Raises `UserError` where they do not fit."""
    found = _read(card, f"weights {str(path)!r}", None, {"state_dict": read_weights(path)})
    module.load_state_dict(found.state_dict())


def _read(card: Card, value: str, folder: Path | None, asked: dict[str, Any]) -> nn.Module:
    """`value` names the weights in an error."""
    kind, config = _kind(card)
    asked = {**asked, "dtype": "float32", "output_loading_info": True, "ignore_mismatched_sizes": True}
    with language.reading(card.name), language.quiet():
        model, said = kind.from_pretrained(folder, config=config, **asked)
    language.check_complete(said, value)
    return taken_apart(model)


def _kind(card: Card) -> tuple[Any, Any]:
    """transformers' class, and its configuration. Raises `UserError` where transformers is missing or too old."""
    try:
        import transformers
        from packaging.version import Version
    except ImportError:
        raise MissingExtra(f"model {card.name!r}", "detect") from None
    if Version(transformers.__version__) < Version(OLDEST):
        rule = f"needs transformers {OLDEST} or newer; {transformers.__version__} trains detectors wrongly"
        raise fail(f"model {card.name!r}", rule, "pip install 'acclimate[detect]'")
    auto: Any = transformers.models.auto
    config = auto.configuration_auto.CONFIG_MAPPING[card.architecture].from_dict(dict(card.config))
    # What is computed ahead for one size. Where these are left out it is computed for any; `eval_size` would leave the places out
    # of the attention in eval mode.
    config.anchor_image_size = config.eval_size = None
    return auto.modeling_auto.MODEL_FOR_OBJECT_DETECTION_MAPPING[type(config)], config
