"""Fitting a head to features in closed form: the minimum that it finds, and what it picks on samples it was not fitted to."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from acclimate.engine.solve import FITTED, LIKELY, Fold, fit_head, path
from acclimate.tasks.read_head import READINGS, ReadHead
from acclimate.tasks.text_classification import TextClassification

PLACES, WIDTH, CLASSES = 12, 5, 3
TASK = TextClassification({"classes": ["a", "b", "c"], "several": False})


def fold(samples: int, told: tuple[int, ...], seed: int = 0) -> Fold:
    """Features of noise, but for these places, which tell the class."""
    draw = torch.Generator().manual_seed(seed)
    classes = torch.arange(samples) % CLASSES
    features = torch.randn(samples, PLACES, WIDTH, generator=draw)
    for place in told:
        features[torch.arange(samples), place, classes] += 4.0
    return Fold(features, classes.numpy().astype(np.int64))


def head() -> ReadHead:
    return ReadHead(PLACES, WIDTH, CLASSES)


def test_the_path_is_that_of_logistic_regression() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    one = fold(90, (1,))
    features = one.features.flatten(1)
    standard = preprocessing.StandardScaler().fit_transform(features.numpy() * np.sqrt(90 / 89))
    for point in path(TASK, features, one.targets, CLASSES, (1.0, 0.1)):
        model = linear_model.LogisticRegression(C=1 / (point.penalty * 90), max_iter=500).fit(standard, one.targets)
        found = torch.softmax(point.outputs(features), 1).numpy()
        assert np.abs(found - model.predict_proba(standard)).max() < 0.02


@pytest.mark.parametrize("validation", [0, 30, 300])  # none; too small, so folds of both; large enough
@pytest.mark.parametrize("reading", ["edge", "edge of 4 blocks"])
def test_what_tells_the_class_is_read(validation: int, reading: str) -> None:
    told = READINGS[reading]
    val = fold(validation, told, 1) if validation else None
    mine = head()
    notes = fit_head(TASK, TASK, mine, fold(90, told), val, seed=0)
    assert set(told) <= set(READINGS[notes["reading"]]) and mine.reading == notes["reading"]
    fresh = fold(60, told, 2)
    right = mine.eval()(fresh.features).argmax(1).numpy() == fresh.targets
    assert right.mean() > 0.9
    assert len(READINGS) > LIKELY


def test_features_that_learned_the_samples_are_read_as_before_with_a_given_penalty() -> None:
    mine = head()
    assert fit_head(TASK, TASK, mine, fold(90, (0, 1)), None, seed=0, reread=False) == {
        "reading": "mean",
        "penalty": pytest.approx(FITTED),
    }
    held = fit_head(TASK, TASK, mine, fold(90, ()), fold(90, (), 1), seed=0, reread=False)
    assert held["penalty"] > FITTED  # nothing is told, so held out samples ask for the strongest
