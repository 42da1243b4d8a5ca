"""Which of several things are worth having: those that nothing else beats in quality and cost alike."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

SLACK = 0.1
"""Share by which costs may differ and still count as equal: two timings of one network differ by as much."""


def front(qualities: Sequence[float], costs: Sequence[float], slack: float = SLACK) -> list[int]:
    """Places that are not dominated, cheapest first: nothing is better and costs as little, within `slack` of the cost.

    Of equals in quality the cheapest stays, and of equals in both the first.
    """
    order = sorted(range(len(costs)), key=lambda place: (-qualities[place], costs[place], place))
    kept: list[int] = []
    for place in order:
        if all(costs[other] > costs[place] * (1 + slack) for other in kept):
            kept.append(place)
    return kept[::-1]


def ranks(values: Sequence[float]) -> list[int]:
    """1 for the highest; equal values share the better place."""
    made = np.asarray(values, dtype=np.float64)
    return [int((made > value).sum()) + 1 for value in made]
