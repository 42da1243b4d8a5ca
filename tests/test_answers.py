"""Answers kept beside a model: what is written is what is read, whatever the targets are, and damage is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from acclimate.core.errors import UserError
from acclimate.core.run import Run
from acclimate.engine.answers import FILE, Answers


def made(counts: list[int] | None, n: int = 4) -> Answers:
    """Of samples with one class each, or with so many boxes."""
    digests = np.arange(2 * n, dtype=np.uint64).reshape(n, 2)
    targets = np.arange(n) % 2
    if counts is not None:
        targets = np.empty(n, dtype=object)
        for i, count in enumerate(counts):
            targets[i] = np.full((count, 7), float(i))
    predictions = np.linspace(0, 1, 2 * n, dtype=np.float32).reshape(n, 2)
    return Answers(digests, predictions, targets, np.arange(n) == 1, {"majority class": predictions[::-1].copy()})


@given(st.none() | st.lists(st.integers(0, 3), min_size=4, max_size=4))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, counts: list[int] | None) -> None:
    run = Run(tmp_path_factory.mktemp("answers"))
    answers = made(counts)
    answers.save(run)
    again = Answers.load(run.path)
    for name in ("digests", "predictions", "leaked"):
        assert np.array_equal(getattr(again, name), getattr(answers, name))
    assert len(again.targets) == len(answers.targets)
    assert all(np.array_equal(one, two) for one, two in zip(again.targets, answers.targets, strict=True))
    assert again.beside.keys() == answers.beside.keys()
    assert np.array_equal(again.beside["majority class"], answers.beside["majority class"])


def test_what_does_not_belong_together_is_damage(tmp_path: Path) -> None:
    whole = made(None)
    for changed in ({"predictions": whole.predictions[:2]}, {"predictions": whole.predictions * np.nan}):
        replace(whole, **changed).save(Run(tmp_path))
        with pytest.raises(UserError, match="damaged"):
            Answers.load(tmp_path)


def test_samples_are_found_by_their_content() -> None:
    answers = made(None)
    others = np.array([answers.digests[2], [99, 99], answers.digests[0]], dtype=np.uint64)
    assert answers.places(others).tolist() == [2, -1, 0]
    taken = answers.take(np.array([2, 0]))
    assert np.array_equal(taken.predictions, answers.predictions[[2, 0]])
    assert np.array_equal(taken.beside["majority class"], answers.beside["majority class"][[2, 0]])


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 rubbish"])
def test_damage_is_told(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / FILE).write_bytes(content)
    with pytest.raises(UserError, match="not there or damaged"):
        Answers.load(tmp_path)
