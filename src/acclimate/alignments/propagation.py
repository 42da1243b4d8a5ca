"""propagation: the surest answers of each class spread to near target samples; then a fit to what all of them get."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array, diags_array, eye_array
from scipy.sparse.linalg import cg

from acclimate.alignments.alignment import Alignment, Sides, alone
from acclimate.alignments.labelling import balanced, chosen, taught
from acclimate.alignments.linear import Linear
from acclimate.alignments.standardise import levelled
from acclimate.metrics.expected import TINY

SEEDS = 0.2
"""Of each class that labels spread from."""
NEIGHBOURS, SHARPNESS, SPREAD = 10, 3, 0.9
"""Neighbours of a sample, the power of the cosine, and how much of a label comes from neighbours. Iscen et al. (2019)
take 50, 3 and 0.99 for 50,000 samples; among hundreds of made-up ones such labels ran over into other classes."""
CELLS = 4_000_000
"""Similarities that are computed together."""
STEPS = 200
"""Of conjugate gradients at most; the condition is (1 + SPREAD) / (1 - SPREAD), so that some 30 are enough."""


def graph(features: np.ndarray, neighbours: int = NEIGHBOURS) -> csr_array:
    """Float [m, m], symmetric, with a diagonal of 0: cosine ** SHARPNESS of each sample's nearest others, normalised by
    both degrees."""
    m = len(features)
    most = min(neighbours, m - 1)
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    unit = np.divide(features, lengths, out=np.zeros_like(features), where=lengths > 0)
    near, alike = np.zeros((m, most), dtype=np.int64), np.zeros((m, most))
    step = max(1, CELLS // m)
    for start in range(0, m if most > 0 else 0, step):
        rows = np.arange(start, min(m, start + step))
        cosines = unit[rows] @ unit.T
        cosines[rows - start, rows] = -np.inf
        near[rows] = np.argpartition(cosines, -most, axis=1)[:, -most:]
        alike[rows] = np.take_along_axis(cosines, near[rows], axis=1)
    ends = np.repeat(np.arange(m), most), near.ravel()
    one = csr_array((alike.ravel().clip(0) ** SHARPNESS, ends), shape=(m, m))
    both = one + one.T
    degrees = np.asarray(both.sum(axis=1)).ravel()
    scale = diags_array(np.divide(1, np.sqrt(degrees), out=np.zeros(m), where=degrees > 0))
    return csr_array(scale @ both @ scale)


def spread(edges: csr_array, begun: np.ndarray) -> np.ndarray:
    """float64 [m, K]: (1 - SPREAD edges)^-1 `begun`, float64 [m, K] (Zhou et al., 2004)."""
    system = csr_array(eye_array(len(begun)) - SPREAD * edges)
    return np.column_stack([cg(system, column, maxiter=STEPS)[0] for column in begun.T]).clip(0)


def propagated(features: np.ndarray, outputs: np.ndarray, shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(labels int64 [m], weights float64 [m], 0 to 1: how sure) for features float64 [m, d] of which a classifier says
    outputs [m, K].

    A sample that no seed reaches keeps the classifier's answer.
    """
    chances = balanced(outputs, shares)
    rows, labels = chosen(chances, shares, SEEDS)
    begun = np.zeros_like(chances)
    begun[rows, labels] = 1
    # every class sends out the same, so that it gets its share by where it lies and not by how many were sure of it
    found = spread(graph(features), begun / begun.sum(axis=0).clip(1))
    reached = found.sum(axis=1) > TINY
    found[~reached] = chances[~reached]
    made = balanced(np.log((found / found.sum(axis=1, keepdims=True)).clip(TINY)), shares)
    doubt = -(made * np.log(made.clip(TINY))).sum(axis=1) / np.log(max(2, len(shares)))
    return made.argmax(axis=1), (1 - doubt).clip(0)


@alone
def propagation(sides: Sides) -> Linear:
    """Begun from `standardise`; the labels that arrive count by how sure they are, beside the source's own."""
    level, scale, shift = levelled(sides)
    place = level.space.forward(level.target)
    labels, weights = propagated(place, sides.plain.outputs(level.target), sides.shares)
    return taught(level, np.arange(len(labels)), labels, weights).after(scale, shift)


PROPAGATION = Alignment(
    "propagation", "its surest answers spread to near target samples", propagation, True, shared=True
)
