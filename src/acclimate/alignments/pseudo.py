"""pseudo: the surest target samples of each class get its label, and the classifier learns them too, in rounds."""

from __future__ import annotations

from acclimate.alignments.alignment import Alignment, Sides, alone
from acclimate.alignments.labelling import balanced, chosen, taught
from acclimate.alignments.linear import Linear
from acclimate.alignments.standardise import levelled

PORTIONS = (0.2, 0.35, 0.5)
"""Of each class that are believed, a round each: from a fifth to a half, as in the paper."""


@alone
def pseudo(sides: Sides) -> Linear:
    """Class-balanced self-training (Zou et al., 2018), begun from `standardise`."""
    level, scale, shift = levelled(sides)
    linear = sides.plain
    for portion in PORTIONS:
        chances = balanced(linear.outputs(level.target), sides.shares)
        linear = taught(level, *chosen(chances, sides.shares, portion))
    return linear.after(scale, shift)


PSEUDO = Alignment("pseudo", "learns from its surest answers of each class, in rounds", pseudo, True, shared=True)
