"""Frozen means frozen: no gradients, eval mode whatever `train()` says, and a fingerprint that proves it."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable

import torch

from acclimate.models.backbone import Backbone


def freeze(backbone: Backbone, trained: Collection[str], norms: bool = False) -> None:
    """From now on only the stages named in `trained` train; every other stage is frozen.

    Frozen stages need no gradient and are in eval mode (batch norm, dropout, drop path), also after `.train()` on the
    backbone or on a module that holds it; with `norms` batch norm is too in the stages that train. Calling it again
    replaces what was said before. Raises KeyError for a name that is no stage.
    """
    unknown = set(trained) - {stage.name for stage in backbone.stages}
    if unknown:
        raise KeyError(f"no such stage: {', '.join(sorted(unknown))}")
    parameters = dict(backbone.named_parameters(remove_duplicate=False))
    for stage in backbone.stages:
        for name in stage.parameters:
            parameters[name].requires_grad_(stage.name in trained)
    backbone.frozen = frozenset(stage.name for stage in backbone.stages if stage.name not in trained)
    backbone.frozen_norms = norms
    backbone.train(backbone.training)


def fingerprint(backbone: Backbone, stages: Iterable[str] | None = None, but: Collection[str] = ()) -> str:
    """A hash of every parameter and buffer of the stages named (default: the frozen ones), bit for bit; without those named in `but`."""
    chosen = set(backbone.frozen if stages is None else stages)
    tensors = backbone.state_dict()
    digest = hashlib.blake2b(digest_size=16)
    for stage in backbone.stages:
        if stage.name in chosen:
            for name in (each for each in (*stage.parameters, *stage.buffers) if each not in but):
                digest.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode())
                digest.update(_bytes(tensors[name]))
    return digest.hexdigest()


def _bytes(tensor: torch.Tensor) -> memoryview:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data
