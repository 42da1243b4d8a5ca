"""Training batches: batch number `step` is a pure function of (seed, epoch, samples), whoever builds it and whenever."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from acclimate.core.device import background
from acclimate.core.seeds import generator, key
from acclimate.core.tree import Tree, map_tree
from acclimate.engine.activations import Activations
from acclimate.engine.dataset import Dataset, workers
from acclimate.engine.phase import Phase
from acclimate.tasks.task import Task

POOL = 16
"""Batches whose samples are sorted by length together: enough that little is padded, few enough that batches stay mixed."""
AHEAD = 2
"""Batches built in the background while one trains."""


@dataclass(frozen=True)
class Batch:
    """Inputs (or boundary activations) and targets of some rows."""

    inputs: Tree
    targets: Tree
    rows: np.ndarray

    def parts(self, count: int) -> Iterator[Batch]:
        """The batch in so many micro-batches of about equal size."""
        edges = np.linspace(0, len(self.rows), count + 1).round().astype(int).tolist()
        for part in (slice(start, end) for start, end in pairwise(edges)):
            cut = lambda leaf, part=part: leaf[part]  # noqa: E731
            yield Batch(map_tree(cut, self.inputs), map_tree(cut, self.targets), self.rows[part])


@dataclass
class Batches:
    """The stream of batches of a phase over the rows `rows`.

    With `views`, samples are cached activations and each sample goes through its views in turn; without, samples are augmented
    afresh by (seed, epoch, sample). `rank` of `world` processes reads every `world`-th sample of each batch.
    """

    task: Task
    dataset: Dataset
    rows: np.ndarray
    phase: Phase
    views: list[Activations]
    sampling: np.ndarray | None = None
    """float64 [len(rows)]: how often each row is drawn, where classes are balanced by sampling."""
    rank: int = 0
    world: int = 1
    led: Batches | None = None
    """The stream that this one goes along with, for as many steps, beginning anew as often as that takes."""
    _epoch: tuple[int, list[np.ndarray]] | None = None
    """The batches of the epoch that is being read."""

    @property
    def per_epoch(self) -> int:
        """Steps an epoch: batches hold the batch size on the mean, and at most it where all samples cost the same."""
        return -(-len(self.rows) // self.phase.batch_size)

    @property
    def steps(self) -> int:
        return self.per_epoch * self.phase.epochs if self.led is None else self.led.steps

    def order(self, epoch: int) -> np.ndarray:
        draw = generator("order", self.phase.seed, epoch)
        if self.sampling is None:
            return self.rows[draw.permutation(len(self.rows))]
        return self.rows[draw.choice(len(self.rows), len(self.rows), p=self.sampling / self.sampling.sum())]

    def rows_of(self, step: int) -> np.ndarray:
        epoch, part = divmod(step, self.per_epoch)
        return self._cut(epoch)[part][self.rank :: self.world]

    def _cut(self, epoch: int) -> list[np.ndarray]:
        """The batches of an epoch, in groups of a class or of about one cost."""
        if self._epoch is None or self._epoch[0] != epoch:
            self._epoch = epoch, self._grouped(epoch) if self.phase.per_class else self._of_a_cost(epoch)
        return self._epoch[1]

    def _of_a_cost(self, epoch: int) -> list[np.ndarray]:
        """Where samples differ in cost, those of a batch are of about one cost, and so are batches."""
        order = self.order(epoch)
        costs = self.dataset.costs[order]
        if len(order) == 0 or costs.min() == costs.max():
            return np.array_split(order, self.per_epoch)
        return by_cost(order, costs, self.per_epoch, generator("batches", self.phase.seed, epoch))

    def _grouped(self, epoch: int) -> list[np.ndarray]:
        """Groups of samples that count as alike, of every class as evenly over the epoch as its size allows."""
        order = self.order(epoch)
        strata = self.task.strata(self.dataset.table.take(order).column("target"))
        draw = generator("groups", self.phase.seed, epoch)
        placed: list[tuple[float, np.ndarray]] = []
        for one in np.unique(strata):
            own = order[strata == one]
            groups = np.array_split(own, max(1, len(own) // self.phase.per_class))
            places = (np.arange(len(groups)) + draw.random(len(groups))) / len(groups)
            placed += zip(places.tolist(), groups, strict=True)
        groups = [group for _, group in sorted(placed, key=lambda each: each[0])]
        ends = np.linspace(0, len(groups), self.per_epoch + 1).round().astype(int)
        return [np.concatenate(groups[start:end]) for start, end in pairwise(ends)]

    def build(self, step: int, pool: ThreadPoolExecutor) -> Batch:
        rows, epoch = self.rows_of(step), step // self.per_epoch
        closing = self._closing(step)
        if self.views:
            return Batch(self._cached(rows, epoch), self._targets(rows, closing), rows)
        policy = self._policy(closing)
        made = list(pool.map(lambda row: self._fresh(int(row), epoch, policy), rows))
        inputs = self.dataset.inputs.collate([sample for sample, _, _ in made])
        return Batch(inputs, self._mixed_targets(rows, made, closing), rows)

    def _closing(self, step: int) -> bool:
        """Whether a step is one of the last, as the phase says which these are."""
        return step >= self.steps * (1 - self.phase.closing)

    def _policy(self, closing: bool) -> str:
        """How samples are augmented: in the last steps no longer mixed."""
        policy, mixes = self.phase.augment, self.dataset.inputs.mixes
        return mixes[policy].policy if closing and policy in mixes else policy

    def batches(self, start: int = 0) -> Iterator[Batch]:
        """Batches from number `start` to the end of the phase, built ahead in the background."""
        with background(1) as ahead, background(workers()) as pool:
            waiting: list[Any] = []
            try:
                for step in range(start, self.steps):
                    while len(waiting) <= AHEAD and step + len(waiting) < self.steps:
                        waiting.append(ahead.submit(self.build, step + len(waiting), pool))
                    yield waiting.pop(0).result()
            finally:
                for future in waiting:
                    future.cancel()

    def _targets(self, rows: np.ndarray, closing: bool) -> Tree:
        if not self.dataset.labelled:
            return ()
        return self.task.targets(self.dataset.targets[rows], closing)

    def _cached(self, rows: np.ndarray, epoch: int) -> Tree:
        samples = []
        for row in rows:
            view = (epoch + self.dataset.seed(int(row))) % len(self.views)
            samples.append(self.views[view].sample(int(row)))
        return self.views[0].join(samples)

    def _augmented(self, row: int, epoch: int, policy: str) -> Tree:
        seed = key("augment", self.phase.seed, epoch, self.dataset.seed(row))
        target = self.dataset.targets[row] if self.dataset.labelled else None
        return self.dataset.inputs.augment(self.dataset.sample(row), policy, seed, target)

    def _fresh(self, row: int, epoch: int, policy: str) -> tuple[Tree, list[int], list[float]]:
        """(sample, the rows it is made of, the share of each): partners are drawn by the sample, not by its place in a batch."""
        mix = self.dataset.inputs.mixes.get(policy)
        if mix is None:
            return self._augmented(row, epoch, policy), [row], [1.0]
        seed = key(policy, self.phase.seed, epoch, self.dataset.seed(row))
        drawn = generator("partner", seed).integers(len(self.rows), size=mix.partners)
        rows = [row, *(int(self.rows[place]) for place in drawn)]
        parts = [self._augmented(one, epoch, mix.policy) for one in rows]
        mixed, shares = self.dataset.inputs.mix(parts, policy, seed)
        return mixed, rows, shares

    def _mixed_targets(self, rows: np.ndarray, made: list[tuple[Tree, list[int], list[float]]], closing: bool) -> Tree:
        if all(shares[0] == 1 for _, _, shares in made):
            return self._targets(rows, closing)
        parts = [self._targets(np.array(each), closing) for each in zip(*(of for _, of, _ in made), strict=True)]
        return self.task.mix(parts, torch.tensor([shares for _, _, shares in made]))


def by_cost(order: np.ndarray, costs: np.ndarray, count: int, draw: np.random.Generator) -> list[np.ndarray]:
    """`order` in `count` batches of about equal padded cost, none empty, in random order.

    Neighbours in `order` are taken in pools, each sorted by cost and cut where its sum of costs is even.
    """
    pools = np.array_split(np.arange(len(order)), max(1, -(-count // POOL)))
    shares = np.array([costs[pool].sum() for pool in pools], dtype=float)
    ends = np.round(np.cumsum(shares) / shares.sum() * count).astype(int)
    batches = []
    for pool, parts in zip(pools, np.diff(ends, prepend=0), strict=True):
        ranked = pool[np.argsort(costs[pool], kind="stable")]
        done = np.cumsum(costs[ranked]) - costs[ranked] / 2
        number = np.minimum((done / costs[ranked].sum() * parts).astype(int), parts - 1)
        batches += [order[ranked[number == part]] for part in range(parts)]
    full = [batch for batch in batches if len(batch)]
    while len(full) < count:  # a sample that costs more than its share leaves a neighbour empty
        largest = max(range(len(full)), key=lambda i: len(full[i]))
        full += np.array_split(full.pop(largest), 2)
    return [full[i] for i in draw.permutation(count)]
