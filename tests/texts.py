"""Tiny language models with random weights, their tokenizers trained on the spot, and texts of three classes made from templates."""

from __future__ import annotations

import functools
import itertools
import json
from pathlib import Path
from typing import Any

import pytest

transformers = pytest.importorskip("transformers")

PARTS: dict[str, tuple[list[str], list[str], list[str]]] = {
    "travel": (
        ["Which train goes to", "How far is it to", "Where do I change for", "Is there a night bus to"],
        ["Lisbon", "Oslo", "the old harbour", "Vienna", "the airport"],
        ["on Sunday?", "after midnight?", "in winter?", "with a bicycle?"],
    ),
    "kitchen": (
        ["Stir the butter into", "Slowly bake", "Add two cups of flour to", "Let us taste"],
        ["the dough", "a soup of leeks", "the pie", "roast carrots", "my rice"],
        ["for ten minutes.", "with salt and thyme.", "until it is golden.", "and serve warm."],
    ),
    "weather": (
        ["Heavy rain over", "A cold wind from", "Thick fog near", "Bright sunshine above"],
        ["the coast", "the hills", "northern valleys", "both islands", "the plain"],
        ["will last all day.", "turns into snow.", "is expected tonight.", "clears by noon."],
    ),
}
"""Class -> (beginnings, middles, ends)."""
CLASSES = list(PARTS)


def samples(each: int, skip: int = 0) -> list[tuple[str, str]]:
    """(text, class), all different, the classes in turn."""
    by_class = [[" ".join(words) for words in itertools.product(*parts)] for parts in PARTS.values()]
    spread = [[texts[i * 37 % len(texts)] for i in range(skip, skip + each)] for texts in by_class]
    return [(text, name) for row in zip(*spread, strict=True) for text, name in zip(row, PARTS, strict=True)]


def write_csv(path: Path, rows: list[tuple[str, ...]], *names: str) -> Path:
    import csv

    with path.open("w", newline="", encoding="utf-8", errors="surrogatepass") as file:
        writer = csv.writer(file)
        writer.writerow(names or ("text", "label"))
        writer.writerows(rows)
    return path


def write_texts(folder: Path, train: int = 24, test: int = 8) -> Path:
    """A folder of train.csv and test.csv."""
    folder.mkdir(parents=True)
    write_csv(folder / "train.csv", samples(train))
    write_csv(folder / "test.csv", samples(test, skip=train))
    return folder


# --- tokenizers


@functools.cache
def word_pieces() -> str:
    """tokenizer.json of BERT's kind: lower case, [CLS] text [SEP]."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    made.train_from_iterator(
        [text for text, _ in samples(60)], trainers.WordPieceTrainer(vocab_size=400, special_tokens=special)
    )
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", made.token_to_id("[CLS]")), ("[SEP]", made.token_to_id("[SEP]"))],
    )
    return made.to_str()


@functools.cache
def byte_pairs() -> str:
    """tokenizer.json of GPT-2's kind: any bytes, nothing around a text, no token to pad with."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet)
    made.train_from_iterator([text for text, _ in samples(60)], trainer)
    return made.to_str()


# --- models

LENGTH = 64
"""Most tokens that the tiny models read, where their architecture limits it."""
COMMON = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": LENGTH,
    "vocab_size": 400,
}
ENDS = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": None}
GPT2 = {
    "n_embd": 32,
    "n_layer": 3,
    "n_head": 4,
    "n_positions": LENGTH,
    "vocab_size": 400,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
GROUPED = {**COMMON, **ENDS, "num_key_value_heads": 2}
MODERN = {
    "pad_token_id": 0,
    "cls_token_id": 2,
    "sep_token_id": 3,
    "bos_token_id": 2,
    "eos_token_id": 3,
    "local_attention": 8,
}
ENCODERS: dict[str, dict[str, Any]] = {
    "bert": COMMON,
    "roberta": {**COMMON, "max_position_embeddings": LENGTH + 2, "pad_token_id": 1},
    "distilbert": {
        **{"dim": 32, "n_layers": 3, "n_heads": 4, "hidden_dim": 64},
        **{"max_position_embeddings": LENGTH, "vocab_size": 400},
    },
    "deberta-v2": {**COMMON, "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 16},
    "deberta": {**COMMON, "relative_attention": True, "pos_att_type": ["c2p", "p2c"], "max_relative_positions": 16},
    "modernbert": {**COMMON, **MODERN},
    "electra": {**COMMON, "embedding_size": 16},
    "mpnet": {**COMMON, "max_position_embeddings": LENGTH + 2, "pad_token_id": 1},
}
DECODERS: dict[str, dict[str, Any]] = {
    "gpt2": GPT2,
    "llama": GROUPED,
    "qwen2": GROUPED,
    "qwen3": {**GROUPED, "head_dim": 8},
    "mistral": {**GROUPED, "sliding_window": 6},
    "opt": {
        **{
            "hidden_size": 32,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "ffn_dim": 64,
            "word_embed_proj_dim": 32,
        },
        **{
            "max_position_embeddings": LENGTH,
            "vocab_size": 400,
            "pad_token_id": 1,
            "bos_token_id": 0,
            "eos_token_id": 0,
        },
    },
    "gpt_neox": {**COMMON, **ENDS},
    "gemma2": {**GROUPED, "head_dim": 8, "sliding_window": 6, "query_pre_attn_scalar": 8, "pad_token_id": 0},
}
FAMILIES = ENCODERS | DECODERS
"""Type of model -> the arguments of its configuration."""


def bare(kind: str, **changed: Any) -> Any:
    """A transformers model with random weights, wide enough spread that layers matter."""
    import torch

    config = transformers.AutoConfig.for_model(kind, **{**FAMILIES[kind], **changed})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.AutoModel.from_config(config).float().eval()
        for parameter in model.parameters():  # initial values are so small that blocks hardly change what they read
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.15)
    return model


def tiny(kind: str, folder: Path, **changed: Any) -> Path:
    """A folder as the hub has it: config.json, model.safetensors, tokenizer.json."""
    folder.mkdir(parents=True, exist_ok=True)
    bare(kind, **changed).save_pretrained(folder)
    (folder / "tokenizer.json").write_text(word_pieces() if kind in ENCODERS else byte_pairs(), encoding="utf-8")
    return folder


def edited(folder: Path, name: str = "config.json", **changed: Any) -> Path:
    """The folder, with entries of one of its JSON files changed."""
    path = folder / name
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **changed}), encoding="utf-8")
    return folder
