"""Strategies: generators of Phases, each short enough to read as its own description. One file and one line here adds another."""

from acclimate.alignments import ALIGNMENTS
from acclimate.core.names import Names
from acclimate.objectives import ADAPTING

STRATEGIES = Names(
    "strategy",
    {
        "auto": "acclimate.strategies.auto:AUTO",
        "probe": "acclimate.strategies.probe:PROBE",
        "last": "acclimate.strategies.last:LAST",
        "lp-ft": "acclimate.strategies.lp_ft:LP_FT",
        "full": "acclimate.strategies.full:FULL",
        "layer-decay": "acclimate.strategies.layer_decay:LAYER_DECAY",
        "gradual": "acclimate.strategies.gradual:GRADUAL",
        "lora": "acclimate.strategies.lora:LORA",
        "ia3": "acclimate.strategies.ia3:IA3",
        "bitfit": "acclimate.strategies.bitfit:BITFIT",
        "contrastive": "acclimate.strategies.contrastive:CONTRASTIVE",
        "plain": "acclimate.strategies.plain:PLAIN",
    },
)
ADAPTATIONS = ("auto", "none", *ALIGNMENTS, "adabn", *ADAPTING)
"""What may be done where a target differs (`strategies.adaptation`): its own, and every alignment and objective that adapts."""
