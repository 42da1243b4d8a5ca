"""`Dataset`: the samples of a run as the engine reads them, prepared once and kept in the store where they fit."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch

from acclimate.core.tree import Tree, leaves, map_tree, structure
from acclimate.data import gate
from acclimate.data.table import Table
from acclimate.engine.store import Chunk, Store, content_key
from acclimate.tasks.task import Inputs

CHUNK = 64
"""Samples in a chunk of the cache; part of every key, since it decides which samples share a batch."""


def stack(samples: list[Tree]) -> Tree:
    """Sample trees of equal shapes as one batch tree."""
    first = samples[0]
    if isinstance(first, dict):
        return {name: stack([sample[name] for sample in samples]) for name in first}
    if isinstance(first, tuple | list):
        return type(first)(stack([sample[i] for sample in samples]) for i in range(len(first)))
    return torch.stack(samples)


def _alike(samples: list[Tree]) -> bool:
    marks = {json.dumps([structure(s), [list(leaf.shape) for leaf in leaves(s)]]) for s in samples}
    return len(marks) == 1


def workers() -> int:
    """Threads for decoding: the cores this process may use, at most 16."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(16, cores)


@dataclass
class Prepared:
    """Prepared samples of a table, by row: read from the store where they were kept, decoded again where not."""

    table: Table
    inputs: Inputs
    store: Store
    keys: list[str]
    kept: bool
    offsets: np.ndarray
    """int64 [n]: the position of a row among the good samples of its chunk; -1 for a bad one."""
    open: dict[int, Chunk | None] = field(default_factory=dict)

    def __getitem__(self, row: int) -> Tree:
        number = row // CHUNK
        if self.kept and number not in self.open:
            self.open[number] = self.store.get(self.keys[number])
        chunk = self.open.get(number)
        if chunk is None:
            return self.inputs.prepare(self.table.raw(row))
        offset = int(self.offsets[row])
        if chunk.notes["form"] == "stacked":
            return map_tree(lambda leaf: leaf[offset], chunk.tree)
        return chunk.tree[offset]


@dataclass
class Scan:
    """What reading every sample once found: `digests` uint64 [n, 2] of the raw content, `errors` by row."""

    prepared: Prepared
    digests: np.ndarray
    errors: dict[int, str]


def scan(
    table: Table, inputs: Inputs, store: Store, progress: Callable[[int, int], None] = lambda done, of: None
) -> Scan:
    """Read and prepare every sample once, in parallel; what was prepared before is taken from the store.

    Prepared samples are kept unless they would take more than half of the room the store has; then only the verdicts are.
    """
    digests, errors = _read(table)
    prepared = Prepared(table, inputs, store, [], True, np.full(len(table), -1, dtype=np.int64))
    for start in range(0, len(table), CHUNK):
        rows = np.arange(start, min(start + CHUNK, len(table)))
        key = content_key("prepared", 1, CHUNK, inputs.key, digests[rows].tobytes().hex())
        chunk = store.get(key) or _prepare(prepared, rows, key)
        bad = {int(rows[int(i)]): reason for i, reason in json.loads(chunk.notes["bad"]).items()}
        errors.update({row: reason for row, reason in bad.items() if row not in errors})
        good = [row for row in rows if row not in bad]
        prepared.offsets[good] = np.arange(len(good))
        prepared.keys.append(key)
        if prepared.kept:
            prepared.open[start // CHUNK] = chunk
        progress(int(rows[-1]) + 1, len(table))
    return Scan(prepared, digests, errors)


def _read(table: Table) -> tuple[np.ndarray, dict[int, str]]:
    """(uint64 [n, 2] content digests, why a row could not be read)."""
    hashes, errors = [], {}
    for one in gate.scan(table, workers=workers()):
        hashes.append(one.hash)
        if one.error is not None:
            errors[one.index] = one.error
    return gate.digests(hashes), errors


def _prepare(prepared: Prepared, rows: np.ndarray, key: str) -> Chunk:
    """Decode a chunk, and keep it where there is room."""
    results = list(gate.scan(prepared.table.take(rows), prepared.inputs.prepare, workers=workers()))
    bad = {one.index: one.error for one in results if one.prepared is None}
    good = [one.prepared for one in results if one.prepared is not None]
    if good and rows[0] == 0:
        size = sum(leaf.nbytes for leaf in leaves(good[0]))
        prepared.kept = size * len(prepared.table) < prepared.store.room() / 2
    alike = bool(good) and _alike(good)
    notes = {"form": "stacked" if alike else "list", "bad": json.dumps(bad)}
    return prepared.store.put(key, stack(good) if alike else good, **notes) if prepared.kept else Chunk([], notes)


@dataclass
class Dataset:
    """The good samples of a run. Rows are numbered as in `table`; `origin` maps them to rows of the scan."""

    table: Table
    inputs: Inputs
    targets: np.ndarray
    digests: np.ndarray
    prepared: Prepared
    origin: np.ndarray

    def __len__(self) -> int:
        return len(self.table)

    def sample(self, row: int) -> Tree:
        """The prepared sample of a row."""
        return self.prepared[int(self.origin[row])]

    def seed(self, row: int) -> int:
        """An integer that follows the content of the sample, for augmentations that every run shares."""
        return int(self.digests[row, 0]) >> 1

    def split(self, name: str) -> np.ndarray:
        return self.table.indices(name)

    def batch(self, rows: np.ndarray, view: int = 0) -> Tree:
        """The inputs of some rows, in one of their fixed views, ready for the model."""
        samples = [self.sample(int(row)) for row in rows]
        if view:
            samples = [self.inputs.view(s, view, self.seed(int(r))) for s, r in zip(samples, rows, strict=True)]
        return self.inputs.collate(samples)

    def chunks(self, rows: np.ndarray) -> Iterator[np.ndarray]:
        """Fixed chunks of the given rows, in order."""
        for start in range(0, len(rows), CHUNK):
            yield rows[start : start + CHUNK]

    def fingerprint(self) -> str:
        """Names the content: samples, targets and splits; a resume refuses another."""
        split = self.table.column("split").to_pylist()
        return content_key(self.digests.tobytes().hex(), self.table.column("target").to_pylist(), split)
