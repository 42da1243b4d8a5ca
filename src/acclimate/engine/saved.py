"""A saved model: `model.safetensors` and `model.json`, all that loading needs, with samples that prove it is what was trained."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

import acclimate
from acclimate.core.errors import UserError, fail
from acclimate.core.run import Run
from acclimate.core.tree import Tree, leaves, rebuild, structure
from acclimate.data.read import existing
from acclimate.engine import learned
from acclimate.engine.dataset import Dataset
from acclimate.engine.precision import Precision
from acclimate.models.backbone import Net
from acclimate.models.card import preprocessing_of
from acclimate.tasks import TASKS
from acclimate.tasks.task import Inputs, Task

WEIGHTS, MANIFEST = "model.safetensors", "model.json"
SAMPLES = 4
SHOWN = 300
"""Characters of a library's complaint that are told."""
TOLERANCE = 2e-3
"""Largest difference of a prediction between machines, in full precision."""


@dataclass
class Saved:
    """A model as it lies on disk, ready to predict."""

    net: Net
    task: Task
    inputs: Inputs
    precision: Precision
    manifest: dict[str, Any]


def save_model(
    run: Run,
    net: Net,
    task: Task,
    dataset: Dataset,
    rows: np.ndarray,
    precision: Precision,
    about: dict[str, Any],
    besides: np.ndarray | None = None,
) -> None:
    """Write the model with the inputs and outputs of its first training samples, and what it learned from (`engine/learned.py`).

    `rows`: the samples it learned from.
    `about`: {"model": how to rebuild the architecture, "preprocessing": ..., "columns": those the samples came from}, JSON.
    `besides`: samples of other data whose labels it learned, as `learned.entries` gives them.
    """
    samples = [dataset.sample(int(row)) for row in rows[:SAMPLES]]
    proof = prove(net, task, dataset.inputs, samples)
    state = {name: value.detach().cpu().contiguous() for name, value in net.state_dict().items()}
    flat = {
        f"proof.{i}.{j}": leaf.contiguous() for i, sample in enumerate(samples) for j, leaf in enumerate(leaves(sample))
    }
    manifest = {
        "acclimate": acclimate.__version__,
        "task": {"name": task.name, "spec": task.spec},
        "precision": precision.json(),
        "stages": [stage.name for stage in net.backbone.stages],
        "proof": {"structure": structure(samples[0]), "predictions": proof.tolist()},
        **about,
    }
    weights, files = save({**state, **flat}, {"format": "pt"}), dataset.inputs.preprocessing.files()
    manifest["digest"] = _digest(weights, manifest, files)
    for name, content in files.items():
        run.write(name, content)
    start = Path(about["model"]["name"])
    before = learned.read(start) if _is_run(start) else None
    parts = [learned.entries(task, dataset, rows), *(part for part in (besides, before) if part is not None)]
    run.write(learned.FILE, learned.packed(learned.together(parts)))
    run.write(WEIGHTS, weights)
    run.write_json(MANIFEST, manifest)


def known_to(model: str, task: Task, dataset: Dataset, rows: np.ndarray) -> np.ndarray:
    """bool [rows]: which samples are known to the run that is the model to start from (`learned.seen`); none to any other model.

    Raises `UserError`."""
    folder = Path(model)
    return learned.seen(folder, task, dataset, rows) if _is_run(folder) else np.zeros(len(rows), dtype=bool)


def _is_run(folder: Path) -> bool:
    return (folder / MANIFEST).is_file()


def _digest(weights: bytes | mmap, manifest: dict[str, Any], files: dict[str, bytes]) -> str:
    """Of all files of a model, its own entry left out; nothing is copied."""
    told = json.dumps({name: value for name, value in manifest.items() if name != "digest"}, sort_keys=True)
    digest = hashlib.blake2b(weights, digest_size=16)
    digest.update(told.encode())
    for name, content in sorted(files.items()):
        digest.update(name.encode())
        digest.update(content)
    return digest.hexdigest()


@torch.inference_mode()
def prove(net: Net, task: Task, inputs: Inputs, samples: list[Tree]) -> np.ndarray:
    """Predictions of a few prepared samples in full precision on the CPU."""
    device = next(net.parameters()).device
    was = net.training
    net.eval().cpu()
    predictions = task.predictions(net(inputs.collate(samples)))
    net.to(device).train(was)
    return predictions


