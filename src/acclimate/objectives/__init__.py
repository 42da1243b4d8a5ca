"""Objectives: the loss over one or two streams of batches; the loop knows no other."""

from typing import Any

from acclimate.core.names import Names

OBJECTIVES = Names(
    "objective",
    {
        "supervised": "acclimate.objectives.supervised:Supervised",
        "rdrop": "acclimate.objectives.rdrop:RDrop",
        "fgm": "acclimate.objectives.fgm:Fgm",
        "contrastive": "acclimate.objectives.contrastive:Contrastive",
    },
)
"""Those of labelled samples alone."""
ADAPTING = Names(
    "adaptation",
    {
        "mmd": "acclimate.objectives.mmd:Mmd",
        "jan": "acclimate.objectives.jan:Jan",
        "deep-coral": "acclimate.objectives.deep_coral:DeepCoral",
        "dann": "acclimate.objectives.dann:Dann",
        "cdan": "acclimate.objectives.cdan:Cdan",
        "mcc": "acclimate.objectives.mcc:Mcc",
        "mdd": "acclimate.objectives.mdd:Mdd",
        "self-training": "acclimate.objectives.self_training:SelfTraining",
        "shot": "acclimate.objectives.shot:Shot",
    },
)
"""Those that read unlabelled samples of a target besides."""


def objective_named(name: str) -> Any:
    """The objective of a phase. Raises `UserError` for an unknown name."""
    return (ADAPTING if name in ADAPTING else OBJECTIVES)[name]
