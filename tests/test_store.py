"""The cache: what is put comes out, what is damaged is not believed, what is old goes first, and a full disk loses nothing."""

from __future__ import annotations

import errno
import itertools
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY
from hypothesis import given
from hypothesis import strategies as st

from acclimate.core.recipe import Options
from acclimate.core.tree import leaves
from acclimate.engine.activations import PLAIN, Pass
from acclimate.engine.dataset import CHUNK, COSTLY, parts
from acclimate.engine.precision import Precision
from acclimate.engine.store import Store, content_key
from acclimate.engine.watcher import Watcher
from acclimate.verbs.job import Job, prepare

TREE = {
    "map": torch.arange(24).reshape(4, 6).bfloat16(),
    "pair": (torch.ones(4), [torch.zeros(4, 2, dtype=torch.int32)]),
}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def equal(one: Any, two: Any) -> bool:
    return all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(leaves(one), leaves(two), strict=True))


def test_a_tree_comes_out_as_it_went_in(store: Store) -> None:
    store.put("ab12", TREE, note="kept")
    chunk = store.get("ab12")
    assert chunk is not None
    assert equal(chunk.tree, TREE)
    assert isinstance(chunk.tree["pair"], tuple)
    assert isinstance(chunk.tree["pair"][1], list)
    assert chunk.notes == {"note": "kept"}


def test_what_is_not_there_is_none(store: Store) -> None:
    assert store.get("ab12") is None


@pytest.mark.parametrize("place", [0, 20, -1, "half", "empty"])
def test_a_damaged_chunk_is_not_believed_and_goes(store: Store, place: int | str) -> None:
    store.put("ab12", TREE)
    path = store.path("ab12")
    content = bytearray(path.read_bytes())
    if isinstance(place, int):
        content[place] ^= 0xFF
    path.write_bytes(content[: {"half": len(content) // 2, "empty": 0}.get(str(place), len(content))])
    assert store.get("ab12") is None
    assert not path.exists()


def test_the_least_recently_used_goes_first(store: Store) -> None:
    for number, name in enumerate(("aa", "bb", "cc")):
        store.put(name, TREE)
        os.utime(store.path(name), (number, number))
    store.get("aa")  # used now
    one = store.path("aa").stat().st_size
    removed = store.trim(2 * one)
    assert removed == one
    assert [store.get(name) is None for name in ("aa", "bb", "cc")] == [False, True, False]
    store.trim(0)
    assert store.size() == 0


def test_a_full_disk_keeps_the_chunk_in_memory(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    chunk = store.put("ab12", TREE)
    assert equal(chunk.tree, TREE)
    assert store.spilled > 0
    assert list(store.folder.rglob("*.tmp")) == []


def test_keys_depend_on_every_part_and_their_order() -> None:
    keys = {content_key(*parts) for parts in [("a", "b"), ("b", "a"), ("ab",), ("a", "b", ""), ("a", 1), ("a", "1", 1)]}
    assert len(keys) == 6


@pytest.fixture(scope="module")
def job(digits: Path) -> Job:
    return prepare(digits, Options.check({"model": TINY, "size": 32, "strategy": "probe"}), Watcher())


@pytest.mark.parametrize("kind", ["fp32", "bf16"])
@pytest.mark.parametrize("channels_last", [False, True])
def test_an_activation_has_the_same_bits_whichever_boundary_it_came_from(
    job: Job, tmp_path: Path, kind: str, channels_last: bool
) -> None:
    precision = Precision("cpu", kind, kind, channels_last)
    rows, last = job.rows("train"), len(job.stages)
    direct = Pass(job.net.backbone, job.dataset, Store(tmp_path / "a"), precision, job.device).bring(rows, last)
    steps = Pass(job.net.backbone, job.dataset, Store(tmp_path / "b"), precision, job.device)
    for boundary in range(1, last):
        steps.bring(rows, boundary)
    assert equal(direct.rows(rows), steps.bring(rows, last).rows(rows))


def test_cached_activations_are_those_of_the_network(job: Job, tmp_path: Path) -> None:
    rows, middle = job.rows("train")[:7], len(job.stages) // 2
    cached = Pass(job.net.backbone, job.dataset, Store(tmp_path), Precision(), job.device).bring(
        rows, middle, view=(2, "light")
    )
    with torch.no_grad():
        live = job.net.backbone.run(job.dataset.batch(rows, 2), 0, middle)
    torch.testing.assert_close(cached.rows(rows).float(), live, rtol=0.05, atol=0.05)


def test_what_changes_the_result_changes_the_key(job: Job, tmp_path: Path) -> None:
    rows = job.rows("train")[:8]
    one = Pass(job.net.backbone, job.dataset, Store(tmp_path), Precision(), job.device)
    keys = {
        one.key(rows, 1, PLAIN),
        one.key(rows, 1, (1, "light")),
        one.key(rows, 2, PLAIN),
        one.key(rows[::-1], 1, PLAIN),
    }
    keys.add(
        Pass(job.net.backbone, job.dataset, Store(tmp_path), Precision("cpu", "bf16"), job.device).key(rows, 1, PLAIN)
    )
    parameter = next(job.net.backbone.parameters())
    with torch.no_grad():
        parameter += 1
    keys.add(Pass(job.net.backbone, job.dataset, Store(tmp_path), Precision(), job.device).key(rows, 1, PLAIN))
    with torch.no_grad():
        parameter -= 1
    assert len(keys) == 6


def test_the_second_pass_computes_nothing(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = job.rows("train")
    first = Pass(job.net.backbone, job.dataset, Store(tmp_path), Precision(), job.device).bring(rows, 2)
    monkeypatch.setattr(Pass, "_run", None)
    second = Pass(job.net.backbone, job.dataset, Store(tmp_path), Precision(), job.device).bring(rows, 2)
    assert equal(first.rows(rows), second.rows(rows))


def test_a_damaged_chunk_is_computed_again_beside_one_that_is_missing(job: Job, tmp_path: Path) -> None:
    rows, store = job.rows("train"), Store(tmp_path)
    one = Pass(job.net.backbone, job.dataset, store, Precision(), job.device)
    before = one.bring(rows, 3).rows(rows)
    for part in job.dataset.chunks(rows):
        path = store.path(one.key(rows[part], 3, PLAIN))
        path.write_bytes(path.read_bytes()[:-8] + b"damaged!")
    assert equal(before, one.bring(rows, 3, by=[2]).rows(rows))


def test_views_differ_and_the_plain_one_is_the_sample(job: Job) -> None:
    rows = np.array([0, 1])
    batches = [job.dataset.batch(rows, view) for view in range(4)]
    assert torch.equal(batches[0], job.dataset.inputs.collate([job.dataset.sample(0), job.dataset.sample(1)]))
    assert all(not torch.equal(batches[0], batch) for batch in batches[1:])
    assert torch.equal(batches[2], job.dataset.batch(rows, 2))


@given(st.lists(st.integers(1, 3 * COSTLY), max_size=300).map(sorted))
def test_chunks_hold_every_sample_once_and_cost_little(costs: list[int]) -> None:
    found = [costs[part] for part in parts(np.array(costs, dtype=np.int64))]
    assert list(itertools.chain(*found)) == costs
    assert all(len(one) == 1 or (len(one) <= CHUNK and len(one) * one[-1] <= COSTLY) for one in found)
    assert all(len(one) == CHUNK or (len(one) + 1) * after[0] > COSTLY for one, after in itertools.pairwise(found))
