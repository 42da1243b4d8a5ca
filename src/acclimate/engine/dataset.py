"""`Dataset`: the samples of a run as the engine reads them, prepared once and kept in the store where they fit."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import repeat

import numpy as np
import torch

from acclimate.core.device import background, cores
from acclimate.core.tree import Tree, leaves
from acclimate.data import gate
from acclimate.data.table import Table
from acclimate.engine.packing import LISTED, Samples, pack
from acclimate.engine.store import Chunk, Store, content_key
from acclimate.tasks.task import Inputs, Task

CHUNK = 64
"""Samples in a chunk of the cache, at most; part of every key, since it decides which samples share a batch."""
COSTLY = 8192
"""What a chunk may cost, once padded: more tokens at a time are not faster, and take gigabytes."""


def parts(costs: np.ndarray, most: int = CHUNK) -> Iterator[slice]:
    """Cut samples, cheap ones first, into chunks of `most` samples and a cost of COSTLY at most, of one sample at least."""
    start = 0
    while start < len(costs):
        ends = np.arange(start + 1, min(start + most, len(costs)) + 1)
        fit = costs[ends - 1] * (ends - start) <= COSTLY
        yield slice(start, start + max(1, int(fit.sum())))
        start += max(1, int(fit.sum()))


def workers() -> int:
    """Threads for decoding: the cores this process may use, at most 16."""
    return min(16, cores())


@dataclass
class Prepared:
    """Prepared samples of a table, by row: read from the store where they were kept, prepared again where not."""

    table: Table
    inputs: Inputs
    store: Store
    keys: list[str]
    kept: bool
    offsets: np.ndarray
    """int64 [n]: the position of a row among the good samples of its chunk; -1 for a bad one."""
    costs: np.ndarray
    """int64 [n]: what a sample costs the model, as `Inputs.cost` counts it; 0 for a bad one."""
    sizes: np.ndarray
    """int64 [n]: how large a sample is as it was given, as `Inputs.size_of` counts it; 0 for a bad one."""
    open: dict[int, Samples | None] = field(default_factory=dict)

    def __getitem__(self, row: int) -> Tree:
        number = row // CHUNK
        if self.kept and number not in self.open:
            chunk = self.store.get(self.keys[number])
            self.open[number] = Samples(chunk, chunk.notes["form"]) if chunk else None
        samples = self.open.get(number)
        if samples is not None:
            return samples[int(self.offsets[row])]
        (sample,) = self.inputs.prepare_all([self.table.raw(row)], 1)
        assert not isinstance(sample, str), sample
        return sample


@dataclass
class Joined:
    """Prepared samples of several scans, one after another, by row."""

    parts: list[Prepared]

    def __post_init__(self) -> None:
        self.costs = np.concatenate([part.costs for part in self.parts])
        self.sizes = np.concatenate([part.sizes for part in self.parts])
        self.ends = np.cumsum([len(part.costs) for part in self.parts])

    def __getitem__(self, row: int) -> Tree:
        number = int(np.searchsorted(self.ends, row, side="right"))
        return self.parts[number][row - int(self.ends[number - 1] if number else 0)]


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
    n = len(table)
    offsets, costs, sizes = np.full(n, -1, dtype=np.int64), np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
    prepared = Prepared(table, inputs, store, [], True, offsets, costs, sizes)
    for start in range(0, n, CHUNK):
        rows = np.arange(start, min(start + CHUNK, n))
        key = content_key("prepared", 3, CHUNK, inputs.key, digests[rows].tobytes().hex())
        chunk = store.get(key) or _prepare(prepared, rows, key)
        bad = {int(rows[int(i)]): reason for i, reason in json.loads(chunk.notes["bad"]).items()}
        errors.update({row: reason for row, reason in bad.items() if row not in errors})
        good = [row for row in rows if row not in bad]
        prepared.offsets[good] = np.arange(len(good))
        prepared.costs[good] = json.loads(chunk.notes["costs"])
        prepared.sizes[good] = json.loads(chunk.notes["sizes"])
        prepared.keys.append(key)
        if prepared.kept:
            prepared.open[start // CHUNK] = Samples(chunk, chunk.notes["form"])
        progress(int(rows[-1]) + 1, n)
    return Scan(prepared, digests, errors)


def marked(
    table: Table,
    kind: type[Task],
    found: Scan,
    store: Store,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> np.ndarray:
    """uint8 [n, w]: the `Task.marks` of the samples of a scan; zeros where one could not be read. Kept in the store by content, so
    that they are made once, whatever the model."""
    good = np.array([row for row in range(len(table)) if row not in found.errors], dtype=np.int64)
    parts = [np.zeros((0, 1), np.uint8)]
    for start in range(0, len(good), CHUNK):
        rows = good[start : start + CHUNK]
        key = content_key("marks", kind.mark, CHUNK, found.digests[rows].tobytes().hex())
        chunk = store.get(key) or store.put(key, torch.from_numpy(_mark(table, kind, rows)))
        parts.append(chunk.tree.numpy())
        progress(start + len(rows), len(good))
    marks = np.zeros((len(table), parts[-1].shape[1]), np.uint8)
    marks[good] = np.concatenate(parts[1:] or parts)
    return marks


def _mark(table: Table, kind: type[Task], rows: np.ndarray) -> np.ndarray:
    with background(workers()) as pool:
        raws = list(pool.map(lambda row: table.raw(int(row)), rows))
    return kind.marks(raws, workers())


def _read(table: Table) -> tuple[np.ndarray, dict[int, str]]:
    """(uint64 [n, 2] content digests, why a row could not be read)."""
    hashes, errors = [], {}
    for one in gate.scan(table, workers=workers()):
        hashes.append(one.hash)
        if one.error is not None:
            errors[one.index] = one.error
    return gate.digests(hashes), errors


def _prepare(prepared: Prepared, rows: np.ndarray, key: str) -> Chunk:
    """Prepare a chunk, and keep it where there is room."""
    with background(workers()) as pool:
        read = list(pool.map(lambda row: gate.read_one(prepared.table, int(row)), rows))
    made: list[Tree | str] = [error or "cannot be read" for _, error in read]
    raws = {i: raw for i, (raw, _) in enumerate(read) if raw is not None}
    for i, sample in zip(raws, prepared.inputs.prepare_all(list(raws.values()), workers()), strict=True):
        made[i] = sample
    bad = {i: reason for i, reason in enumerate(made) if isinstance(reason, str)}
    good = [sample for sample in made if not isinstance(sample, str)]
    if good and rows[0] == 0:
        size = sum(leaf.nbytes for leaf in leaves(good[0]))
        prepared.kept = size * len(prepared.table) < prepared.store.room() / 2
    tree, form = pack(good) if prepared.kept else ([], LISTED)
    counted = {"costs": prepared.inputs.cost, "sizes": prepared.inputs.size_of}
    told = {name: json.dumps([count(one) for one in good]) for name, count in counted.items()}
    notes = {"form": form, "bad": json.dumps(bad), **told}
    return prepared.store.put(key, tree, **notes) if prepared.kept else Chunk([], notes)


@dataclass(frozen=True)
class Target:
    """Samples from where a model is to work. `dataset`: without targets. `rows` int64 [m]: those that may be used; samples that the
    data themselves call test are never looked at."""

    dataset: Dataset
    rows: np.ndarray
    findings: list[gate.Finding]
    known: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    """int64 [k]: those of `rows` that a label was given for, and the encoded labels."""
    known_targets: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))


@dataclass
class Dataset:
    """The good samples of a run. Rows are numbered as in `table`; `origin` maps them to rows of the scan."""

    table: Table
    inputs: Inputs
    targets: np.ndarray
    digests: np.ndarray
    prepared: Prepared | Joined
    origin: np.ndarray
    same: np.ndarray
    """uint64 [n]: equal numbers for samples that count as one, so that they stay on one side of a cut."""
    marks: np.ndarray
    """uint8 [n, w]: what near copies of each sample nearly share (`Task.marks`)."""
    copies: int = 0
    """How many rows, the last ones, are copies of training samples that are shown otherwise."""

    def __len__(self) -> int:
        return len(self.table)

    @property
    def labelled(self) -> bool:
        """Whether there are targets: an adaptation's second data set comes without."""
        return len(self.targets) == len(self)

    def sample(self, row: int) -> Tree:
        """The prepared sample of a row."""
        return self.prepared[int(self.origin[row])]

    @property
    def costs(self) -> np.ndarray:
        """int64 [n]: what each sample costs the model: 1 for a picture, its tokens for a text."""
        return self.prepared.costs[self.origin]

    @property
    def sizes(self) -> np.ndarray:
        """int64 [n]: how large each sample is as it was given, before anything of it is left out."""
        return self.prepared.sizes[self.origin]

    def seed(self, row: int) -> int:
        """An integer that follows the content of the sample, for augmentations that every run shares."""
        return int(self.digests[row, 0]) >> 1

    def split(self, name: str) -> np.ndarray:
        return self.table.indices(name)

    def batch(self, rows: np.ndarray, view: int = 0, policy: str = "none") -> Tree:
        """The inputs of some rows, in one of the fixed views of a policy, ready for the model."""
        samples = [self.sample(int(row)) for row in rows]
        if view:
            seeds = [self.seed(int(row)) for row in rows]
            samples = [self.inputs.view(*each, policy=policy) for each in zip(samples, repeat(view), seeds)]
        return self.inputs.collate(samples)

    def chunks(self, rows: np.ndarray) -> Iterator[np.ndarray]:
        """Fixed chunks of the given rows, as places in `rows`; cheap samples first, so that those of a batch are of about one length."""
        order = np.argsort(self.costs[rows], kind="stable")
        for part in parts(self.costs[rows][order]):
            yield order[part]

    def own(self, name: str) -> np.ndarray:
        """As `split`, without copies."""
        rows = self.split(name)
        return rows[rows < len(self) - self.copies]

    def shown(
        self,
        inputs: Inputs,
        store: Store,
        rows: np.ndarray,
        progress: Callable[[int, int], None] = lambda done, of: None,
    ) -> Dataset:
        """Some of the samples, prepared otherwise; without those that cannot be."""
        found = scan(self.table.take(rows), inputs, store, progress)
        good = np.array([row for row in range(len(rows)) if row not in found.errors], dtype=np.int64)
        kept = rows[good]
        targets = self.targets[kept] if self.labelled else self.targets
        return Dataset(
            self.table.take(kept),
            inputs,
            targets,
            self.digests[kept],
            found.prepared,
            good,
            self.same[kept],
            self.marks[kept],
        )

    def beside(self, copies: Dataset) -> Dataset:
        """These samples, and the same or some of them as another data set shows them, as further samples that count as one with theirs."""
        assert isinstance(self.prepared, Prepared)
        assert isinstance(copies.prepared, Prepared)
        told = np.uint64(int(content_key("copies", copies.inputs.key)[:16], 16))
        return Dataset(
            self.table.and_(copies.table),
            self.inputs,
            np.concatenate([self.targets, copies.targets]),
            np.concatenate([self.digests, copies.digests ^ told]),
            Joined([self.prepared, copies.prepared]),
            np.concatenate([self.origin, copies.origin + len(self.prepared.costs)]),
            np.concatenate([self.same, copies.same]),
            np.concatenate([self.marks, copies.marks]),
            len(copies),
        )

    def fingerprint(self) -> str:
        """Names the content: samples, targets and splits, as far as there are any; a resume refuses another."""
        told = [self.table.column(name).to_pylist() for name in ("target", "split") if name in self.table]
        return content_key(self.digests.tobytes().hex(), *told)
