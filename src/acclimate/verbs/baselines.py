"""The cheap models that stand beside every result: what needs no sample, the task's own, and a probe on the frozen network."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from acclimate.engine.evaluate import over_activations, predict
from acclimate.engine.phase import HEAD, Outcome, Phase
from acclimate.engine.trainer import OutOfTime, Trainer
from acclimate.tasks.task import Baseline

MAJORITY = "majority class"
PROBE = "frozen probe"


def majority(row: np.ndarray | None, samples: int) -> Iterator[Baseline]:
    """`Task.constant` for each of some samples; nothing where the task has none."""
    if row is not None and len(row):
        yield Baseline(MAJORITY, np.repeat(row[None].astype(np.float32), samples, axis=0))


def is_probe(phase: Phase) -> bool:
    """Whether a phase fits the head to features of the pretrained network as it came."""
    own = phase.start is None and not phase.merge and not phase.reinit
    return own and phase.solve and not phase.align and phase.stages == (HEAD,)


def probe(trainer: Trainer, phase: Phase, chosen: Outcome, rows: np.ndarray, limit: float) -> Iterator[Baseline]:
    """What the probe predicts for `rows`: that of the strategy where it had one, else `phase` is fitted now, up to `limit` of
    time.monotonic().

    Nothing where the probe is what was chosen. Leaves the probe's weights in the net.
    """
    if is_probe(trainer.outcomes.phase(chosen.index)):
        return
    known = (index for index in range(chosen.index) if is_probe(trainer.outcomes.phase(index)))
    index = next(known, None)
    last = len(trainer.net.backbone.stages)
    try:
        if index is None:
            trainer.solved_aside(phase, limit)
        else:
            trainer.restore(index)
        work = trainer.feature_pass(trainer.dataset, limit if index is None else float("inf"))
        sides = [(part, work.bring(part, last)) for part in (rows, trainer.val_rows)]
    except OutOfTime:
        trainer.watcher.say(f"{PROBE}: left out, the budget has no time for features of all samples")
        return
    how = trainer.precision, trainer.device, last
    found, held = (
        predict(trainer.net, trainer.task, over_activations(trainer.dataset, features, part), *how)
        for part, features in sides
    )
    yield Baseline(PROBE, trainer.task.at_its_best(found, held, trainer.dataset.targets[trainer.val_rows]))
