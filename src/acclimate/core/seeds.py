"""Randomness as a pure function of its key: (seed, epoch, sample) gives the same numbers in any order, process or batch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def key(*parts: int | str) -> int:
    """A 63-bit integer that depends on every part and on their order."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(*parts: int | str) -> np.random.Generator:
    """A NumPy generator for the key; two calls with the same parts draw the same numbers."""
    import numpy as np

    return np.random.Generator(np.random.Philox(key(*parts)))


@contextmanager
def torch_seeded(*parts: int | str) -> Iterator[None]:
    """Inside, torch's CPU generator is seeded by the key; outside, it is as it was. Not for threads that share the generator."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key(*parts))
        yield
