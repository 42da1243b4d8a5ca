"""Static token vectors: a safetensors file of one table, and the tokenizer whose tokens are its rows."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import load_file

from acclimate.models.packages.content import Content

TABLE = "embedding.weight"
ENDS = (".safetensors", ".json")


def read(files: dict[str, Path]) -> Content:
    """`files`: one of vectors (.safetensors) and one of the tokenizer (.json), which marks nothing around a text: only its own tokens
    were averaged when the vectors were trained."""
    (weights,), (tokenizer,) = ([path for name, path in files.items() if name.endswith(end)] for end in ENDS)
    tensors = load_file(weights)
    shapes = {name: list(tensor.shape) for name, tensor in tensors.items()}
    if list(shapes) != [TABLE] or len(shapes[TABLE]) != 2:
        raise ValueError(f"tensors are {shapes} instead of one table {TABLE}")
    words, width = shapes[TABLE]
    config = {"model_type": "static", "vocab_size": words, "hidden_size": width}
    plain = {**json.loads(tokenizer.read_text(encoding="utf-8")), "post_processor": None}
    return Content(config, {TABLE: tensors[TABLE].float()}, plain)
