"""bitfit: the biases and the head learn, from the probe on; every other weight stays (Ben Zaken et al., 2022)."""

from __future__ import annotations

from acclimate.strategies.lora import adapted
from acclimate.strategies.strategy import Context, Plan, Strategy


def bitfit(context: Context) -> Plan:
    why = "biases alone, a thousandth of the weights, move features far enough for tasks near the pretrained one"
    return (yield from adapted(context, why, 1e-2, only="bias"))


BITFIT = Strategy("bitfit", "biases alone, and the head", bitfit)
