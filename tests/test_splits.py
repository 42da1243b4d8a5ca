"""Splits: what is given stands; what is cut has its share, keeps groups whole, and depends on no order of rows."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acclimate.core.errors import UserError
from acclimate.data.splits import cut

SHARES = st.sampled_from([0.1, 0.15, 0.25, 0.5])


@st.composite
def strata_of(draw, least: int = 2) -> np.ndarray:
    """Strata of 1 to 40 samples each, shuffled; at least one of them has `least`."""
    sizes = [*draw(st.lists(st.integers(1, 40), min_size=1, max_size=6)), draw(st.integers(least, 40))]
    strata = np.repeat(np.arange(len(sizes)), sizes)
    return np.random.default_rng(draw(st.integers(0, 99))).permutation(strata)


def parts(split: pa.Array) -> np.ndarray:
    return np.array(split.to_pylist())


@given(strata_of(), SHARES, st.integers(0, 5))
def test_every_stratum_gives_its_share_and_keeps_a_sample(strata, val, seed):
    split = parts(cut(strata, val=val, seed=seed))
    assert set(split) == {"train", "val"}
    assert (split == "val").sum() <= max(1, round(val * len(strata) + 1e-9) + 1)
    for stratum in np.unique(strata):
        mine = split[strata == stratum]
        assert abs((mine == "val").sum() - val * len(mine)) <= 1
        assert (mine == "train").sum() >= 1


@given(strata_of(5))
def test_the_whole_share_is_exact_when_strata_have_room(strata):
    strata = np.concatenate([strata, strata, strata, strata])
    assert (parts(cut(strata, val=0.25)) == "val").sum() == round(0.25 * len(strata))


@given(strata_of(10), SHARES, st.integers(0, 99))
def test_the_order_of_rows_changes_nothing(strata, val, seed):
    random = np.random.default_rng(seed)
    keys = random.integers(0, 2**64, len(strata), dtype=np.uint64)
    keys[: len(keys) // 10] = keys[-1]
    group = random.choice([None, "a", "b", "c", "d"], len(strata), p=[0.8, 0.05, 0.05, 0.05, 0.05])
    order = random.permutation(len(strata))
    try:
        once = parts(cut(strata, group=pa.array(group, pa.string()), keys=keys, val=val))
    except UserError:
        return
    again = parts(cut(strata[order], group=pa.array(group[order], pa.string()), keys=keys[order], val=val))
    assert (once[order] == again).all()


@settings(max_examples=200)
@given(strata_of(10), SHARES, st.integers(2, 30), st.integers(0, 99))
def test_groups_and_duplicates_stay_whole(strata, val, groups, seed):
    random = np.random.default_rng(seed)
    group = random.integers(0, groups, len(strata)).astype(str).astype(object)
    group[random.random(len(strata)) < 0.5] = None
    duplicates = random.integers(0, len(strata), len(strata))
    try:
        split = parts(cut(strata, group=pa.array(group, pa.string()), duplicates=duplicates, val=val))
    except UserError:
        return
    for same in [duplicates == one for one in duplicates] + [group == name for name in set(group) - {None}]:
        assert len(set(split[same])) == 1
    assert set(strata[split == "train"]) == set(strata)


@given(st.lists(st.integers(1, 20), min_size=2, max_size=60), SHARES, st.integers(0, 99))
def test_groups_come_within_half_of_the_largest(sizes, val, seed):
    group = np.repeat(np.arange(len(sizes)), sizes).astype(str)
    split = parts(cut(np.zeros(len(group), np.int64), group=pa.array(group), val=val, seed=seed))
    assert abs((split == "val").sum() - val * len(group)) <= max(sizes)


@given(strata_of(10), st.integers(0, 99))
def test_what_is_given_stands(strata, seed):
    random = np.random.default_rng(seed)
    told = random.choice(["train", "val", "test", None], len(strata)).astype(object)
    split = parts(cut(strata, pa.array(told, pa.string())))
    if "val" in told:
        assert (split == np.where(told == None, "train", told)).all()  # noqa: E711
    else:
        assert ((split == "test") == (told == "test")).all()


def test_val_is_cut_from_train_where_only_test_is_given():
    told = ["train"] * 100 + ["test"] * 50
    split = parts(cut(np.arange(150) % 5, pa.array(told), val=0.2))
    assert {name: (split == name).sum() for name in ("train", "val", "test")} == {"train": 80, "val": 20, "test": 50}
    assert (split[100:] == "test").all()


def test_test_is_cut_only_when_asked_for_and_does_not_shrink_val():
    split = parts(cut(np.arange(200) % 4, val=0.1, test=0.25))
    assert {name: (split == name).sum() for name in ("train", "val", "test")} == {"train": 130, "val": 20, "test": 50}


def test_rows_of_a_group_follow_what_is_given_for_it():
    told = pa.array(["test", None, None, "val", None, "train", "test", "train"])
    group = pa.array(["a", "a", "b", "b", "c", "d", "d", "e"])
    assert cut(np.zeros(8, np.int64), told, group).to_pylist() == [
        *("test", "test", "val", "val", "train", "train", "test", "train")
    ]


@pytest.mark.parametrize("seed", range(10))
def test_a_group_that_is_given_to_test_in_part_gives_nothing_to_val(seed):
    told = pa.array((["test"] + ["train"] * 2) * 10 + ["train"] * 10)
    group = pa.array([str(i // 3) for i in range(40)])
    split = parts(cut(np.zeros(40, np.int64), told, group, val=0.2, seed=seed))
    assert (split[:30] == np.array(["test", "train", "train"] * 10)).all() and (split[30:] == "val").any()


def test_seeds_cut_differently_and_equal_seeds_alike():
    strata = np.arange(300) % 3
    assert cut(strata, seed=1) == cut(strata, seed=1)
    assert cut(strata, seed=1) != cut(strata, seed=2)


def test_groups_are_drawn_as_often_as_single_samples():
    strata = np.zeros(2000, np.int64)
    group = pa.array([str(i // 2) if i < 400 else None for i in range(2000)])
    split = parts(cut(strata, group=group, val=0.2))
    assert 0.1 < (split[:400] == "val").mean() < 0.3
    assert (split == "val").sum() == 400


def test_two_large_groups_are_cut_in_two():
    split = parts(cut(np.arange(10) % 2, group=pa.array(["a"] * 5 + ["b"] * 5)))
    assert {tuple(split[:5]), tuple(split[5:])} == {("train",) * 5, ("val",) * 5}


def test_only_test_data_are_left_alone():
    assert cut(np.arange(3), pa.array(["test"] * 3)).to_pylist() == ["test"] * 3


@pytest.mark.parametrize(
    ("strata", "options", "message"),
    [
        ([0, 1, 2], {}, "15% for val: cannot be cut: every sample is the last of its class"),
        ([0, 0, 1, 1], {"group": pa.array(["a", "a", "b", "b"])}, "or its group holds a class whole"),
        ([0, 0], {"val": 1.5}, "--val 1.5: is out of range"),
        ([0, 0], {"val": -0.1, "test": 2}, "--test 2: is out of range"),
        ([0, 0], {"val": 0.5, "test": 0.5}, "leaves nothing for training"),
        ([0, 0], {"test": 0.5, "split": pa.array(["test", "train"])}, "has no effect: the data have a test split"),
    ],
)
def test_what_cannot_be_cut(strata, options, message):
    with pytest.raises(UserError) as caught:
        cut(np.array(strata), **options)
    assert message in str(caught.value)
