"""`Metric`: a figure with its interval and the number of samples behind it."""

from __future__ import annotations

from typing import TypedDict


class Metric(TypedDict):
    """`low` and `high` bound the 95 % interval; `n` counts distinct samples."""

    value: float
    low: float
    high: float
    n: int
