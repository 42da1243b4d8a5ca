"""Reading weights from files, safely, and putting them into a module, strictly."""

from __future__ import annotations

import sys
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from acclimate.core.errors import fail
from acclimate.models.classifier import find_classifier

State = Mapping[str, torch.Tensor]
WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model", "model_state_dict")
"""Keys under which checkpoints of common training programs keep the weights, best first."""
PREFIXES = ("module.", "_orig_mod.", "model.")
HEADS = ("classifier", "fc", "head", "head_dist", "heads", "last_linear", "logits")
"""First words of names that a classifier of another shape may have left in a file."""
COUNTERS = "num_batches_tracked"
"""Counted by batch norm since 2018; older files lack them."""
SHOWN = 4


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file or a torch state dict, by name; wrappers of common checkpoints are taken off.

    Never runs code that a file holds. Raises `UserError` for a file that is missing, damaged, holds code, or no weights.
    """
    check_there(path)
    value = f"weights {str(path)!r}"
    content = _read(path, value)
    for name in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
            break
    if (
        not isinstance(content, Mapping)
        or not content
        or not all(isinstance(t, torch.Tensor) for t in content.values())
    ):
        raise fail(value, "holds no state dict", "save one: torch.save(model.state_dict(), FILE)")
    return _unprefixed(content)


def check_there(path: Path) -> None:
    """Raises `UserError` for weights that are no file."""
    if not path.is_file():
        raise fail(f"weights {str(path)!r}", "is not a file", "give a .safetensors file or a torch state dict")


def _read(path: Path, value: str) -> Any:
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise fail(value, f"is damaged ({error})", "fetch or save it again") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickles that are refused below
            return torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        pickled = _starts(path) == b"\x80" and "Unsupported" in str(error)
        if "GLOBAL" not in str(error) and not pickled:
            raise fail(value, "is damaged or not a file of torch", "fetch or save it again") from None
        remedy = "save the weights alone, torch.save(model.state_dict(), FILE), or as safetensors"
        raise fail(value, "holds pickled code, which is never run", remedy) from None
    except Exception as error:  # bytes that are no pickle end in any of a dozen classes
        raise fail(
            value, f"is damaged or not a file of torch ({type(error).__name__})", "fetch or save it again"
        ) from None


def _starts(path: Path) -> bytes:
    """The first byte: b"\x80" of a bare pickle."""
    with path.open("rb") as file:
        return file.read(1)


def _unprefixed(content: State) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = OrderedDict(content)
    if hasattr(content, "_metadata"):  # versions of modules, which some read to bring old weights up to date
        state._metadata = content._metadata  # type: ignore[attr-defined]
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in state):
            state = OrderedDict((name.removeprefix(prefix), tensor) for name, tensor in state.items())
    return state


def fill(module: nn.Module, state: State, classifier: str | None, value: str) -> None:
    """Put `state` into the module. Only the classifier may be missing, new or of another size.

    `value` names the weights in the error. Raises `UserError` that lists what differs.
    """
    state, own = _adapted(module, state), module.state_dict()
    head = f"{classifier}." if classifier else None
    tops = {*HEADS, classifier.split(".")[0]} if classifier else set()
    body = {name for name in own if head is None or not name.startswith(head)}
    shapes = [name for name in state if name in own and state[name].shape != own[name].shape]
    wrong = [
        *_told("missing", [name for name in own if name in body - state.keys() and not name.endswith(COUNTERS)]),
        *_told("unknown", [name for name in state if name not in own and name.split(".")[0] not in tops]),
        *_told("of another shape", [name for name in shapes if name in body], state, own),
    ]
    if wrong:
        kind = type(module).__name__
        raise fail(value, f"does not fit {kind}: {'; '.join(wrong)}", "name the architecture that it was saved from")
    fitting = OrderedDict((name, tensor) for name, tensor in state.items() if name in own and name not in shapes)
    fitting._metadata = getattr(state, "_metadata", own._metadata)  # type: ignore[attr-defined]
    module.load_state_dict(fitting, strict=False)


def fill_from(module: nn.Module, card: Any, path: Path) -> None:
    """Put the weights of a file into a module that classifies, or gives features. Raises `UserError` where they do not fit."""
    state = read_weights(path)
    fill(module, state, find_classifier(module.eval(), card.preprocessing.example(2)), f"weights {str(path)!r}")


def check_finite(module: nn.Module, value: str) -> None:
    """Raises `UserError` where a weight is NaN or infinite."""
    for name, parameter in module.named_parameters():
        if not parameter.isfinite().all():
            raise fail(value, f"holds values that are not finite, in {name}", "fetch or save it again")


def _told(what: str, names: list[str], *states: State) -> list[str]:
    if not names:
        return []
    shown = [
        f"{name} {' for '.join(str(list(state[name].shape)) for state in states)}".rstrip() for name in names[:SHOWN]
    ]
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return [f"{len(names)} {what} ({', '.join(shown)}{more})"]


def _adapted(module: nn.Module, state: State) -> State:
    """timm's own filter of the architecture, where the names or shapes differ: older checkpoints, other image sizes."""
    own = module.state_dict()
    same = state.keys() == own.keys() and all(state[name].shape == own[name].shape for name in own)
    adapt = getattr(sys.modules[type(module).__module__], "checkpoint_filter_fn", None)
    if same or adapt is None or not hasattr(module, "pretrained_cfg"):
        return state
    try:
        return adapt(dict(state), module)
    except (KeyError, RuntimeError, ValueError, AttributeError, AssertionError):
        return state
