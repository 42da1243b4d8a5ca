"""labels: the classifier learns from the source and from target samples that have a label, both sides weighing the same."""

from __future__ import annotations

import numpy as np

from acclimate.alignments.alignment import Alignment, Sides, alone
from acclimate.alignments.labelling import equal
from acclimate.alignments.linear import Linear
from acclimate.alignments.standardise import levelled


@alone
def labels(sides: Sides) -> Linear:
    """On the target's columns with the source's mean and spread, which all of the target gives (docs/log.md: three labels a class are
    worth more than any adaptation without labels where looks differ much)."""
    assert sides.known is not None
    assert sides.known_targets is not None
    level, scale, shift = levelled(sides)
    known = np.asarray(sides.known, dtype=np.float64) * scale + shift
    return equal(level, known, sides.known_targets).after(scale, shift)


LABELS = Alignment(
    "labels", "learns from the target samples that have a label, too", labels, balanced=False, labelled=True
)
