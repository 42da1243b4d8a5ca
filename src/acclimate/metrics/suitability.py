"""What features of a pretrained model say about labelled samples: several scores at once, of one choice a sample or of several labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from acclimate.metrics.transfer import h_score, log_evidence, nearest, ridge_loo
from acclimate.metrics.two_samples import standardised


@dataclass(frozen=True)
class Suitability:
    """`right` float64 [n]: of each sample whether ridge regression fitted to all others gets it right (of several labels the share of
    them), so that two models pair by sample; `scores`: by name, higher is better."""

    right: np.ndarray
    scores: dict[str, float]
    reading: str
    """Which of the readings of the features this is of."""


def left_out(features: np.ndarray, choices: list[np.ndarray]) -> np.ndarray:
    """`Suitability.right` of standardised features float64 [n, D]; `choices`: int64 [n] each (`Task.chosen`)."""
    return np.mean([ridge_loo(features, chosen).scores for chosen in choices], axis=0)


def suitability(readings: Iterable[tuple[str, Callable[[], np.ndarray]]], choices: list[np.ndarray]) -> Suitability:
    """Of the reading whose left-out accuracy is highest, of equal ones the first. `readings`: (name, how to get float [n, D])."""
    best: Suitability | None = None
    features = np.zeros((0, 0))
    for name, read in readings:
        made = standardised(read())
        if not made.size:  # all constant
            made = np.zeros((len(choices[0]), 1))
        right = left_out(made, choices)
        if best is None or right.mean() > best.right.mean():
            best, features = Suitability(right, {}, name), made
    assert best is not None
    scores = {
        "left-out ridge": float(best.right.mean()),
        "nearest neighbours": float(np.mean([nearest(features, chosen) for chosen in choices])),
        "log evidence": float(np.mean([log_evidence(features, chosen) for chosen in choices])),
        "H-score": float(np.mean([h_score(features, chosen) for chosen in choices])),
    }
    return Suitability(best.right, scores, best.reading)
