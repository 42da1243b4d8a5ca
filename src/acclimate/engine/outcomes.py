"""The outcomes of phases: written before they take effect, replayed by a resume, remembered across runs by content."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from acclimate.core.errors import fail
from acclimate.core.run import CHECKPOINT, Run, write_whole
from acclimate.engine.checkpoint import read
from acclimate.engine.phase import CURVE, PASS, Outcome, Phase
from acclimate.engine.store import Store

POINT = ("epoch", "step", "loss", "val_loss", "value")
"""What an epoch's line of the log tells of it."""
Weights = dict[str, torch.Tensor]
"""What a phase left different from the pretrained weights and the fresh head, by name."""


class Outcomes:
    """Each outcome is a line of the log and a file with weights and per-sample figures; the file is whole before the line is there."""

    def __init__(self, run: Run, store: Store) -> None:
        self.run = run
        self.store = store

    def file(self, index: int) -> Path:
        return self.run.file(f"checkpoint/phase-{index}.safetensors")

    def write(self, outcome: Outcome, phase: Phase, changed: Weights, adapter: Weights) -> None:
        """`adapter`: the parameters of the phase's adapter, which is merged into `changed`; else empty."""
        arrays = {"scores": torch.from_numpy(outcome.scores), "losses": torch.from_numpy(outcome.losses)}
        tensors = {f"net/{name}": value for name, value in changed.items()} | arrays
        tensors |= {f"adapter/{name}": value for name, value in adapter.items()}
        write_whole(self.file(outcome.index), save(tensors, {"acclimate": "{}"}))
        self.run.log(
            "outcome",
            durable=True,
            index=outcome.index,
            name=phase.name,
            value=outcome.value,
            loss=float(outcome.losses.mean()),
            seconds=round(outcome.seconds, 3),
            epochs=outcome.epochs,
            notes=outcome.notes,
            phase=phase.json(),
        )
        self.run.file(CHECKPOINT).unlink(missing_ok=True)

    def recorded(self, index: int, phase: Phase) -> Outcome | None:
        """Outcome `index` of this run, where the log has it. Raises `UserError` where it belongs to another phase."""
        event = self._event(index)
        if event is None:
            return None
        if event["phase"] != json.loads(json.dumps(phase.json())):
            raise fail(
                f"run folder {str(self.run.path)!r}",
                "was begun along another path of phases",
                "begin anew with another --out",
            )
        checkpoint = self.run.file(CHECKPOINT)
        if checkpoint.exists() and read(checkpoint)[0]["phase"] == index:  # killed between the line and its removal
            checkpoint.unlink()
        return self.read(index)

    def read(self, index: int) -> Outcome:
        """Outcome `index`, which this run has."""
        event = self._event(index)
        assert event is not None
        _, tensors = read(self.file(index))
        return _outcome(index, event["name"], event, tensors, event["seconds"], event["notes"])

    def _event(self, index: int) -> dict[str, Any] | None:
        found = (event for event in self.run.events() if event["event"] == "outcome" and event["index"] == index)
        return next(found, None)

    def weights(self, index: int) -> Weights:
        return self._part(index, "net/")

    def adapter(self, index: int) -> Weights:
        """The adapter that was merged into the weights of outcome `index`; empty without one."""
        return self._part(index, "adapter/")

    def curve(self, outcome: Outcome) -> list[dict[str, Any]]:
        """A point an epoch, {"epoch", "step", "loss"[, "value"][, "val_loss"]}; empty where it was fitted without steps."""
        known = outcome.notes.get(CURVE)
        if known is not None:
            return list(known)
        epochs = (event for event in self.run.events() if event["event"] == "epoch" and event["phase"] == outcome.index)
        return [{name: event[name] for name in POINT if name in event} for event in epochs]

    def phase(self, index: int) -> Phase:
        """The phase that outcome `index` is of."""
        event = self._event(index)
        assert event is not None
        told = event["phase"]
        values: dict[str, Any] = {name: tuple(one) if isinstance(one, list) else one for name, one in told.items()}
        return Phase(**values)

    def _part(self, index: int, prefix: str) -> Weights:
        _, tensors = read(self.file(index))
        return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}

    def remember(self, key: str, outcome: Outcome, changed: Weights, adapter: Weights) -> None:
        """Keep an outcome in the cache. `key` must name all that it follows from."""
        tree = {"net": changed, "scores": torch.from_numpy(outcome.scores), "losses": torch.from_numpy(outcome.losses)}
        tree |= {"adapter": adapter} if adapter else {}
        told = {"value": outcome.value, "epochs": outcome.epochs, "notes": outcome.notes, CURVE: self.curve(outcome)}
        self.store.put(key, tree, told=json.dumps(told))

    def remembered(self, key: str, index: int, name: str) -> tuple[Outcome, Weights, Weights] | None:
        """What the cache knows under `key`, with the weights it left, and the adapter."""
        chunk = self.store.get(key)
        if chunk is None:
            return None
        told = json.loads(chunk.notes["told"])
        notes = {name: value for name, value in told["notes"].items() if name != PASS}
        notes |= {"remembered": True, CURVE: told.get(CURVE, [])}
        outcome = _outcome(index, name, told, chunk.tree, 0.0, notes)
        return outcome, chunk.tree["net"], chunk.tree.get("adapter", {})


def _outcome(index: int, name: str, told: Any, tensors: Any, seconds: float, notes: dict[str, Any]) -> Outcome:
    scores, losses = tensors["scores"].numpy(), tensors["losses"].numpy()
    return Outcome(index, name, told["value"], seconds, told["epochs"], scores, losses, notes)
