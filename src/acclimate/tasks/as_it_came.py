"""The baseline of boxes: the pretrained detector as it came, each of the user's classes being those of its own that fit best."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torchvision.ops import batched_nms

from acclimate.metrics import detection as metrics
from acclimate.tasks.task import Came

NAME = "detector as it came"
MOST = 64
"""Training pictures that classes are chosen on where no name is the same."""
IOU = 0.65
"""Of two boxes of classes that have become one, the less likely goes where they overlap more."""


def predictions(
    came: Came, classes: Sequence[str], train: np.ndarray, targets: np.ndarray, rows: np.ndarray
) -> np.ndarray:
    """float32 [len(rows), N, 6]: what the detector finds, in the user's classes.

    A class is the detector's of the same name; without one, those of its classes whose boxes are best for it on training pictures:
    one after another is added as long as average precision grows. `targets`: encoded, of all rows.
    """
    own = {name.casefold(): number for number, name in enumerate(came.classes)}
    chosen = [[own[name.casefold()]] if name.casefold() in own else [] for name in classes]
    lacking = [number for number, found in enumerate(chosen) if not found]
    if lacking:
        few = train[:: max(1, len(train) // MOST)]
        found = came.predict(few)
        for number in lacking:
            chosen[number] = _fitting(found, targets[few], number, len(came.classes))
    return _as_classes(came.predict(rows), chosen)


def _fitting(found: np.ndarray, targets: np.ndarray, number: int, own: int) -> list[int]:
    """The classes of the detector that stand for class `number`, chosen greedily."""
    wanted = np.empty(len(targets), dtype=object)
    for i, part in enumerate(targets):
        wanted[i] = part[part[:, 4] == number].copy()
        wanted[i][:, 4] = 0
    seen = [one for one in range(own) if (found[..., 5] == one).any()]

    def precision(group: list[int]) -> float:
        return metrics.value(metrics.match(_as_classes(found, [group]), wanted, 1))

    ranked = sorted(seen, key=lambda one: -precision([one]))
    chosen, best = ranked[:1], precision(ranked[:1]) if ranked else 0.0
    for one in ranked[1:]:
        if (reached := precision([*chosen, one])) > best:
            chosen, best = [*chosen, one], reached
    return chosen


def _as_classes(found: np.ndarray, chosen: list[list[int]]) -> np.ndarray:
    """Predictions [n, N, 6] in new classes: class i is those of `chosen[i]`, each box in as many classes as want it."""
    most = found.shape[1]
    told = np.zeros_like(found)
    told[..., 5] = -1
    for i, picture in enumerate(found):
        parts = [picture[np.isin(picture[:, 5], group)] for group in chosen]
        for number, part in enumerate(parts):
            part[:, 5] = number
        boxes = torch.from_numpy(np.concatenate(parts))
        kept = batched_nms(boxes[:, :4], boxes[:, 4], boxes[:, 5].long(), IOU)[:most]
        told[i, : len(kept)] = boxes[kept].numpy()
    return told
