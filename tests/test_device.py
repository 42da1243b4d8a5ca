"""The machine: threads beside the one that computes leave it the cores."""

from __future__ import annotations

import pytest
import torch

from acclimate.core.device import background, set_threads


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    set_threads(2)
    yield
    set_threads(before)


def test_background_threads_compute_alone(two_threads):
    def threads(_: int) -> int:
        torch.ones(1 << 20).exp()  # the first large operation of a thread asks torch for its number
        return torch.get_num_threads()

    with background(3) as pool:
        assert list(pool.map(threads, range(3))) == [1, 1, 1]
        assert torch.get_num_threads() == 2
