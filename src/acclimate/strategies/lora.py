"""lora: two thin matrices beside every linear layer and convolution learn, from the probe on (Hu et al., 2022)."""

from __future__ import annotations

from typing import Any

from acclimate.strategies.probe import begun_with
from acclimate.strategies.strategy import TRAINING, Context, Plan, Strategy

HEAD_RATE = 1e-3


def adapted(context: Context, why: str, rate: float, **how: Any) -> Plan:
    """The probe, then few parameters of all layers at `rate`, which bear ten times what the weights themselves do and more; the
    fitted head does not."""
    tuning = context.tuning
    begun = yield begun_with(context)
    rates = {"lr": tuning.rate(rate), "head": tuning.rate(HEAD_RATE)}
    return (yield context.phase(why, 0, **rates, epochs=tuning.epochs(10), start=begun.index, **how))


def lora(context: Context) -> Plan:
    why = "the pretrained weights stay, and matrices of low rank are added to them, which few samples suffice for"
    return (yield from adapted(context, why, 3e-3, adapter="lora"))


LORA = Strategy("lora", "low-rank matrices beside frozen layers", lora, reads=TRAINING | {"adapter", "rank"})
