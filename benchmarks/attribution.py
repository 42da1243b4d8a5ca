"""Whether answers rest on what the maps say: how much less sure they are once the strongest 20 % of a sample are hidden.

    python benchmarks/attribution.py DATA... [--samples 100] [--strategy last:1]

DATA: folders of pictures or tables of texts with one class a sample, for example the Flowers Recognition set of Kaggle, TrashNet (Thung
and Yang 2016, garythung/trashnet), TREC's questions (Li and Roth 2002) or SST-2 (Socher et al. 2013, of GLUE). The default model is
fitted to each. Deletion as in Petsiuk et al. 2018 (RISE): of pictures pixels become the mean colour, of texts tokens become the blank
token; beside the project's maps stand gradient x activation at the same boundary, and parts at random.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from common import command, folders, machine, positive, show

from acclimate.core.recipe import Options
from acclimate.core.seeds import generator
from acclimate.core.tree import Tree, leaves, map_tree, rebuild, structure
from acclimate.engine import attribution
from acclimate.engine.watcher import Watcher
from acclimate.verbs.fit import fit
from acclimate.verbs.job import Job, prepare
from acclimate.verbs.predict import load

HIDDEN = 0.2
CPU = torch.device("cpu")
TOGETHER = 16


class Measure:
    """The samples of one data set, the net fitted to it, and its answers in fp32."""

    def __init__(self, job: Job, run: Path, samples: int) -> None:
        saved = load(run, "cpu").saved
        self.net, self.task, self.dataset = saved.net, saved.task, job.dataset
        there = self.dataset.split("test")
        rows = there if len(there) else self.dataset.split("val")
        self.rows = np.sort(generator("attribution").permutation(rows)[:samples])
        # samples of about one length share a batch
        self.rows = self.rows[np.argsort(self.dataset.costs[self.rows], kind="stable")]
        self.batches = [self.dataset.batch(part) for part in np.array_split(self.rows, -(-len(self.rows) // TOGETHER))]
        self.predictions = np.concatenate([self._answered(batch) for batch in self.batches])

    @torch.no_grad()
    def _answered(self, batch: Tree) -> np.ndarray:
        return self.task.predictions(self.net(batch))

    def fall(self, maps: list[np.ndarray]) -> float:
        """By how much the probability of the answers falls, in the mean."""
        answers, left = self.predictions.argmax(1), []
        for batch, part in zip(self.batches, np.array_split(np.arange(len(maps)), len(self.batches)), strict=True):
            made = self._answered(self._hidden(batch, [maps[i] for i in part]))
            left.append(made[np.arange(len(part)), answers[part]])
        return float((self.predictions.max(1) - np.concatenate(left)).mean())

    def _hidden(self, batch: Tree, maps: list[np.ndarray]) -> Tree:
        blank = self.dataset.inputs.blanks(batch)[0]
        if isinstance(batch, torch.Tensor):
            values = torch.from_numpy(np.stack(maps))[:, None].float()
            values = F.interpolate(values, batch.shape[2:], mode="bicubic").flatten(1)
            places = values.topk(round(HIDDEN * values.shape[1]), dim=1).indices
            gone = torch.zeros_like(values).scatter(1, places, 1).bool().view(len(batch), 1, *batch.shape[2:])
            return torch.where(gone, blank, batch)
        ids = batch["input_ids"].clone()
        for row, weights in enumerate(maps):
            # marks around a text are the same in the blank one, and stay
            words = np.flatnonzero((blank["input_ids"][row] != ids[row]).numpy()[: len(weights)])
            worst = words[np.argsort(-weights[words], kind="stable")][: int(np.ceil(HIDDEN * len(words)))]
            ids[row, worst] = blank["input_ids"][row, worst]
        return {**batch, "input_ids": ids}

    def ours(self) -> list[Any]:
        return attribution.evidence(self.net, self.task, self.dataset, self.rows, self.predictions, CPU)

    def gradient(self) -> list[Any]:
        """Gradient x activation at the sample itself (HiResCAM, gradient x embedding), at the boundary that ours take."""
        inputs, found, parts = self.dataset.inputs, [], np.array_split(self.predictions, len(self.batches))
        boundary = attribution.ground(self.net, self.task, inputs, self.batches[0], parts[0])
        for batch, predictions in zip(self.batches, parts, strict=True):
            with torch.no_grad():
                state = self.net.backbone.run(batch, 0, boundary)
            state = map_tree(lambda leaf: leaf.requires_grad_() if leaf.is_floating_point() else leaf, state)
            moved = [leaf for leaf in leaves(state) if leaf.requires_grad]
            slopes = torch.autograd.grad(self.task.certainty(self.net(state, boundary), predictions).sum(), moved)
            products = iter([(slope * leaf).detach() for slope, leaf in zip(slopes, moved, strict=True)])
            shares = [next(products) if leaf.requires_grad else leaf for leaf in leaves(state)]
            found += inputs.evidence(rebuild(structure(state), shares)) or []
        return found

    def random(self) -> list[np.ndarray]:
        draw = generator("attribution", "random")
        picture = isinstance(self.batches[0], torch.Tensor)
        return [draw.random((12, 12) if picture else self.dataset.costs[row]) for row in self.rows]


def measured(folder: Path, options: dict[str, Any], samples: int) -> list[list[str]]:
    with tempfile.TemporaryDirectory() as home:
        fit(folder, out=Path(home) / "run", **options)
        one = Measure(prepare(folder, Options.check(options), Watcher()), Path(home) / "run", samples)
    sides: dict[str, Callable[[], list[Any]]] = {
        "random": one.random,
        "gradient x activation": one.gradient,
        "evidence": one.ours,
    }
    rows = []
    for name, side in sides.items():
        began = time.process_time()
        maps = side()
        spent = (time.process_time() - began) / len(one.rows)
        sure = one.predictions.max(1).mean()
        rows.append(
            [folder.name, len(one.rows), name, f"{sure:.3f}", f"{one.fall(maps):.3f}", f"{1000 * spent:.0f} ms"]
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+")
    parser.add_argument("--samples", type=positive, default=100)
    parser.add_argument("--strategy", default="last:1")
    asked = parser.parse_args()
    print(machine())
    header = ("data", "samples", "hidden first", "sure", "falls by", "processor time a sample")
    for number, folder in enumerate(folders(asked.data)):
        rows = measured(folder, {"strategy": asked.strategy}, asked.samples)
        show("Deletion of the strongest 20 %", header, rows, begin=number == 0)


if __name__ == "__main__":
    command(main)
