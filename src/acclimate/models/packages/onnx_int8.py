"""BERTs in ONNX files whose matrices were rounded to 8 bits (dynamic quantisation of ONNX Runtime), expanded to float32."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from acclimate.models.packages.content import TOKENIZER, Content, bert_config

MODEL = "model.onnx"
HEADS = 12
"""Of every file in the table: the one number of the architecture that no shape tells."""
KINDS = {1: "<f4", 2: "u1", 3: "i1", 6: "<i4", 7: "<i8"}
"""Of `TensorProto.DataType`."""
Wire = Iterator[tuple[int, Any]]


@dataclass(frozen=True)
class Node:
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)


def read(files: dict[str, Path]) -> Content:
    """`files`: model.onnx and tokenizer.json. A classifier on top of the body is left out."""
    tensors, nodes = _graph(memoryview(files[MODEL].read_bytes()))
    state = {name: tensor for name, tensor in tensors.items() if name.endswith((".weight", ".bias"))}
    state |= _expanded(tensors, nodes)
    body = {name.removeprefix("bert."): torch.from_numpy(tensor.copy()) for name, tensor in state.items()}
    body = {name: tensor for name, tensor in body.items() if not name.startswith("classifier.")}
    return Content(bert_config(body, HEADS), body, json.loads(files[TOKENIZER].read_text(encoding="utf-8")))


def _expanded(tensors: dict[str, np.ndarray], nodes: list[Node]) -> dict[str, np.ndarray]:
    """(q - zero point) * scale of each rounded matrix.

    Embeddings keep their names. A linear layer's matrix lost its name and is transposed: it is named after the bias
    that its product meets, by way of Cast and Mul.
    """
    user = {name: node for node in nodes for name in node.inputs}
    state = {}
    for name in (name for name in tensors if name.endswith("_quantized")):
        stem = name.removesuffix("_quantized")
        matrix = (tensors[name].astype(np.float32) - tensors[f"{stem}_zero_point"]) * tensors[f"{stem}_scale"]
        node = user[name]
        if f"{stem}_zero_point" not in node.inputs:  # looked up and expanded: an embedding
            state[stem] = matrix
            continue
        while not (bias := [each for each in node.inputs if each.endswith(".bias")]):
            node = user[node.outputs[0]]
        state[bias[0].removesuffix(".bias") + ".weight"] = matrix.T
    return state


# --- as much of protobuf's wire format, and of the messages in onnx.proto, as that takes


def _graph(model: memoryview) -> tuple[dict[str, np.ndarray], list[Node]]:
    """The initializers by name, and the nodes."""
    graph = next(value for number, value in _fields(model) if number == 7)
    parts = list(_fields(graph))
    return dict(_tensor(value) for number, value in parts if number == 5), [
        _node(value) for number, value in parts if number == 1
    ]


def _node(message: memoryview) -> Node:
    node = Node()
    for number, value in _fields(message):
        if number in (1, 2):
            (node.inputs if number == 1 else node.outputs).append(str(value, "utf-8"))
    return node


def _tensor(message: memoryview) -> tuple[str, np.ndarray]:
    shape: list[int] = []
    name, kind, values = "", "", np.empty(0)
    for number, value in _fields(message):
        if number == 1:
            shape += [value] if isinstance(value, int) else _varints(value)
        elif number == 2:
            kind = KINDS[value]
        elif number == 4:
            values = np.frombuffer(value, "<f4")
        elif number in (5, 7):
            values = np.array(_varints(value), np.uint64).astype(np.int64)  # negative ones come as 64 bits
        elif number == 8:
            name = str(value, "utf-8")
        elif number == 9:
            values = np.frombuffer(value, kind)
    return name, values.astype(kind).reshape(shape)


def _fields(message: memoryview) -> Wire:
    """(number, value) of each field: an int, or the bytes of what has a length."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        if key & 7 == 0:
            value, at = _varint(message, at)
            yield key >> 3, value
            continue
        size, at = _varint(message, at) if key & 7 == 2 else ({1: 8, 5: 4}[key & 7], at)
        if at + size > len(message):
            raise ValueError("it ends too early")
        yield key >> 3, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """An integer in groups of 7 bits, the lowest first; the place after it."""
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def _varints(packed: memoryview) -> list[int]:
    values, at = [], 0
    while at < len(packed):
        value, at = _varint(packed, at)
        values.append(value)
    return values
