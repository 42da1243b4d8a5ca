"""From a name to a backbone: `load`, `rebuild` without weights, `find` what there is, `get` weights for later."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from acclimate.core.errors import UserError, fail, nearest
from acclimate.core.seeds import torch_seeded
from acclimate.models.backbone import Backbone
from acclimate.models.card import Card, Preprocessing
from acclimate.models.offline import packaged
from acclimate.models.sources import SOURCES
from acclimate.models.sources.run import is_run
from acclimate.models.sources.source import Source
from acclimate.models.weights import check_finite, check_there

RANDOM = "random:"
Result = TypeVar("Result")
LISTED = (
    "packaged",
    "packaged-texts",
    "torchvision",
    "torchvision-detection",
    "timm",
    "yolox",
    "fasterrcnn",
    "retinanet",
    "fcos",
)
"""Sources whose names need no prefix, in the order in which they are looked up."""
ALSO = {"torchvision": "torchvision-detection"}
"""A second source of what has the prefix of the first."""


def load(
    name: str,
    *,
    weights: Path | None = None,
    pretrained: bool = True,
    size: int | None = None,
    shown: Preprocessing | None = None,
) -> tuple[Backbone, Card]:
    """The backbone that a name means, in eval mode, cut for inputs of that size, and its card.

    `name`: a packaged name; a name of torchvision or timm, with or without `torchvision:`, `timm:`; `fasterrcnn:`, `retinanet:` or
    `fcos:` before any of these, for a detector over that network; `yolox:SIZE`; `hf:owner/name`; a folder (of the hub's files, or a
    run of ours). `random:` before it, or `pretrained` False: random weights, always
    the same. `weights`: a file for the architecture that `name` means. `size`: default, the model's own; or `shown`, how the
    inputs are shown in all.

    Raises `UserError` for an unknown name, weights that are not at hand or do not fit, and a size that is not read.
    """
    source, card = describe(name)
    pretrained = pretrained and not name.startswith(RANDOM)
    shown = shown or card.preprocessing.sized(size or card.preprocessing.size)
    own, size = pretrained and weights is None, shown.size
    with torch_seeded("model", card.source, card.architecture):
        module = _tried(lambda: source.build(card, size, own), size, card)
        example = shown.example(2)
    if weights is not None:
        read = partial(source.read, module, replace(card, preprocessing=shown), Path(weights))
        _tried(read, size, card)
    if pretrained:
        check_finite(module, f"model {name!r}" if weights is None else f"weights {str(weights)!r}")
    backbone = _tried(lambda: shown.cut(module, example), size, card)
    return backbone, replace(
        card,
        weights=card.weights if own else (str(weights) if weights else "random"),
        preprocessing=shown,
        parameters=sum(parameter.numel() for parameter in backbone.parameters()),
    )


def check_weights(name: str, weights: Path) -> None:
    """Raises `UserError` for a file of weights that is not there, or where random ones are asked."""
    if name.startswith(RANDOM):
        bare = name.removeprefix(RANDOM)
        raise fail(f"--weights {weights} with --model {name}", "exclude each other", f"write --model {bare}")
    check_there(weights)


def rebuild(card: dict[str, Any], shown: Preprocessing) -> Backbone:
    """The backbone that `load` gave with this card (`Card.json()`), with random weights; no network, no files."""
    known = Card.of(card)
    source: Source = SOURCES[known.source]
    with torch_seeded("model", known.source, known.architecture):
        module = source.build(known, shown.size, False)
        example = shown.example(2)
    return shown.cut(module, example)


def describe(name: str) -> tuple[Source, Card]:
    """The source of a name and its card; the weights are not read. Raises `UserError` for an unknown name."""
    bare = name.removeprefix(RANDOM)
    source, rest = _resolve(bare)
    card: Card = SOURCES[source].card(rest)
    if name.startswith(RANDOM):
        card = replace(SOURCES[source].fresh(card), name=name, weights="random", offline=True, remedy="")
    return SOURCES[source], card


def find(word: str = "") -> list[Card]:
    """Every model that can be named without a prefix and whose name holds the word; packaged ones first."""
    return list(_found(word.lower()))


def get(name: str) -> Path:
    """Fetch the weights of a model for use without a network; where they lie. Raises `UserError`."""
    source, card = describe(name)
    return source.get(card)


def _found(word: str) -> Iterator[Card]:
    for source in LISTED:
        for name in SOURCES[source].names():
            if word in name.lower():
                try:
                    yield SOURCES[source].card(name)
                except UserError:  # not a model of pictures
                    continue


def _resolve(name: str) -> tuple[str, str]:
    """(source, the name there)."""
    path = Path(name)
    if path.is_dir() and (is_run(path) or (path / "config.json").is_file()):
        return ("run" if is_run(path) else "hf"), name
    prefix, colon, rest = name.partition(":")
    if colon and prefix in SOURCES:
        return _nearer(prefix, ALSO.get(prefix, prefix), rest), rest
    architecture = name.split(".")[0]
    for source in LISTED:
        if name in (names := SOURCES[source].names()) or (source == "timm" and architecture in names):
            return source, name
    known = dict.fromkeys(each for source in LISTED for each in SOURCES[source].names())
    listed = "(acclimate models WORD lists them)"
    close, hub = nearest(name, known), f"a model of the hub is named hf:{name}"
    hint = f"{close} {listed}" if close else f"{hub}; packaged models are {packaged()} {listed}"
    if name.count("/") == 1 and not path.exists():
        hint = hub
    if path.is_dir():
        hint = "give the folder of a finished run, or one with config.json and weights"
    raise fail(f"model {name!r}", "is not a known model, nor a folder that holds one", hint)


def _nearer(source: str, other: str, name: str) -> str:
    """The one of two sources that has the name, or the nearest to it; the first where both are far."""
    own, others = SOURCES[source].names(), SOURCES[other].names()
    if name in own or source == other:
        return source
    close = get_close_matches(name, [*own, *others], n=1)
    return other if close and close[0] not in own else source


def _tried(step: Callable[[], Result], size: int, card: Card) -> Result:
    """The result of `step`; an input size that the architecture refuses is the user's to mend."""
    try:
        return step()
    except (AssertionError, RuntimeError, ValueError) as error:
        own = card.preprocessing.size
        if size == own:
            raise
        raise fail(f"size {size}", f"is not read by {card.name} ({error})", f"its own is {own}") from None
