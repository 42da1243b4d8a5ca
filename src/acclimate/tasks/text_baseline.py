"""The baseline of texts: TF-IDF of words and characters, and logistic regression; what a fine-tuned model has to beat."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from acclimate.core.errors import MissingExtra

NAME = "TF-IDF"
PENALTIES = (3.0, 10.0, 30.0, 100.0)
"""Inverse strengths of the penalty; validation picks, and none beyond one that is worse is tried."""
TRIED, MOST = 2000, 30_000
"""Samples that the penalty is picked with, and samples that are learned from at most: a baseline takes seconds."""
STEPS, FEW = 40, 15
"""Steps of the solver: to fit, and to tell penalties apart."""


def fitted(
    texts: list[str], targets: np.ndarray, held: list[str], judge: Callable[[np.ndarray], float]
) -> Callable[[list[str]], np.ndarray]:
    """From texts to probabilities float32 [n, classes]: fitted to `texts`, the penalty picked by the loss that `judge` gives for the
    probabilities of the texts `held`.

    `targets`: int64 [n], or 0 and 1 [n, labels]. Words and pairs of words, and 2 to 5 characters within words; terms are damped by
    the logarithm. Raises `UserError` where scikit-learn is not installed.
    """
    try:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.pipeline import make_union
    except ImportError:
        raise MissingExtra("the TF-IDF baseline", "text") from None
    draw = np.random.default_rng(0).permutation(len(texts))[:MOST]
    # of many texts, terms of a single one are half of the table and of the time, and say nothing (docs/log.md)
    damped: Any = {"sublinear_tf": True, "dtype": np.float32, "min_df": 2 if len(draw) > TRIED else 1}
    features = make_union(
        TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"(?u)\w+|[^\w\s]", **damped),
        TfidfVectorizer(ngram_range=(2, 5), analyzer="char_wb", max_features=40_000, **damped),
    )
    table = features.fit_transform([texts[i] for i in draw]).tocsr()
    wanted, few = targets[draw], table[:TRIED]
    there = np.unique(few.indices)  # the weight of a term that none of them has stays zero
    few, seen = few[:, there], features.transform(held).tocsr()[:, there]
    best, least = PENALTIES[0], float("inf")
    for penalty in PENALTIES:
        loss = judge(_probabilities(_regression(few, wanted[:TRIED], penalty, FEW), seen, targets))
        if loss >= least:
            break
        best, least = penalty, loss
    model = _regression(table, wanted, best)
    return lambda asked: _probabilities(model, features.transform(asked), targets)


def _regression(table: Any, targets: np.ndarray, penalty: float, steps: int = STEPS) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier

    model = LogisticRegression(C=penalty, max_iter=steps)
    model = OneVsRestClassifier(model) if targets.ndim == 2 else model
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # so many steps are enough for a baseline
        return model.fit(table, targets)


def _probabilities(model: Any, table: Any, targets: np.ndarray) -> np.ndarray:
    """Of every class, also of those that the model has not seen."""
    found = model.predict_proba(table).astype(np.float32)
    if targets.ndim == 2:
        return found
    full = np.zeros((found.shape[0], int(targets.max()) + 1), dtype=np.float32)
    full[:, model.classes_] = found
    return full
