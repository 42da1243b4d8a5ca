"""What is said of a model on some samples: the verdict in words, slices by what samples are like, figures without leaks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from acclimate.data.table import Table
from acclimate.metrics.metric import Metric
from acclimate.tasks.image_classification import ImageClassification
from acclimate.tasks.task import Baseline
from acclimate.verbs.judging import against, by_columns, parts_of, verdict, without

TASK = ImageClassification({"classes": ["a", "b"], "several": False})


def answers(right: str) -> np.ndarray:
    """Probabilities of samples of class a, right where there is a 1."""
    return np.array([[0.9, 0.1] if one == "1" else [0.2, 0.8] for one in right], dtype=np.float32)


def told(model: str, *baselines: str) -> str:
    targets = np.zeros(len(model), dtype=np.int64)
    found = [
        against(TASK, answers(model), Baseline(f"number {i}", answers(one)), targets) for i, one in enumerate(baselines)
    ]
    return verdict(TASK, TASK.metrics(answers(model), targets), found, "test samples")


def test_the_verdict_is_against_the_best_baseline() -> None:
    better = told("1" * 60, "0" * 60, "1" * 30 + "0" * 30)
    assert better.startswith(
        "accuracy 1.000 [0.940, 1.000] on 60 test samples, better than its number 1 (0.500) by +0.500 ["
    )


def test_a_model_that_is_not_told_better_says_so_first() -> None:
    assert told("1" * 59 + "0", "1" * 60).startswith("NOT told better than its number 0 (1.000), by -0.")
    assert told("1" * 30 + "0" * 30, "1" * 60).startswith("WORSE than its number 0 (1.000), by -0.")
    assert told("1" * 60).startswith("accuracy 1.000 [")


@given(arrays(np.float64, st.integers(0, 60), elements=st.floats(0, 1000, width=32)))
def test_every_sample_is_in_one_part(values: np.ndarray) -> None:
    parts = parts_of(values)
    if parts:
        places = np.concatenate(list(parts.values()))
        assert sorted(places.tolist()) == list(range(len(values)))
        ends = [values[part].max() for part in parts.values()]
        starts = [values[part].min() for part in parts.values()]
        assert all(end < start for end, start in zip(ends[:-1], starts[1:], strict=True))
    else:
        assert len(np.unique(values)) < 2 or np.quantile(values, 1, method="lower") == np.quantile(values, 0)


def table(**columns: Any) -> Table:
    return Table(pa.table({"sample": [f"{i}.png" for i in range(12)], **columns}), "path", "here", "folders")


def test_columns_of_places_are_slices_and_others_where_asked() -> None:
    here = table(camera=["x"] * 6 + ["y"] * 5 + ["z"], nurse=["n", "m"] * 6, site=["one"] * 12)
    rows = np.arange(12)
    assert {name: [*parts] for name, parts in by_columns(here, rows, ()).items()} == {"camera": ["x", "y"]}
    found = by_columns(here, rows[:11], ("nurse",))
    assert list(found) == ["nurse", "camera"]
    assert found["nurse"]["n"].tolist() == [0, 2, 4, 6, 8, 10]


def test_leaks_are_named_and_left_out() -> None:
    here, rows = table(), np.arange(4, 10)
    leaked = np.array([True, False, False, True, False, False])
    predictions, targets = answers("100111"), np.zeros(6, dtype=np.int64)
    found = without(TASK, here, rows, leaked, predictions, targets)
    assert (found["count"], found["samples"]) == (2, ["4.png", "7.png"])
    clean: Metric = found["metrics"]["accuracy"]
    assert (clean["value"], clean["n"]) == (0.5, 4)
    everything = without(TASK, here, rows, np.ones(6, dtype=bool), predictions, targets)
    assert everything["count"] == 6 and "metrics" not in everything


def test_parts_that_lie_close_have_names_of_their_own() -> None:
    assert list(parts_of(np.array([235.1, 235.2, 235.3, 236, 300, 320]))) == ["235.1", "235.2", "235.3", "236 to 320"]
    assert list(parts_of(np.array([1.0, 1, 2, 3, 9, 9, 10, 12]))) == ["1 to 2", "3", "9 to 12"]


@given(arrays(np.float64, st.integers(0, 60), elements=st.floats(-1e9, 1e9)))
def test_names_of_parts_are_never_the_same(values: np.ndarray) -> None:
    parts = parts_of(values)
    assert sum(map(len, parts.values())) in (0, len(values))


def test_long_numbers_are_names() -> None:
    rows = np.arange(12)
    assert by_columns(table(number=[10**17 + i for i in range(12)]), rows, ("number",)) == {}
    few = by_columns(table(number=[i % 2 + 10**17 for i in range(12)]), rows, ("number",))
    assert {name: len(part) for name, part in few["number"].items()} == {str(10**17): 6, str(10**17 + 1): 6}


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_equal_numbers_make_no_slices(value: float) -> None:
    assert parts_of(np.full(9, value)) == {}
