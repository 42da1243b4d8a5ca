"""Which of several things are worth having: those that nothing else beats in quality and cost alike."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def front(qualities: Sequence[float], costs: Sequence[float]) -> list[int]:
    """Places that are not dominated, cheapest first: no other is at least as good and as cheap, and better in one of the two.

    Of equals the first stays.
    """
    order = sorted(range(len(costs)), key=lambda place: (costs[place], -qualities[place], place))
    kept: list[int] = []
    for place in order:
        if not kept or qualities[place] > qualities[kept[-1]]:
            kept.append(place)
    return kept


def ranks(values: Sequence[float]) -> list[int]:
    """1 for the highest; equal values share the better place."""
    made = np.asarray(values, dtype=np.float64)
    return [int((made > value).sum()) + 1 for value in made]
