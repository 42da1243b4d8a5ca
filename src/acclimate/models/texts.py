"""`Texts`: the preprocessing of language models: their tokenizer, and how much of a text they read."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from acclimate.core.errors import MissingExtra, fail
from acclimate.core.names import Names
from acclimate.core.tree import Tree
from acclimate.models.backbone import Backbone

TOKENIZER = "tokenizer.json"
LONG = {
    "truncate": "their ends are cut off",
    "head+tail": "their middles are cut out",
    "window": "they are read in windows",
}
"""What becomes of texts that are longer than the model reads."""
FAMILIES = Names(
    "family of language models",
    {"transformer": "acclimate.models.language:cut", "static": "acclimate.models.static:cut"},
)
"""How each is cut: a row of blocks, or a table of token vectors."""


@dataclass(frozen=True)
class Texts:
    """How texts become tokens.

    `size`: the most tokens that are read at once, special ones included. `most`: what the architecture can read at most.
    `vocabulary`: rows of the model's table of tokens. `prefix`: what the model was trained to see before every text.
    `long`: one of `LONG`. `filter`: how every text is shown to the model (`tasks.text_filters.FILTERS`); "": as it is. `family`: one of
    `FAMILIES`. `folder`: where tokenizer.json lies.
    """

    kind: ClassVar[str] = "texts"
    unit: ClassVar[str] = "tokens"
    padded: ClassVar[bool] = True
    fixed: ClassVar[bool] = False

    size: int
    most: int
    vocabulary: int
    prefix: str = ""
    long: str = "truncate"
    filter: str = ""
    family: str = "transformer"
    folder: Path | None = field(default=None, compare=False)

    def sized(self, size: int) -> Texts:
        return replace(self, size=size)

    def json(self) -> dict[str, Any]:
        names = ("size", "most", "vocabulary", "prefix", "long", "filter", "family")
        return {"kind": self.kind, **{name: getattr(self, name) for name in names}}

    def files(self) -> dict[str, bytes]:
        return {TOKENIZER: self._content}

    @classmethod
    def of(cls, data: dict[str, Any], folder: Path | None = None) -> Texts:
        """The inverse of `json`."""
        return cls(**data, folder=folder)

    def told(self) -> str:
        prefix = f", before each text {self.prefix!r}" if self.prefix else ""
        shown = f", filter {self.filter}" if self.filter else ""
        return f"{self.vocabulary:,} tokens known, {self.size} of at most {self.most} read{prefix}{shown}"

    def example(self, samples: int) -> dict[str, torch.Tensor]:
        """Texts of unlike length, of arbitrary tokens: {"input_ids", "attention_mask"}, int64 [samples, 9]."""
        ids = torch.arange(samples * 9).reshape(samples, 9) * 37 % self.vocabulary
        lengths = 9 - torch.arange(samples) % 4
        mask = (torch.arange(9) < lengths[:, None]).long()
        return {"input_ids": ids * mask, "attention_mask": mask}

    def cut(self, module: nn.Module, example: Tree) -> Backbone:
        return FAMILIES[self.family](module, example)

    @cached_property
    def _content(self) -> bytes:
        assert self.folder is not None
        try:
            return (self.folder / TOKENIZER).read_bytes()
        except OSError:
            raise fail(
                f"tokenizer {str(self.folder / TOKENIZER)!r}",
                "is not there",
                "restore the file, or fetch the model again",
            ) from None

    @cached_property
    def digest(self) -> str:
        """Names the tokenizer by its content."""
        return hashlib.blake2b(self._content, digest_size=16).hexdigest()

    def tokenizer(self) -> Any:
        """A `tokenizers.Tokenizer` that neither pads nor truncates.

        Raises `UserError` where the file is damaged, or knows tokens that the model has no row for.
        """
        try:
            from tokenizers import Tokenizer
        except ImportError:
            raise MissingExtra("texts", "text") from None
        name = f"tokenizer {str(self.folder)!r}"
        try:
            made = Tokenizer.from_str(self._content.decode())
        except Exception as error:  # the library raises its own class for everything
            raise fail(name, f"is damaged ({str(error)[:100]})", "restore the file, or fetch the model again") from None
        largest = max(made.get_vocab(with_added_tokens=True).values(), default=0)
        if largest >= self.vocabulary:
            raise fail(
                name,
                f"knows {largest + 1:,} tokens and the model {self.vocabulary:,}: they do not belong together",
                "put the tokenizer that the model was saved with into its folder",
            )
        made.no_padding()
        made.no_truncation()
        return made


def described(folder: Path) -> dict[str, Any]:
    """tokenizer_config.json, where there is one."""
    try:
        return json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
