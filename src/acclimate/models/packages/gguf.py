"""Decoders of the Llama shape in GGUF files, whatever their quantisation, expanded to float32."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from acclimate.models.packages.content import Content

NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
CONTROL = 3
"""Of `gguf.TokenType`: a special token."""


def read(files: dict[str, Path]) -> Content:
    """`files`: the one file. Its tokenizer is a byte-level BPE that takes digits one by one (pre-tokenizer "smollm")."""
    from gguf import GGUFReader, dequantize

    (path,) = files.values()
    file = GGUFReader(path)
    fields = {name: field.contents() for name, field in file.fields.items()}
    form = (fields["general.architecture"], fields["tokenizer.ggml.model"], fields["tokenizer.ggml.pre"])
    if form != ("llama", "gpt2", "smollm"):
        raise ValueError(f"architecture and tokenizer are {form}")
    heads = {"attn_q": fields["llama.attention.head_count"], "attn_k": fields["llama.attention.head_count_kv"]}
    state = {}
    for tensor in file.tensors:
        *layer, part, kind = tensor.name.removeprefix("blk.").split(".")
        matrix = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        if part in heads:
            matrix = _halves(matrix, heads[part])
        state[".".join([*(["model.layers", *layer] if layer else []), NAMES[part], kind])] = torch.from_numpy(matrix)
    return Content(_config(fields, tied="lm_head.weight" not in state), state, _tokenizer(fields))


def _halves(matrix: np.ndarray, heads: int) -> np.ndarray:
    """Rows of queries and keys: GGUF turns neighbours in pairs (rotary embedding), transformers the halves of a head."""
    return matrix.reshape(heads, -1, 2, matrix.shape[1]).swapaxes(1, 2).reshape(matrix.shape)


def _config(fields: dict[str, Any], tied: bool) -> dict[str, Any]:
    width, heads = fields["llama.embedding_length"], fields["llama.attention.head_count"]
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": len(fields["tokenizer.ggml.tokens"]),
        "hidden_size": width,
        "intermediate_size": fields["llama.feed_forward_length"],
        "num_hidden_layers": fields["llama.block_count"],
        "num_attention_heads": heads,
        "num_key_value_heads": fields["llama.attention.head_count_kv"],
        "head_dim": width // heads,
        "max_position_embeddings": fields["llama.context_length"],
        "rms_norm_eps": float(f"{fields['llama.attention.layer_norm_rms_epsilon']:.6g}"),
        "rope_theta": fields["llama.rope.freq_base"],
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "initializer_range": 0.02,
        "tie_word_embeddings": tied,
        "bos_token_id": fields["tokenizer.ggml.bos_token_id"],
        "eos_token_id": fields["tokenizer.ggml.eos_token_id"],
        "pad_token_id": fields["tokenizer.ggml.padding_token_id"],
    }


def _tokenizer(fields: dict[str, Any]) -> dict[str, Any]:
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE

    pieces = fields["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(BPE({piece: number for number, piece in enumerate(pieces)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    kinds = fields["tokenizer.ggml.token_type"]
    tokenizer.add_special_tokens([piece for piece, kind in zip(pieces, kinds, strict=True) if kind == CONTROL])
    return json.loads(tokenizer.to_str())
