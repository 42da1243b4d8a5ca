"""torchvision's detectors, with the weights it calls DEFAULT: those of COCO."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn
from torchvision import models
from torchvision.ops import FrozenBatchNorm2d

from acclimate.core.errors import fail, near
from acclimate.models.card import Card
from acclimate.models.detection.canvas import Canvas
from acclimate.models.detection.detector import Detector
from acclimate.models.detection.levels import Levels, Pyramid
from acclimate.models.detection.torchvision_heads import UNUSED, head
from acclimate.models.offline import fetched
from acclimate.models.sources.source import Source
from acclimate.models.sources.torchvision import cached, weights_of
from acclimate.models.weights import read_weights

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
VGG = (0.48235, 0.45882, 0.40784)
HALF = (0.5, 0.5, 0.5)
CLASS_OUTPUTS = (
    "roi_heads.box_predictor.cls_score.bias",
    "head.classification_head.cls_logits.bias",
    "head.classification_head.module_list.0.bias",
    "head.classification_head.module_list.0.1.bias",
)
"""Names of a parameter whose length says for how many classes a state dict is, by family."""


def _canvas(short: int) -> Canvas:
    """What torchvision lays a picture of 4:3 on when its shorter side is brought to `short` pixels: 1066 x 800 on 1088 x 800."""
    size = short * 4 // 3
    shown = Canvas(size, fill=_grey(MEAN), mean=MEAN, std=STD, antialias=False)
    return replace(shown, shape=(shown.sized(size).width,) * 2)


def _square(size: int, stride: int, mean: tuple[float, float, float], std: tuple[float, float, float]) -> Canvas:
    """Of a model that reads one size, whatever the proportions."""
    return Canvas(size, stride=stride, fit="squash", fill=_grey(mean), mean=mean, std=std, antialias=False, fixed=True)


def _grey(mean: tuple[float, float, float]) -> tuple[float, float, float]:
    """What is zero once it is normalised."""
    return (255 * mean[0], 255 * mean[1], 255 * mean[2])


@dataclass(frozen=True)
class Built:
    """What torchvision's builder does not say: strides as for `torchvision_heads.TorchvisionHead`, how pictures are shown, and the eps
    of the batch norm that it freezes where weights are given; None where it stays what it is."""

    strides: tuple[float, ...]
    shown: Canvas
    frozen: float | None = None


DETECTORS = {
    "fasterrcnn_resnet50_fpn": Built((4, 8, 16, 32), _canvas(800), 0.0),
    "fasterrcnn_resnet50_fpn_v2": Built((4, 8, 16, 32), _canvas(800)),
    "fasterrcnn_mobilenet_v3_large_fpn": Built((32, 32), _canvas(800), 1e-5),
    "fasterrcnn_mobilenet_v3_large_320_fpn": Built((32, 32), _canvas(320), 1e-5),
    "retinanet_resnet50_fpn": Built((8,), _canvas(800), 0.0),
    "retinanet_resnet50_fpn_v2": Built((8,), _canvas(800)),
    "fcos_resnet50_fpn": Built((8,), _canvas(800), 1e-5),
    "ssd300_vgg16": Built((300 / 38,), _square(300, 1, VGG, (1 / 255, 1 / 255, 1 / 255))),
    "ssdlite320_mobilenet_v3_large": Built((16,), _square(320, 32, HALF, HALF)),
}


def names() -> list[str]:
    return list(DETECTORS)


def card(name: str) -> Card:
    if name not in DETECTORS:
        raise fail(f"model 'torchvision:{name}'", "is not one of torchvision's detectors", near(name, DETECTORS))
    weights = weights_of(name)
    offline = cached(weights).is_file()
    return Card(
        name=f"torchvision:{name}",
        source="torchvision-detection",
        architecture=name,
        licence=weights.meta.get("license", "not stated"),
        preprocessing=DETECTORS[name].shown,
        weights=f"torchvision {weights}",
        offline=offline,
        remedy="" if offline else f"acclimate models get torchvision:{name}",
        config={"outputs": list(weights.meta["categories"]), "frozen": DETECTORS[name].frozen},
    )


def fresh(card: Card) -> Card:
    """From random weights batch norm has to learn."""
    return replace(card, config={**card.config, "frozen": None})


def build(card: Card, size: int, pretrained: bool) -> nn.Module:
    shown = DETECTORS[card.architecture].shown
    if shown.fixed and size != shown.size:
        raise fail(f"size {size}", f"is not read by {card.name}", f"its own is {shown.size}")
    path = get(card) if pretrained else None
    whole = _whole(card, len(card.config["outputs"]))
    if path is not None:
        whole.load_state_dict(read_weights(path), strict=True)
    return apart(whole, card, card.config["outputs"])


def get(card: Card) -> Path:
    weights = weights_of(card.architecture)
    path = cached(weights)
    return path if path.is_file() else fetched(weights.url, path, card.name, path.stem.rpartition("-")[2])


def read(module: nn.Module, card: Card, path: Path) -> None:
    """Put the weights of a file into the detector: a state dict of torchvision's model, as it is or as its reference script saves it, for
    classes of any number. Raises `UserError` for a file that does not fit."""
    assert isinstance(module, Detector)
    state, outputs = read_weights(path), list(card.config["outputs"])
    whole = _whole(card, len(outputs))
    own = whole.state_dict()
    known = next((name for name in CLASS_OUTPUTS if name in own and name in state), None)
    rows = len(state[known]) * len(outputs) // len(own[known]) if known else len(outputs)
    if rows != len(outputs):  # of somebody's own classes, whose names the file does not say
        outputs = [UNUSED[0], *(f"class {number}" for number in range(1, rows))]
        whole = _whole(card, rows)
    try:
        whole.load_state_dict(state, strict=True)
    except RuntimeError as error:
        said = "; ".join(line.strip()[:200] for line in str(error).splitlines()[1:4])
        value, remedy = f"weights {str(path)!r}", "name the detector that it was saved from"
        raise fail(value, f"does not fit {card.architecture}: {said}", remedy) from None
    loaded = apart(whole, card, outputs)
    module.body, module.neck, module.head = loaded.body, loaded.neck, loaded.head


def _whole(card: Card, outputs: int) -> Any:
    """torchvision's model with random weights, built as it is where weights are given."""
    whole: Any = models.get_model(card.architecture, weights=None, weights_backbone=None, num_classes=outputs)
    if card.config["frozen"] is not None:
        for part in list(whole.backbone.body.modules()):
            for name, layer in part.named_children():
                if isinstance(layer, nn.BatchNorm2d):
                    setattr(part, name, FrozenBatchNorm2d(layer.num_features, card.config["frozen"]))
    return whole


def apart(whole: Any, card: Card, outputs: list[str]) -> Detector:
    """torchvision's model as a body, a neck and a head; it is taken over. `outputs`: the names of its class outputs."""
    backbone, fpn = whole.backbone, getattr(whole.backbone, "fpn", None)
    count = len(fpn.inner_blocks) if fpn is not None else len(whole.anchor_generator.aspect_ratios)
    body = Levels(backbone if fpn is None else backbone.body, [str(level) for level in range(count)])
    neck = None if fpn is None else Pyramid(fpn)
    return Detector(body, neck, head(whole, outputs, DETECTORS[card.architecture].strides))


SOURCE = Source(names=names, card=card, build=build, get=get, read=read, fresh=fresh)
