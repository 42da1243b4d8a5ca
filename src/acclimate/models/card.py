"""`Card`: what is known of a pretrained model before its weights are loaded; `Preprocessing`: what every kind of input can say."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Protocol

from torch import nn

from acclimate.core.names import Names
from acclimate.core.tree import Tree
from acclimate.models.backbone import Backbone

KINDS = Names(
    "kind of input",
    {
        "pictures": "acclimate.models.pictures:Pictures",
        "texts": "acclimate.models.texts:Texts",
        "pictures with boxes": "acclimate.models.detection.canvas:Canvas",
    },
)


class Preprocessing(Protocol):
    """How samples were shown to the model when it was trained, and are shown to it here; one class a kind of input."""

    kind: ClassVar[str]
    """Its name in `KINDS`."""
    unit: ClassVar[str]
    """What `size` counts: "px", "tokens"."""

    padded: ClassVar[bool]
    """Whether the samples of a batch are padded to the longest. Rounded to bf16 a prediction would then depend, in the third digit, on
    what it shares a batch with; so a saved model predicts in fp32."""

    @property
    def size(self) -> int:
        """How much of a sample is read: the side of a picture, the most tokens of a text."""
        ...

    @property
    def fixed(self) -> bool:
        """True where the architecture reads no other size."""
        ...

    def sized(self, size: int) -> Preprocessing:
        """The same for samples of another size."""
        ...

    def json(self) -> dict[str, Any]:
        """All but its files, as JSON, its kind among it."""
        ...

    def files(self) -> dict[str, bytes]:
        """Files that travel with a saved model, by name."""
        ...

    @classmethod
    def of(cls, data: dict[str, Any], folder: Path | None = None) -> Preprocessing:
        """The inverse of `json`; its files lie in `folder`."""
        ...

    def told(self) -> str:
        """In words, for `acclimate models show`."""
        ...

    def example(self, samples: int) -> Tree:
        """An input batch of made-up samples."""
        ...

    def cut(self, module: nn.Module, example: Tree) -> Backbone:
        """The module as a backbone of stages."""
        ...


def preprocessing_of(data: dict[str, Any], folder: Path | None = None) -> Preprocessing:
    """The inverse of `Preprocessing.json`, whatever the kind."""
    return KINDS[data["kind"]].of({name: value for name, value in data.items() if name != "kind"}, folder)


@dataclass(frozen=True)
class Card:
    """A pretrained model, described. `name` is what the user types: "efficientnet_lite0", "torchvision:resnet50"."""

    name: str
    source: str
    """The entry of `models.sources.SOURCES` that loads it."""
    architecture: str
    licence: str
    """As the source states it; "not stated" where it does not."""
    preprocessing: Preprocessing
    weights: str = ""
    """Where the weights come from, in words: a package and file, a hub name, a path, or "random"."""
    offline: bool = False
    """Usable now without a network."""
    remedy: str = ""
    """Where not offline: the command that makes it so."""
    parameters: int | None = None
    macs: int | None = None
    """Multiply-accumulates of one forward pass at `preprocessing.size`."""
    accuracy: float | None = None
    """Share of right answers on the test of what it was trained on (ImageNet's top-1), where the source states it; 0 to 1."""
    config: dict[str, Any] = field(default_factory=dict)
    """What the source needs beside `architecture` to build it without weights and without a network; JSON."""

    def json(self) -> dict[str, Any]:
        told = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return {**told, "preprocessing": self.preprocessing.json()}

    @classmethod
    def of(cls, data: dict[str, Any], folder: Path | None = None) -> Card:
        """The inverse of `json`; fields of other versions are left out. `folder`: where the preprocessing's files lie."""
        known = {entry.name for entry in fields(cls)}
        values = {name: value for name, value in data.items() if name in known}
        return cls(**{**values, "preprocessing": preprocessing_of(data["preprocessing"], folder)})
