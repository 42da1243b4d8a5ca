"""last:N: the last N stages and the head, from the probe on, reading cached activations of a few fixed views."""

from __future__ import annotations

from acclimate.strategies.probe import begun_with
from acclimate.strategies.strategy import TRAINING, Context, Plan, Strategy
from acclimate.strategies.tail import tail


def last(context: Context) -> Plan:
    first = max(0, len(context.stages) - (context.argument or 1))
    stages = f"{context.argument} stages" if (context.argument or 1) > 1 else "stage"
    begun = yield begun_with(context, keep=first)
    return (yield tail(context, first, begun.index, f"the last {stages}, as asked"))


LAST = Strategy(
    "last",
    "the last N stages and the head, on cached activations",
    last,
    reads=TRAINING - {"freeze"},
    cached=True,
    numbered=True,
)
