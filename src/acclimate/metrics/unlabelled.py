"""What predictions tell without labels, and what losses at the source tell of the target when weighted.

`probabilities`: float [n, classes], rows that sum to 1. None of their figures knows what is right: a model that puts
all samples into one class has the best `neighbourhood`, one that is sure and balanced the best `information` and
nuclear norms, right or wrong. Trust them only where accuracy at the source is near its best and the predicted classes
are about as frequent as they should be.
"""

from __future__ import annotations

import numpy as np
from scipy.special import entr

SHARPNESS = 0.05
"""The temperature of the similarities of neighbours."""
TEMPERATURE = 2.5
"""What logits are divided by before classes are compared."""
LEAST_SHARE = 0.1
"""Weights that are worth fewer than this share of the samples say nothing."""
LEAST_CHANCE = 1e-3
"""Of either domain: one sample that the classifier of domains is too sure of must not outweigh all others."""
CONSTANT = 1e-6
"""Relative spread up to which weights count as all the same."""
OFF = 0.01
"""How far from 1 probabilities may sum, for those of half precision."""
CELLS = 4_000_000
"""Similarities that are computed together."""


def checked(probabilities: np.ndarray) -> np.ndarray:
    """As float64. Raises ValueError for what is no table of probabilities; logits, say, would give figures as well."""
    chances = np.asarray(probabilities, dtype=np.float64)
    if chances.ndim != 2 or not chances.size:
        raise ValueError(f"probabilities {chances.shape}: [n, classes] are needed, neither of them 0")
    if not ((chances >= 0).all() and (np.abs(chances.sum(axis=1) - 1) <= OFF).all()):
        raise ValueError("a row of probabilities has a negative one or does not sum to 1")
    return chances


# --- predictions alone; all raise ValueError for what is no table of probabilities


def information(probabilities: np.ndarray) -> float:
    """Entropy of the mean prediction less the mean entropy of predictions, in nats; higher is better.

    The mutual information of sample and class as the model sees it, 0 to ln(classes) (Bridle et al. 1991).
    """
    chances = checked(probabilities)
    return float(entr(chances.mean(axis=0)).sum() - entr(chances).sum(axis=1).mean())


def batch_nuclear(probabilities: np.ndarray) -> float:
    """The nuclear norm over the samples; higher, that is sure and varied, is better (BNM, Cui et al. 2020)."""
    chances = checked(probabilities)
    return float(np.linalg.norm(chances, "nuc")) / len(chances)


def nuclear(probabilities: np.ndarray) -> float:
    """The nuclear norm over its bound, sqrt(n min(n, classes)): 0 to 1, higher is better (Deng et al. 2023).

    Unlike `batch_nuclear` it compares over different numbers of samples.
    """
    chances = checked(probabilities)
    return float(np.linalg.norm(chances, "nuc") / np.sqrt(len(chances) * min(chances.shape)))


def neighbourhood(probabilities: np.ndarray) -> float:
    """Mean entropy of who a sample's neighbours are, in nats, by the cosine of predictions; higher is better.

    High where samples lie in dense groups of like predictions (SND, Saito et al. 2021, temperature 0.05). A sample is
    not its own neighbour; a single one has none, and gets 0.
    """
    chances = checked(probabilities)
    n = len(chances)
    if n == 1:
        return 0.0
    unit = chances / np.linalg.norm(chances, axis=1, keepdims=True)
    total, step = 0.0, max(1, CELLS // n)
    for start in range(0, n, step):
        rows = np.arange(start, min(n, start + step))
        logits = (unit[rows] @ unit.T - 1) / SHARPNESS  # -20 to 0, safe to exponentiate
        likeness = np.exp(logits)
        likeness[rows - start, rows] = 0
        mass = likeness.sum(axis=1)
        total += float((np.log(mass) - np.einsum("rn,rn->r", likeness, logits) / mass).sum())
    return total / n


def class_confusion(probabilities: np.ndarray) -> float:
    """How much predictions of one class also name others, 0 to 1; lower is better (MCC, Jin et al. 2020).

    Softened by the temperature 2.5: a softmax of logits over it is the probabilities to the power of 1 / 2.5, over
    their sum. Sure samples weigh more.
    """
    soft = checked(probabilities) ** (1 / TEMPERATURE)
    soft /= soft.sum(axis=1, keepdims=True)
    weights = 1 + np.exp(-entr(soft).sum(axis=1))
    together = soft.T @ (soft * (len(soft) * weights / weights.sum())[:, None])
    mass = together.sum(axis=1)
    # a class that is never named is not confused with any
    alone = np.divide(np.diag(together), mass, out=np.ones_like(mass), where=mass > 0)
    return float((1 - alone).mean())


# --- losses at the source, weighted


def importance_weights(target_chances: np.ndarray, sources: int, targets: int) -> np.ndarray:
    """How much more often samples like each of the source come up in the target, float64 [n].

    `target_chances`: float [n], the probability of being of the target by a classifier of domains that did not see
    these samples, clipped to 0.001 .. 0.999; `sources`, `targets`: how many of each it was trained on, at least 1.
    """
    chance = np.asarray(target_chances, dtype=np.float64).clip(LEAST_CHANCE, 1 - LEAST_CHANCE)
    return sources / targets * chance / (1 - chance)


def effective(weights: np.ndarray) -> float:
    """How many samples of equal weight weights are worth, (sum w)^2 / sum w^2 (Kish 1965): 1 to n, 0 if all are 0.

    `weights`: float64 [n], none below 0.
    """
    largest = weights.max(initial=0)
    if not largest > 0:
        return 0.0
    scaled = weights / largest  # the squares of tiny weights would be 0
    return float(scaled.sum() ** 2 / (scaled**2).sum())


def importance_weighted(weights: np.ndarray, losses: np.ndarray) -> float | None:
    """The loss to expect in the target: the mean of weight times loss, both float64 [n] (IWV, Sugiyama et al. 2007).

    Lower is better. None where the weights are worth fewer than a tenth of the samples. Raises ValueError for weights
    and losses of different shape, weights that are negative or not finite, and no samples.
    """
    weights, losses = _alike(weights, losses)
    return float((weights * losses).mean()) if _enough(weights) else None


def deep_embedded(weights: np.ndarray, losses: np.ndarray) -> float | None:
    """`importance_weighted` less what the mean weight, which should be 1, tells of its error (DEV, You et al. 2019).

    Lower is better. mean(w l) + eta (mean(w) - 1), eta = -cov(w l, w) / var(w); weights that are all the same tell
    nothing, and eta is 0. None and ValueError as there.
    """
    weights, losses = _alike(weights, losses)
    if not _enough(weights):
        return None
    weighted, mean = weights * losses, float(weights.mean())
    away = weights - mean
    eta = 0.0
    if away.std() > CONSTANT * mean:
        eta = -float((weighted - weighted.mean()) @ away / (away @ away))
    return float(weighted.mean()) + eta * (mean - 1)


def _alike(weights: np.ndarray, losses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64 [n]. A column times a row would be a table, and its mean a figure without any weighting."""
    weights, losses = np.asarray(weights, dtype=np.float64), np.asarray(losses, dtype=np.float64)
    if weights.ndim != 1 or weights.shape != losses.shape or not len(weights):
        raise ValueError(f"weights {weights.shape} and losses {losses.shape}: both must be [n], n at least 1")
    if not (np.isfinite(weights) & (weights >= 0)).all():
        raise ValueError("a weight is negative or not finite")
    return weights, losses


def _enough(weights: np.ndarray) -> bool:
    return effective(weights) >= LEAST_SHARE * len(weights)
