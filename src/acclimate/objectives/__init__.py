"""Objectives: the loss over one or two streams of batches; the loop knows no other."""

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
