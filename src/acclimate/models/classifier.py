"""Finding the layer that makes a model's logits: what a head of ours takes the place of."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from acclimate.core.tree import Tree, leaves
from acclimate.models.trace import call


def find_classifier(module: nn.Module, example: Tree) -> str | None:
    """The name of the last Linear or 1 x 1 convolution whose output, pooled and flattened, is the model's output.

    None where there is none (a feature extractor). timm says the name itself, and of several (distilled models) one is taken.
    """
    return _stated(module) or _observed(module, example)


def _stated(module: nn.Module) -> str | None:
    stated = getattr(module, "pretrained_cfg", None) or {}
    names = stated.get("classifier") or ()
    several = (names,) if isinstance(names, str) else tuple(names)
    if not several:
        return None
    # a list of heads, one a depth: the deepest; else the main one stands first (head, head_dist)
    name = several[-1] if several[-1].rpartition(".")[2].isdigit() else several[0]
    try:
        within = module.get_submodule(name)
    except AttributeError:
        return None
    layers = [f"{name}.{inner}".rstrip(".") for inner, layer in within.named_modules() if _is_layer(layer)]
    return layers[-1] if layers else None


def _observed(module: nn.Module, example: Tree) -> str | None:
    made: list[tuple[str, torch.Tensor]] = []
    hooks = [
        layer.register_forward_hook(lambda _layer, _inputs, output, name=name: made.append((name, output.clone())))
        for name, layer in module.named_modules()
        if _is_layer(layer)
    ]
    try:
        with torch.no_grad():
            output = logits(call(module, example))
    finally:
        for hook in hooks:
            hook.remove()
    return next((name for name, raw in reversed(made) if output is not None and _leads_to(raw, output)), None)


def logits(output: Any) -> torch.Tensor | None:
    """The logits among what a model returns."""
    if hasattr(output, "logits"):
        return output.logits
    if isinstance(output, torch.Tensor):
        return output
    if isinstance(output, tuple | list | dict) and all(isinstance(leaf, torch.Tensor) for leaf in leaves(output)):
        return leaves(output)[0]
    return None


def _is_layer(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and set(layer.kernel_size) == {1})


def _leads_to(raw: torch.Tensor, output: torch.Tensor) -> bool:
    forms = [raw, raw.relu()]
    if raw.ndim == 4:
        forms += [form.mean((2, 3)) for form in list(forms)]
    elif raw.ndim == 3:
        forms += [form.mean(1) for form in list(forms)]
    flat = output.flatten(1)
    return any(
        form.flatten(1).shape == flat.shape and torch.allclose(form.flatten(1), flat, atol=1e-5) for form in forms
    )
