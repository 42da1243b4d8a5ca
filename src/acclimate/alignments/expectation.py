"""expectation: answers corrected for the likeliest class shares of the target, by expectation maximisation."""

from __future__ import annotations

import numpy as np

from acclimate.alignments.alignment import Alignment, Sides
from acclimate.alignments.linear import Linear
from acclimate.metrics.expected import TINY, Labelled
from acclimate.metrics.shares import Calibration, by_expectation, calibrated


def corrected(plain: Linear, calibration: Calibration, ratio: np.ndarray) -> Linear:
    """What `shares.reweighed` makes of calibrated probabilities, as a classifier; `ratio` float64 [K]: share there over
    share here."""
    return plain.tilted(1 / calibration.temperature, calibration.bias + np.log(ratio.clip(TINY)))


def expectation(sides: Sides) -> Linear:
    """Saerens et al. (2002) on calibrated probabilities (Alexandari et al., 2020). Without held-out samples nothing
    changes.

    Right where nothing but the shares differs; wrong where looks differ, for then the classifier's errors are taken for
    shares.
    """
    if not len(sides.held):
        return sides.plain
    chances = sides.plain.chances(sides.held)
    calibration = calibrated(Labelled(chances, sides.held_targets))
    before = calibration(chances).mean(axis=0)
    after = by_expectation(calibration(sides.plain.chances(sides.target)), before)
    return corrected(sides.plain, calibration, after / before.clip(TINY))


EXPECTATION = Alignment("expectation", "answers corrected for the likeliest class shares", expectation, balanced=False)
