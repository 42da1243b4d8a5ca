"""YOLOX by size: yolox:nano to yolox:x, with the weights of their release, or of a file in any of the forms they go round in."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from acclimate.core.errors import MissingExtra, fail, near
from acclimate.models.card import Card
from acclimate.models.detection import yolox
from acclimate.models.detection.canvas import Canvas
from acclimate.models.detection.detector import Detector
from acclimate.models.offline import fetched
from acclimate.models.sources.source import Source
from acclimate.models.weights import check_there, fill, read_weights

RELEASE = "https://github.com/Megvii-BaseDetection/YOLOX/releases/download/0.1.1rc0/"
NARROW = ("nano", "tiny")
"""Trained at 416 pixels, the others at 640."""
BODY = "backbone.backbone."
"""How names of the body begin in official checkpoints; the neck's begin with the first word alone."""


@cache
def coco() -> tuple[str, ...]:
    """The 80 classes of COCO in the order of their ids."""
    from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

    known = FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
    return tuple(name for name in known if name not in ("__background__", "N/A"))


def names() -> list[str]:
    return [f"yolox:{size}" for size in yolox.SIZES]


def card(name: str) -> Card:
    size = name.removeprefix("yolox:")
    if size not in yolox.SIZES:
        raise fail(f"model 'yolox:{size}'", "is not a size of YOLOX", near(size, yolox.SIZES))
    offline = _file(size).is_file()
    pixels = 416 if size in NARROW else 640
    return Card(
        name=f"yolox:{size}",
        source="yolox",
        architecture=size,
        licence="Apache-2.0",
        preprocessing=Canvas(pixels, bgr=True, mean=(0.0, 0.0, 0.0), std=(1 / 255, 1 / 255, 1 / 255), antialias=False),
        weights=f"release of YOLOX, {_file(size).name}",
        offline=offline,
        remedy="" if offline else f"acclimate models get yolox:{size}, or --weights FILE",
        config={"classes": list(coco())},
    )


def build(card: Card, size: int, pretrained: bool) -> nn.Module:
    module = yolox.build(card.architecture, card.config["classes"])
    if pretrained:
        read(module, card, get(card))
    return module


def get(card: Card) -> Path:
    path = _file(card.architecture)
    return path if path.is_file() else fetched(RELEASE + path.name, path, card.name)


def _file(size: str) -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / f"yolox_{size}.pth"


# --- files of weights


def read(module: nn.Module, card: Card, path: Path) -> None:
    """Put the weights of a file into the detector: an official checkpoint (.pth, or its tensors as safetensors), an ONNX export, or
    the tensors of one as safetensors, with FILE.names.json beside that says which convolution each belongs to.

    Exports have batch norm folded into the convolutions. It is unfolded exactly: the norm keeps the bias, with mean 0 and a variance
    that makes its scale 1. Raises `UserError` for a file that does not fit.
    """
    assert isinstance(module, Detector)
    value = f"weights {str(path)!r}"
    state = _unfolded(module, path, value) if _is_export(path) else read_weights(path)
    state = {_ours(name): tensor for name, tensor in state.items()}
    classes = state.get("head.cls_preds.0.weight", torch.empty(len(module.head.classes))).shape[0]
    if classes != len(module.head.classes):  # of somebody's own classes, whose names the file does not say
        module.head = module.head.renewed([f"class {number}" for number in range(classes)])
    fill(module, state, None, value)


def _ours(name: str) -> str:
    if name.startswith(BODY):
        return "body." + name.removeprefix(BODY)
    return "neck." + name.removeprefix("backbone.") if name.startswith("backbone.") else name


def _is_export(path: Path) -> bool:
    return path.suffix == ".onnx" or _told(path).is_file()


def _told(path: Path) -> Path:
    return path.with_suffix(".names.json")


def _unfolded(module: Detector, path: Path, value: str) -> dict[str, torch.Tensor]:
    """The state of a module with batch norm, by official names."""
    check_there(path)
    folded = _onnx(module, path, value) if path.suffix == ".onnx" else _listed(path, value)
    state = {name: tensor for name, tensor in module.state_dict().items() if name.endswith("num_batches_tracked")}
    for name, (weight, bias) in folded.items():
        state[f"{name}.weight"] = weight
        if not name.endswith(".conv"):  # an output layer
            state[f"{name}.bias"] = bias
            continue
        norm = name.removesuffix("conv") + "bn"
        one = torch.ones_like(bias)
        state |= {f"{norm}.weight": one, f"{norm}.bias": bias}
        state |= {f"{norm}.running_mean": one * 0, f"{norm}.running_var": one - yolox.EPS}
    return state


def _listed(path: Path, value: str) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Weight and bias of each convolution, as the file beside names them."""
    tensors = read_weights(path)
    try:
        convolutions: list[dict[str, Any]] = json.loads(_told(path).read_text())["convolutions"]
        return {one["module"]: (tensors[one["weight"]], tensors[one["bias"]]) for one in convolutions}
    except (ValueError, KeyError, TypeError) as error:
        rule = f"does not go with {_told(path).name} beside it ({type(error).__name__}: {error})"
        raise fail(value, rule, "restore both files") from None


def _onnx(module: Detector, path: Path, value: str) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Weight and bias of each convolution, in the order in which they run."""
    try:
        import onnx
    except ImportError:
        raise MissingExtra(f"weights {str(path)!r}", "detect") from None
    from onnx import numpy_helper

    try:
        graph = onnx.load(path).graph
    except Exception as error:  # whatever protobuf raises: the user's next step is the same
        raise fail(value, f"is damaged or no ONNX file ({type(error).__name__})", "fetch or save it again") from None
    held = {one.name: torch.from_numpy(numpy_helper.to_array(one).copy()) for one in graph.initializer}
    found = [[held.get(name) for name in node.input[1:3]] for node in graph.node if node.op_type == "Conv"]
    names = running(module)
    state = module.state_dict()
    shapes = [state[f"{name}.weight"].shape for name in names]
    fits = len(found) == len(names) and all(
        len(pair) == 2 and pair[0] is not None and pair[1] is not None and pair[0].shape[1:] == shape[1:]
        for pair, shape in zip(found, shapes, strict=False)
    )
    if not fits:
        rule = f"has {len(found)} convolutions that do not fit the {len(names)} of this size"
        raise fail(value, rule, "name the size that it was exported from: yolox:nano, yolox:tiny, yolox:s, ...")
    return {name: (pair[0], pair[1]) for name, pair in zip(names, found, strict=True)}  # type: ignore[misc]


def running(module: Detector) -> list[str]:
    """Names of the convolutions in the order in which they run."""
    order: list[str] = []
    layers = [(name, one) for name, one in module.named_modules() if isinstance(one, nn.Conv2d)]
    hooks = [one.register_forward_hook(lambda *_, name=name: order.append(name)) for name, one in layers]
    try:
        with torch.no_grad():
            module.eval()(**Canvas(64).example(1))
    finally:
        for hook in hooks:
            hook.remove()
    return order


SOURCE = Source(names=names, card=card, build=build, get=get, read=read)
