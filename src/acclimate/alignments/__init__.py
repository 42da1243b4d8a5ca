"""Alignments: a linear classifier adapted to a target without labels, in closed form or by a fit that has one end."""

from acclimate.core.names import Names

ALIGNMENTS = Names(
    "alignment",
    {
        "standardise": "acclimate.alignments.standardise:STANDARDISE",
        "coral": "acclimate.alignments.coral:CORAL",
        "transport": "acclimate.alignments.transport:TRANSPORT",
        "subspace": "acclimate.alignments.subspace:SUBSPACE",
        "expectation": "acclimate.alignments.expectation:EXPECTATION",
        "confusion": "acclimate.alignments.confusion:CONFUSION",
        "propagation": "acclimate.alignments.propagation:PROPAGATION",
        "labels": "acclimate.alignments.labels:LABELS",
        "pseudo": "acclimate.alignments.pseudo:PSEUDO",
    },
)
