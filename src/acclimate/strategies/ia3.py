"""ia3: a factor for every output of every linear layer and convolution learns, from the probe on (after Liu et al., 2022)."""

from __future__ import annotations

from acclimate.strategies.lora import adapted
from acclimate.strategies.strategy import TRAINING, Context, Plan, Strategy


def ia3(context: Context) -> Plan:
    why = "the pretrained weights stay, and what each output of a layer counts for is learned"
    return (yield from adapted(context, why, 1.5e-2, adapter="ia3"))


IA3 = Strategy("ia3", "a learned factor for each output of frozen layers", ia3, reads=TRAINING | {"adapter"})
