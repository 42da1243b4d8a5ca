"""What holds for every test: hypothesis draws the same examples each time, the cache is the test's own, threads are few."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

settings.register_profile("steady", derandomize=True, deadline=None, database=None)
settings.load_profile("steady")
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for the session, so that tests share frozen activations as runs do."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["ACCLIMATE_CACHE"] = str(folder)
    return folder


def write_digits(folder: Path, classes: int, each: int, first: int = 0) -> Path:
    """Real handwritten digits (scikit-learn's, 8 x 8), enlarged to 32 px, as class folders."""
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    for name in range(classes):
        rows = np.flatnonzero(digits.target == name)[first : first + each]
        (folder / str(name)).mkdir(parents=True)
        for row in rows:
            picture = Image.fromarray((digits.images[row] * 15.9).astype(np.uint8)).resize((32, 32))
            picture.save(folder / str(name) / f"{row}.png")
    return folder


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """4 classes with 24 training and 8 test pictures each."""
    folder = tmp_path_factory.mktemp("data") / "digits"
    write_digits(folder / "train", 4, 24)
    write_digits(folder / "test", 4, 8, first=24)
    return folder


TINY = "random:timm:test_efficientnet"
"""A real architecture of 0.4 million parameters with random weights."""


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a BERT of 3 blocks, 32 wide, with random weights and word pieces."""
    from texts import tiny

    return tiny("bert", tmp_path_factory.mktemp("models") / "bert")


@pytest.fixture(scope="session")
def tiny_gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from texts import tiny

    return tiny("gpt2", tmp_path_factory.mktemp("models") / "gpt2")


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from texts import tiny

    return tiny("llama", tmp_path_factory.mktemp("models") / "llama")


@pytest.fixture(scope="session")
def tiny_qwen2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from texts import tiny

    return tiny("qwen2", tmp_path_factory.mktemp("models") / "qwen2")


@pytest.fixture(scope="session")
def texts_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of train.csv and test.csv: 3 classes with 24 training and 8 test texts each."""
    from texts import write_texts

    return write_texts(tmp_path_factory.mktemp("data") / "texts")