def load_model(folder: Path, device: torch.device) -> Saved:
    """The model of a run folder, proved: its stored samples give their stored predictions.

    Raises `UserError` where the folder holds no model, a damaged one, or one that no longer predicts what it did.
    """
    from acclimate.models.load import rebuild as rebuild_backbone

    manifest = read_manifest(folder)
    tensors = _tensors(folder / WEIGHTS)
    try:
        preprocessing = preprocessing_of(manifest["preprocessing"], folder)
    except (LookupError, TypeError, ValueError):
        raise _foreign(folder, (WEIGHTS, MANIFEST)) from None
    files = preprocessing.files()
    with (folder / WEIGHTS).open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as weights:
        found = _digest(weights, manifest, files)
    if found != manifest.get("digest"):
        raise _foreign(folder, (WEIGHTS, MANIFEST, *files))
    try:
        task: Task = TASKS[manifest["task"]["name"]](manifest["task"]["spec"])
        inputs = task.inputs(preprocessing)
        shape, count = manifest["proof"]["structure"], len(manifest["proof"]["predictions"])
        width = len({name.split(".")[2] for name in tensors if name.startswith("proof.0.")})
        samples = [rebuild(shape, [tensors.pop(f"proof.{i}.{j}") for j in range(width)]) for i in range(count)]
    except (LookupError, TypeError, ValueError):
        rule = f"has {MANIFEST} and {WEIGHTS} that do not belong together"
        raise fail(f"model {str(folder)!r}", rule, "restore the files or fit again") from None
    backbone = rebuild_backbone(manifest["model"], preprocessing)
    with torch.no_grad():
        features = backbone.eval()(inputs.collate(samples[:1]))
    net = Net(backbone, task.head(features, backbone))
    try:
        net.restore({name: value for name, value in tensors.items() if not name.startswith("proof.")})
    except RuntimeError as error:
        raise fail(
            f"model {str(folder)!r}",
            f"has weights that do not fit its architecture ({' '.join(str(error).split())[:SHOWN]})",
            "the file was changed; fit again",
        ) from None
    then = np.array(manifest["proof"]["predictions"])
    _compare(folder, task.apart(prove(net.eval(), task, inputs, samples), then))
    precision = Precision.of(manifest["precision"])
    if precision.device != device.type:
        precision = Precision(device.type)  # what was measured elsewhere says nothing here
    return Saved(net.to(device), task, inputs, precision, manifest)


def _foreign(folder: Path, files: tuple[str, ...]) -> UserError:
    named = f"{', '.join(files[:-1])} or {files[-1]}"
    return fail(f"model {str(folder)!r}", f"has another {named} than was saved", "restore the files or fit again")


def _compare(folder: Path, worst: float) -> None:
    if not worst < TOLERANCE:
        raise fail(
            f"model {str(folder)!r}",
            f"does not predict what it did when it was saved (largest difference {worst:.2g})",
            "its files were changed, or a library it stands on reads them otherwise; fit again",
        )


def read_manifest(folder: Path) -> dict[str, Any]:
    """model.json of a run folder. Raises `UserError` where there is none or it is damaged."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        missing = [key for key in ("task", "preprocessing", "model", "proof", "precision") if key not in manifest]
    except (FileNotFoundError, NotADirectoryError):
        if not existing(folder).is_dir():
            raise fail(f"run {str(folder)!r}", "is a file", "give the run folder of a finished fit") from None
        hint = (
            "fit it to its end with --resume"
            if (folder / "recipe.yaml").exists()
            else "give the run folder of a finished fit"
        )
        raise fail(f"run {str(folder)!r}", "holds no model", hint) from None
    except (ValueError, OSError, TypeError):
        raise fail(f"model {str(folder / MANIFEST)!r}", "is damaged", "restore the file or fit again") from None
    if missing:
        raise fail(f"model {str(folder / MANIFEST)!r}", f"lacks {', '.join(missing)}", "restore the file or fit again")
    return manifest


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise fail(f"model {str(path)!r}", "is not there", "restore the file or fit again") from None
    except (SafetensorError, OSError) as error:
        raise fail(f"model {str(path)!r}", f"is damaged ({error})", "restore the file or fit again") from None
