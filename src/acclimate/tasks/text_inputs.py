"""`TextInputs`: how a text becomes tokens, and a batch of them what a language model reads."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from acclimate.core.tree import Tree
from acclimate.data import found_texts
from acclimate.data.found import Found
from acclimate.data.gate import Finding
from acclimate.data.readers.reader import Columns
from acclimate.data.table import Raw
from acclimate.models.texts import LONG, Texts
from acclimate.tasks import text_traits
from acclimate.tasks.exhibit import Passages
from acclimate.tasks.filters import Filter
from acclimate.tasks.task import Mix
from acclimate.tasks.text_filters import FILTERS
from acclimate.tasks.text_pieces import Spans, pieces, shortened
from acclimate.tasks.traits import Trait

VERSION = 4
"""To be raised when this file gives other tokens for the same text."""
BLANK = ("Zs", "Zl", "Zp", "Cc", "Cf")
"""Kinds of characters that show nothing."""
TOKENS, MARKS, UNKNOWN, LETTERS = range(4)
"""What `told` counts of a text: its tokens before anything is cut; of them, marks around it, and those that the tokenizer does not
know; its letters, where one of those that are written double-width (Chinese, Japanese, Korean) counts as three: as many as its bytes."""
BLANKS, WAYS = ("[MASK]", "<mask>", "[UNK]", "<unk>", ".", "the", "Ġthe", "▁the", ",", "Ġ", "▁"), 4
"""Tokens that say little, and how many of them, the first there are, stand for a text that says nothing."""
SHOWN = 400
"""Characters of a sample that are shown, about."""
WINDOWS = 16
"""Of a text that is read in windows, so many are read at most."""
FEW = 0.5
"""A tokenizer that knows less than this share of the model's tokens may be another model's; a few rows more are usual padding."""
STRANGE_UNKNOWN, STRANGE_LETTERS = 0.05, 2.0
"""A share of unknown tokens above this, or fewer letters a token, say that the tokenizer was made for another language. Of bytes
an alphabet like the Cyrillic one takes two a letter, which would hide that it is read letter by letter."""


class TextInputs:
    """Texts, or pairs of them, for one tokenizer.

    A prepared sample is {"ids": int32 [T][, "types": uint8 [T]][, "windows": int32 [W], their lengths, if it is read in windows], "told":
    int32 [4]}.
    """

    policies = ("none",)
    views: ClassVar[dict[str, int]] = {"none": 1}
    mixes: ClassVar[dict[str, Mix]] = {}
    filters: ClassVar[dict[str, Filter[str]]] = FILTERS

    def __init__(self, preprocessing: Texts) -> None:
        self.preprocessing = preprocessing

    @cached_property
    def key(self) -> str:
        import tokenizers

        told = {**self.preprocessing.json(), "most": None, "version": VERSION, "tokenizers": tokenizers.__version__}
        del told["family"]  # the same tokens, whatever reads them
        content = json.dumps(told, sort_keys=True) + self.preprocessing.digest
        return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()

    def filtered(self, name: str) -> TextInputs:
        return TextInputs(replace(self.preprocessing, filter=name))

    @cached_property
    def tokenizer(self) -> Any:
        """Cuts at `size` and keeps what was cut as further windows."""
        made = self.preprocessing.tokenizer()
        made.enable_truncation(self.preprocessing.size)
        return made

    @cached_property
    def joint(self) -> str | None:
        """What stands between the texts of a pair where the tokenizer puts nothing there (most decoders); None where it does."""
        pair = self.preprocessing.tokenizer().encode("a", "b")
        return None if sum(pair.special_tokens_mask) else "\n"

    @staticmethod
    def raw(sample: Any, fitted: tuple[str, ...]) -> str | tuple[str, ...]:
        """A text, or a pair of texts where the fit had two columns. Raises ValueError, also where nothing can be read in one."""
        pairs = len(fitted) == 2
        if isinstance(sample, str):
            if pairs:
                raise ValueError("is one text, where the model was fitted on pairs")
            _refuse_empty("", sample)
            return sample
        if isinstance(sample, tuple | list) and len(sample) == 2 and all(isinstance(one, str) for one in sample):
            if not pairs:
                raise ValueError("is a pair of texts, where the model was fitted on single ones")
            _refuse_empty("its first text ", sample[0])
            _refuse_empty("its second text ", sample[1])
            return tuple(sample)
        raise ValueError(f"a {type(sample).__name__}, where a {'pair of texts' if pairs else 'text'} is needed")

    @staticmethod
    def find(paths: Sequence[str], listed: Iterable[bytes], columns: Columns, fitted: tuple[str, ...]) -> Found:
        """Lines of text files and of stdin, rows of tables, and whole text files in folders."""
        return found_texts.Texts(paths, listed, columns, fitted).found()

    def prepare_all(self, raws: list[Any], workers: int) -> list[Tree | str]:
        """Tokens of each text; the tokenizer uses the processors by itself. The reason where a sample is no text."""
        good = [raw for raw in raws if isinstance(raw, str | tuple)]
        made = iter(self.tokenizer.encode_batch([self._shown(raw) for raw in good]) if good else [])
        found: list[Tree | str] = []
        for raw in raws:
            found.append(self._tree(raw, next(made)) if isinstance(raw, str | tuple) else "is no text")
        return found

    def _shown(self, raw: str | tuple[str, ...]) -> Any:
        """As the model was trained to see it; what is no valid Unicode is replaced."""
        texts = [self._filtered(text) for text in ([raw] if isinstance(raw, str) else raw)]
        shown = [self.preprocessing.prefix + text.encode("utf-8", "replace").decode() for text in texts]
        if len(shown) == 1:
            return shown[0]
        return tuple(shown) if self.joint is None else self.joint.join(shown)

    def _filtered(self, text: str) -> str:
        """A text of which nothing would be left stays as it is."""
        name = self.preprocessing.filter
        return (self.filters[name].apply(text).strip() or text) if name else text

    def _tree(self, raw: str | tuple[str, ...], encoding: Any) -> Tree | str:
        parts = [encoding, *encoding.overflowing]
        special = sum(encoding.special_tokens_mask)
        tokens = special + sum(len(part.ids) - special for part in parts)
        unknown = sum(part.tokens.count(self._unknown) for part in parts) if self._unknown else 0
        kept = self._kept(raw, parts)
        ids = [token for part in kept for token in part.ids]
        if not ids:
            return "holds no token that the model knows"
        tree = {"ids": torch.tensor(ids, dtype=torch.int32)}
        if isinstance(raw, tuple) and self.joint is None:
            tree["types"] = torch.tensor(encoding.type_ids, dtype=torch.uint8)
        elif self.preprocessing.long == "window":
            tree["windows"] = torch.tensor([len(part.ids) for part in kept], dtype=torch.int32)
        return {**tree, "told": torch.tensor([tokens, special, unknown, _letters(raw)], dtype=torch.int32)}

    @cached_property
    def _unknown(self) -> str | None:
        """The token that stands for what the tokenizer does not know."""
        model = json.loads(self.preprocessing.tokenizer().to_str())["model"]
        if isinstance(model.get("unk_id"), int):
            return model["vocab"][model["unk_id"]][0]
        return model.get("unk_token")

    def _kept(self, raw: str | tuple[str, ...], parts: list[Any]) -> list[Any]:
        """What is read of a text: its first part, or its head and tail, or its first windows. Of a pair, the ends are cut off."""
        encoding, long = parts[0], self.preprocessing.long
        if long == "window" and isinstance(raw, str):
            return parts[:WINDOWS]
        if long != "head+tail" or not isinstance(raw, str) or len(parts) == 1:
            return [encoding]
        text = self._shown(raw)
        begin, end = self._gap(text, sum(encoding.special_tokens_mask))
        return [self.tokenizer.encode(f"{text[:begin]} {text[end:]}")]

    def _gap(self, text: str, special: int) -> tuple[int, int]:
        """Between which characters of a text that is too long its middle is cut out."""
        whole = self.preprocessing.tokenizer().encode(text, add_special_tokens=False)
        room = self.preprocessing.size - special
        head = room // 4
        return whole.offsets[head - 1][1], whole.offsets[head - room][0]

    @staticmethod
    def cost(prepared: Tree) -> int:
        """Tokens that are read."""
        return len(prepared["ids"])

    @staticmethod
    def size_of(prepared: Tree) -> int:
        """Tokens before anything is cut."""
        return int(prepared["told"][TOKENS])

    @staticmethod
    def view(prepared: Tree, view: int, seed: int, policy: str) -> Tree:
        """Texts have one view: themselves."""
        return prepared

    @staticmethod
    def augment(prepared: Tree, policy: str, seed: int, target: Any = None) -> Tree:
        return prepared

    @staticmethod
    def mix(first: Tree, second: Tree, kind: str, seed: int) -> tuple[Tree, float]:
        raise NotImplementedError("texts are not mixed")

    @staticmethod
    def ids(samples: Iterable[Tree]) -> torch.Tensor:
        """int64 [n]: the tokens that occur."""
        return torch.cat([sample["ids"] for sample in samples]).unique().long()

    @staticmethod
    def collate(samples: list[Tree]) -> dict[str, torch.Tensor]:
        """{"input_ids", "attention_mask"[, "token_type_ids"]}: int64 [batch, longest], padded on the right; of texts that are read in
        windows [batch, most windows, longest]."""
        if "windows" in samples[0]:
            return _in_windows(samples)
        ids = nn.utils.rnn.pad_sequence([sample["ids"].long() for sample in samples], batch_first=True)
        lengths = torch.tensor([len(sample["ids"]) for sample in samples])
        batch = {"input_ids": ids, "attention_mask": (torch.arange(ids.shape[1]) < lengths[:, None]).long()}
        if "types" in samples[0]:
            types = [sample["types"].long() for sample in samples]
            batch["token_type_ids"] = nn.utils.rnn.pad_sequence(types, batch_first=True)
        return batch

    def findings(self, samples: Iterable[tuple[str, Tree]]) -> list[Finding]:
        """Texts longer than the model reads, a language that is not the tokenizer's, and a tokenizer that may not be the model's."""
        named = list(samples)
        if not named:
            return []
        told = torch.stack([sample["told"] for _, sample in named]).double()
        found = []
        size = self.preprocessing.size
        long = (told[:, TOKENS] > size).nonzero().flatten().tolist()
        if long:
            lost = float((told[long, TOKENS] - size).sum() / told[:, TOKENS].sum())
            what = f"texts longer than the {size} tokens that are read: {len(long)}, by {lost:.1%} of all tokens"
            names = [named[i][0] for i in long[:20]]
            found.append(Finding("long texts", "note", what, names, len(long), LONG[self.preprocessing.long]))
        words = (told[:, TOKENS] - told[:, MARKS]).sum().clamp_min(1)
        unknown, each = (float(told[:, what].sum() / words) for what in (UNKNOWN, LETTERS))
        if unknown > STRANGE_UNKNOWN or each < STRANGE_LETTERS:
            what = f"the tokenizer seems made for another language: {unknown:.1%} unknown tokens, {each:.1f} letters a token"
            done = "a multilingual model may do better, for example --model e5-small"
            found.append(Finding("language", "note", what, [named[0][0]], len(named), done))
        known, rows = self.tokenizer.get_vocab_size(), self.preprocessing.vocabulary
        if known < FEW * rows:
            what = f"the tokenizer knows {known:,} tokens, and the model {rows:,}: they may not belong together"
            done = "look whether the tokenizer is the one that the model was saved with"
            found.append(Finding("vocabulary", "note", what, [named[0][0]], len(named), done))
        return found

    @staticmethod
    def numbers(raw: Raw, prepared: Tree) -> dict[str, float]:
        """Their length says it."""
        return {}

    @staticmethod
    def traits(ours: Sequence[Raw], theirs: Sequence[Raw], workers: int) -> list[Trait]:
        return text_traits.traits(ours, theirs)

    @staticmethod
    def grounds(stages: int) -> Iterable[int]:
        """What flows into the first block: embedded tokens. Where nothing does, as in a table of vectors, nothing can be asked."""
        return range(1, min(2, stages))

    def blanks(self, batch: Tree) -> list[Tree]:
        """Texts of as many tokens, all the same one that says little; marks around a text stay. Token 0 where there is no such token."""
        ids = batch["input_ids"]
        marks = torch.isin(ids, torch.tensor(self.tokenizer.encode("").ids, dtype=torch.int64, device=ids.device))
        names = dict.fromkeys((*BLANKS, self._unknown or ""))
        known = [place for name in names if (place := self.tokenizer.token_to_id(name)) is not None]
        return [{**batch, "input_ids": torch.where(marks, ids, place)} for place in known[:WAYS] or [0]]

    @staticmethod
    def evidence(shares: Tree) -> list[np.ndarray] | None:
        """float32 [T] each, of the tokens in the order of "ids", of all windows one behind the other."""
        if not isinstance(shares, dict):
            return None
        each, mask = shares["states"].float().sum(-1).cpu(), shares["mask"].cpu()
        return [row[there].numpy() for row, there in zip(each, mask, strict=True)]

    def shown(self, raw: Raw, evidence: np.ndarray | None) -> Passages | None:
        """The text, or the two of a pair, as the model was shown it; word by word what the evidence of its tokens makes of it."""
        if isinstance(raw, bytes):
            return None
        texts = tuple(self._filtered(text) for text in ([raw] if isinstance(raw, str) else raw))
        spans = self.spans(raw)
        weights = evidence if evidence is not None and len(evidence) == len(spans) else None
        found = pieces(texts, spans, weights)
        return Passages(tuple(shortened(each, SHOWN // len(texts)) for each in found), weights is not None)

    def spans(self, raw: str | tuple[str, ...]) -> Spans:
        """int64 [T, 3] of the tokens in the order of "ids": which text, and the characters of it (as it is shown) that a token stands for,
        from and to; text -1 where it stands for none, as marks do."""
        shown = self._shown(raw)
        (encoding,) = self.tokenizer.encode_batch([shown])
        parts = [encoding, *encoding.overflowing]
        kept = self._kept(raw, parts)
        found = [
            (-1 if text is None else text, *span)
            for part in kept
            for text, span in zip(part.sequence_ids, part.offsets, strict=True)
        ]
        spans = np.array(found, dtype=np.int64).reshape(-1, 3)
        if kept[0] not in parts:  # its middle was cut out, and a space stands there
            begin, end = self._gap(shown, sum(encoding.special_tokens_mask))
            spans[:, 1:] += np.where(spans[:, 1:] > begin, end - begin - 1, 0)
        if not isinstance(raw, str) and isinstance(shown, str):  # a pair that the tokenizer does not know as one
            second = len(shown) - len(self.preprocessing.prefix + raw[1])
            later = (spans[:, 0] == 0) & (spans[:, 2] > second)
            spans[later] += (1, -second, -second)
        spans[:, 1:] -= len(self.preprocessing.prefix)
        spans[spans[:, 2] <= 0, 0] = -1
        spans[:, 1:] = spans[:, 1:].clip(0)
        return spans


def _in_windows(samples: list[Tree]) -> dict[str, torch.Tensor]:
    counts = [len(sample["windows"]) for sample in samples]
    longest = max(int(sample["windows"].max()) for sample in samples)
    ids = torch.zeros(len(samples), max(counts), longest, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for row, sample in enumerate(samples):
        for number, window in enumerate(sample["ids"].split(sample["windows"].tolist())):
            ids[row, number, : len(window)] = window
            mask[row, number, : len(window)] = 1
    return {"input_ids": ids, "attention_mask": mask}


def _refuse_empty(called: str, text: str) -> None:
    """As `data.text_checks.empty_rows` does in training."""
    if all(letter.isspace() or unicodedata.category(letter) in BLANK for letter in text):
        raise ValueError(f"{called}{'holds only spaces' if text else 'is empty'}")


def _letters(raw: str | tuple[str, ...]) -> int:
    text = raw if isinstance(raw, str) else "".join(raw)
    wide = 0 if text.isascii() else sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return len(text) + 2 * wide
