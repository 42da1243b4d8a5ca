"""confusion: answers corrected for the class shares that the confusion matrix of held-out samples tells."""

from __future__ import annotations

from acclimate.alignments.alignment import Alignment, Sides
from acclimate.alignments.expectation import corrected
from acclimate.alignments.linear import Linear
from acclimate.metrics.expected import Labelled
from acclimate.metrics.shares import by_confusion, calibrated


def confusion(sides: Sides) -> Linear:
    """Black box shift estimation (Lipton et al., 2018). Where `Confused.reliable` says no, nothing changes."""
    if not len(sides.held):
        return sides.plain
    held = Labelled(sides.plain.chances(sides.held), sides.held_targets)
    found = by_confusion(held, sides.plain.chances(sides.target))
    return corrected(sides.plain, calibrated(held), found.weights) if found.reliable else sides.plain


CONFUSION = Alignment("confusion", "answers corrected for the shares that a confusion matrix tells", confusion, False)
