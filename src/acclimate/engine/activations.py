"""The boundary cache: what flows into a stage, computed once for each sample and view, and read again by every phase and run."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from acclimate.core.device import give_back_memory
from acclimate.core.tree import Tree, map_tree
from acclimate.engine.dataset import CHUNK, Dataset
from acclimate.engine.packing import Samples, pack
from acclimate.engine.precision import Precision
from acclimate.engine.store import Chunk, Store, content_key
from acclimate.models.backbone import Backbone

VERSION = 3
View = tuple[int, str]
"""A fixed view of samples: its number, the policy of augmentation it belongs to."""
PLAIN: View = (0, "none")
"""The samples as they are, whatever the policy."""
SWEEP = 5.0
"""Seconds after which a pass hands back what its batches, each of another size, left over."""


@dataclass
class Activations:
    """Boundary activations of some rows, one row a sample."""

    chunks: list[Samples]
    place: np.ndarray
    """int32 [rows of the data set, 2]: (chunk, offset) of each row that is held."""
    join: Callable[[list[Tree]], Tree]
    """Samples as a batch (`Backbone.join`)."""

    def sample(self, row: int) -> Tree:
        """The activation of one row, without a batch dimension."""
        number, offset = self.place[row]
        return self.chunks[number][int(offset)]

    def rows(self, rows: np.ndarray) -> Tree:
        """A batch tree of the given rows."""
        return self.join([self.sample(int(row)) for row in rows])


def prefix_keys(backbone: Backbone) -> list[str]:
    """For each boundary, the content of everything before it: [stages + 1] hex strings."""
    state = {**dict(backbone.named_parameters()), **dict(backbone.named_buffers())}
    running = hashlib.blake2b(type(backbone).__name__.encode(), digest_size=16)
    keys = [running.hexdigest()]
    for stage in backbone.stages:
        running.update(stage.name.encode())
        for name in (*stage.parameters, *stage.buffers):
            value = state[name].detach().cpu().contiguous()
            running.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
            running.update(value.reshape(-1).view(torch.uint8).numpy().data)
        keys.append(running.hexdigest())
    return keys


@dataclass
class Pass:
    """The feature pass: brings samples to boundaries, from the nearest one that is cached.

    Every boundary on the way is rounded to bf16, so an activation has the same bits whichever boundary it was computed from.
    """

    backbone: Backbone
    dataset: Dataset
    store: Store
    precision: Precision
    device: torch.device
    progress: Callable[[int, int], None] = lambda done, of: None

    def __post_init__(self) -> None:
        self.keys = prefix_keys(self.backbone)

    def key(self, rows: np.ndarray, boundary: int, view: View) -> str:
        content = self.dataset.digests[rows].tobytes().hex()
        how = self.precision.key
        return content_key(
            "boundary", VERSION, CHUNK, self.keys[boundary], boundary, self.dataset.inputs.key, view, how, content
        )

    def bring(self, rows: np.ndarray, boundary: int, view: View = PLAIN, by: Sequence[int] = ()) -> Activations:
        """Activations of `rows` at `boundary`; boundaries `by` on the way are kept too."""
        wanted = sorted({boundary, *by})
        chunks: list[Samples] = []
        place = np.full((len(self.dataset), 2), -1, dtype=np.int32)
        done, swept = 0, time.monotonic()
        for part in (rows[places] for places in self.dataset.chunks(rows)):
            place[part] = np.stack([np.full(len(part), len(chunks)), np.arange(len(part))], axis=1)
            chunk = self._chunk(part, wanted, boundary, view)
            chunks.append(Samples(chunk, chunk.notes["form"]))
            done += len(part)
            self.progress(done, len(rows))
            if time.monotonic() - swept > SWEEP:
                give_back_memory()
                swept = time.monotonic()
        return Activations(chunks, place, self.backbone.join)

    def _chunk(self, rows: np.ndarray, wanted: list[int], boundary: int, view: View) -> Chunk:
        found = self.store.get(self.key(rows, boundary, view))
        others = {k for k in wanted if k != boundary and not self.store.path(self.key(rows, k, view)).exists()}
        missing = sorted(others | ({boundary} if found is None else set()))
        if found is not None and not missing:
            return found
        chunks: dict[int, Chunk] = {} if found is None else {boundary: found}
        at, state = self._nearest(rows, missing[0], view)
        for k in missing:
            state, at = self._run(state, at, k), k
            tree, form = pack(self.backbone.split(state))
            chunks[k] = self.store.put(self.key(rows, k, view), tree, form=form)
        return chunks[boundary]

    def _nearest(self, rows: np.ndarray, boundary: int, view: View) -> tuple[int, Tree]:
        for k in range(boundary - 1, 0, -1):
            if self.store.path(self.key(rows, k, view)).exists():
                chunk = self.store.get(self.key(rows, k, view))
                if chunk is not None:
                    held = Samples(chunk, chunk.notes["form"])
                    return k, self.backbone.join([held[i] for i in range(len(rows))])
        return 0, self.dataset.batch(rows, *view)

    @torch.inference_mode()
    def _run(self, state: Tree, first: int, last: int) -> Tree:
        self.backbone.eval()
        state = self.precision.move(state, self.device)
        for stage in range(first, last):
            with self.precision.inference(self.backbone):
                state = self.backbone.run(state, stage, stage + 1)
            rounded = map_tree(_round, state)
            state = self.precision.move(rounded, self.device)  # as it would be read from the cache
        return map_tree(lambda leaf: leaf.cpu().contiguous(), rounded)


def _round(leaf: torch.Tensor) -> torch.Tensor:
    return leaf.to(torch.bfloat16) if leaf.is_floating_point() else leaf
