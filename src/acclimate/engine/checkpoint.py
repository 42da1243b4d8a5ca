"""Checkpoints: everything of a phase that changes while it trains, in one safetensors file, without pickle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from acclimate.core.errors import fail
from acclimate.core.run import write_whole
from acclimate.engine.loop import State


def save_state(path: Path, state: State, **notes: Any) -> None:
    """Write parameters, buffers, optimizer, average and counters; `notes` (JSON) travel along."""
    tensors = {f"net/{name}": value for name, value in {**state.trained, **state.buffers()}.items()}
    tensors |= {f"extra/{name}": value for name, value in state.extra.state_dict().items()}
    names = {id(value): name for name, value in _learning(state).items()}
    for parameter, slots in state.optimizer.state.items():
        for slot, value in slots.items():
            if value is not None:
                tensors[f"optimizer/{names[id(parameter)]}/{slot}"] = torch.as_tensor(value)
    if state.average is not None:
        tensors |= {f"average/{name}": value for name, value in state.average.values.items()}
    tensors |= {f"best/{name}": value for name, value in (state.best or {}).items()}
    seen = state.average.seen if state.average else 0
    marks = {"step": state.step, "end": state.end, "micro": state.micro, "seen": seen, **notes}
    whole = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    write_whole(path, save(whole, {"acclimate": json.dumps(marks)}))


def load_state(path: Path, state: State) -> dict[str, Any]:
    """Bring `state` to what `save_state` wrote; returns the notes.

    Raises `UserError` where the file is damaged or belongs to another run.
    """
    notes, tensors = read(path)
    try:
        with torch.no_grad():
            for name, value in {**state.trained, **state.buffers()}.items():
                value.copy_(tensors[f"net/{name}"])
            for name, value in state.extra.state_dict().items():
                value.copy_(tensors[f"extra/{name}"])
            if state.average is not None:
                state.average.values = {name: tensors[f"average/{name}"].clone() for name in state.average.values}
                state.average.seen = int(notes["seen"])
        best = {name[5:]: value.clone() for name, value in tensors.items() if name.startswith("best/")}
        state.best = best or None
        for name, parameter in _learning(state).items():
            prefix = f"optimizer/{name}/"
            slots = {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}
            if slots:
                state.optimizer.state[parameter] = {
                    slot: value.to(parameter.device if value.ndim else "cpu").clone() for slot, value in slots.items()
                }
        state.step, state.end, state.micro = int(notes["step"]), notes["end"], int(notes["micro"])
    except (KeyError, RuntimeError) as error:
        raise fail(
            f"checkpoint {str(path)!r}", f"does not fit this run ({error})", "remove it to begin the phase anew"
        ) from None
    return notes


def _learning(state: State) -> dict[str, torch.nn.Parameter]:
    """All that the optimizer moves, by name."""
    return {**state.trained, **{f"extra.{name}": value for name, value in state.extra.named_parameters()}}


def read(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """(notes, tensors) of a file of ours. Raises `UserError` where it is damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            return json.loads(file.metadata()["acclimate"]), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        raise fail(
            f"checkpoint {str(path)!r}", f"cannot be read ({error})", "remove it to begin the phase anew"
        ) from None
