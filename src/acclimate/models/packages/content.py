"""`Content`: a text model as config, weights and tokenizer, and the folder that it becomes, like one of the hub."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

CONFIG, WEIGHTS, TOKENIZER = FILES = ("config.json", "model.safetensors", "tokenizer.json")


@dataclass(frozen=True)
class Content:
    """What a reader brings. `state`: float32, by the names of transformers. `tokenizer`: that of `tokenizers`, as JSON."""

    config: dict[str, Any]
    state: dict[str, torch.Tensor]
    tokenizer: dict[str, Any]

    def write(self, folder: Path) -> None:
        # how long a text may be and how far it is filled up is for the batch to decide
        tokenizer = {**self.tokenizer, "truncation": None, "padding": None}
        folder.mkdir()
        (folder / CONFIG).write_text(json.dumps(self.config, indent=2) + "\n", encoding="utf-8")
        (folder / TOKENIZER).write_text(json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8")
        state = {name: tensor.contiguous() for name, tensor in self.state.items()}
        save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
        (folder / WEIGHTS).chmod((folder / CONFIG).stat().st_mode)  # safetensors lets the owner alone read


def bert_config(state: dict[str, torch.Tensor], heads: int, epsilon: float = 1e-12, pad: int = 0) -> dict[str, Any]:
    """The config of a `BertModel` of these weights; only heads, the norm's epsilon and the padding's id are not in shapes."""
    words, width = state["embeddings.word_embeddings.weight"].shape
    layers = {name.split(".")[2] for name in state if name.startswith("encoder.layer.")}
    return {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "vocab_size": words,
        "hidden_size": width,
        "num_hidden_layers": len(layers),
        "num_attention_heads": heads,
        "intermediate_size": len(state["encoder.layer.0.intermediate.dense.bias"]),
        "max_position_embeddings": len(state["embeddings.position_embeddings.weight"]),
        "type_vocab_size": len(state["embeddings.token_type_embeddings.weight"]),
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "initializer_range": 0.02,
        "layer_norm_eps": epsilon,
        "pad_token_id": pad,
    }
