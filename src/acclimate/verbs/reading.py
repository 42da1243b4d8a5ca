"""From what a user has to checked samples: what every verb on data begins with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from acclimate.core.recipe import Options
from acclimate.core.seeds import generator
from acclimate.data import gate
from acclimate.data.read import read
from acclimate.data.table import Table
from acclimate.engine.dataset import Dataset, Prepared, marked, scan
from acclimate.engine.store import Store
from acclimate.engine.watcher import Watcher
from acclimate.tasks.task import Task

COLUMNS = ("format", "image", "text", "label", "split", "group", "separator", "quoting", "encoding")
"""The options that say how data are read."""


def read_data(data: Any, options: Options) -> Table:
    return read(data, **{name: getattr(options, name) for name in COLUMNS})


@dataclass(frozen=True)
class Inspected:
    """What reading every sample showed. `table`: the good rows; `origin`: where they stand in the scan; `digests` uint64 [n, 2],
    `same` uint64 [n] and `marks` uint8 [n, w] are theirs: equal numbers for samples that count as one, by what near copies nearly share."""

    prepared: Prepared
    table: Table
    findings: list[gate.Finding]
    origin: np.ndarray
    digests: np.ndarray
    same: np.ndarray
    marks: np.ndarray

    def dataset(self, table: Table, task: Task, inputs: Any) -> Dataset:
        """The good rows as the engine reads them, with the splits of `table`."""
        targets = task.encode(table.column("target")) if "target" in table else np.empty(0)
        return Dataset(table, inputs, targets, self.digests, self.prepared, self.origin, self.same, self.marks)


def inspect(
    table: Table, kind: type[Task], inputs: Any, store: Store, watcher: Watcher, leaks: Any = "keep"
) -> Inspected:
    """Read, prepare and check every sample."""
    unfit = kind.unfit(table)
    found = scan(table, inputs, store, lambda done, of: watcher.work("reading and checking samples", done, of))
    marks = marked(table, kind, found, store, lambda done, of: watcher.work("looking for near copies", done, of))
    same = kind.same(marks, table)
    keep, findings = gate.check_samples(table, found.digests, {**found.errors, **unfit}, same, leaks)
    origin = np.flatnonzero(keep)
    same = by_content(same, found.digests)
    good = table.take(origin)
    named = ((table.name(int(row)), found.prepared[int(row)]) for row in origin)
    findings += [*kind.examine(good), *inputs.findings(named)]
    return Inspected(found.prepared, good, findings, origin, found.digests[origin], same[origin], marks[origin])


def by_content(same: np.ndarray, digests: np.ndarray) -> np.ndarray:
    """uint64 [n]: the same groups, numbered by what is in them and not by the order of rows."""
    smallest = np.full(int(same.max(initial=0)) + 1, np.iinfo(np.uint64).max, dtype=np.uint64)
    np.minimum.at(smallest, same, digests[:, 0])
    return smallest[same]


def few(rows: np.ndarray, most: int, seed: int) -> np.ndarray:
    """At most so many of the rows, in order."""
    return np.sort(generator("few", seed).permutation(rows)[:most])
