"""Splits: what the user gave stands, what is missing is cut; a pure function of the samples, not of their order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from acclimate.core.errors import Problems, fail
from acclimate.core.seeds import key
from acclimate.data.table import SPLITS

TRAIN, VAL, TEST = range(3)
MISSING = -1


def cut(
    strata: np.ndarray,
    split: pa.Array | pa.ChunkedArray | None = None,
    group: pa.Array | pa.ChunkedArray | None = None,
    *,
    val: float = 0.15,
    test: float = 0.0,
    seed: int = 0,
    duplicates: np.ndarray | None = None,
    keys: np.ndarray | None = None,
) -> pa.Array:
    """The split of each sample: string [n], train, val or test.

    `strata`: int64 [n], samples that count as alike. `split` (train, val, test or null) stands, but where no sample is
    given as val, the share `val` of the training samples and of those not said is cut for it; with `test` > 0 the
    same is done first for test, else no test is cut. What is not said and not cut is train, or follows the rest of
    its group. `duplicates` (int64 [n]; by default equal `keys`) and `group` (null = a group of its own) name samples
    that stay together. `keys`: uint64 [n], names samples by content, so that the order of the rows does not change
    the split.

    Each stratum gives its share to within one sample, or as near as whole groups come; each keeps a sample in train.

    Raises `UserError` for shares out of range, a share of test where test is given, and where nothing can be cut.
    """
    given = codes(split, len(strata))
    check_shares(val, test, bool((given == TEST).any()))
    strata = np.unique(strata, return_inverse=True)[1]
    keys = np.arange(len(strata), dtype=np.uint64) if keys is None else keys
    duplicates = np.unique(keys, return_inverse=True)[1] if duplicates is None else duplicates
    unit = units(group, duplicates)
    given = follow(given, unit)
    stays = np.isin(unit, unit[given > TRAIN])
    base = np.bincount(strata[given < VAL], minlength=strata.max(initial=0) + 1)
    for part, share in ((TEST, test), (VAL, val)):
        if share == 0 or (given == part).any() or not base.any():
            continue
        pool = np.flatnonzero(~stays & (given < VAL))
        left = np.bincount(strata[given < VAL], minlength=len(base))
        room = np.maximum(left - 1, 0)
        order = mixed(keys[pool], key(seed, SPLITS[part]))
        chosen = choose(strata[pool], unit[pool], order, share, quota(base, share, room), room)
        if not chosen.any():
            raise fail(
                f"{share:.0%} for {SPLITS[part]}",
                "cannot be cut: every sample is the last of its class, or its group holds a class whole",
                "add samples or groups, or give the splits",
            )
        given[pool[chosen]] = part
    return pa.array(SPLITS, pa.string()).take(pa.array(np.maximum(given, TRAIN)))


def check_shares(val: float, test: float, test_given: bool) -> None:
    problems = Problems()
    for name, share in (("val", val), ("test", test)):
        if not 0 <= share < 1:
            problems.add(f"--{name} {share}", "is out of range", "give a share from 0 to less than 1")
    if val + test >= 1:
        problems.add(f"--val {val} --test {test}", "leaves nothing for training", "give shares that sum to less than 1")
    if test and test_given:
        problems.add(f"--test {test}", "has no effect: the data have a test split", "leave it out")
    problems.stop()


def codes(split: pa.Array | pa.ChunkedArray | None, n: int) -> np.ndarray:
    """int64 [n]: 0 train, 1 val, 2 test, -1 not said."""
    if split is None:
        return np.full(n, MISSING)
    column = split.to_numpy(zero_copy_only=False)
    return np.select([column == name for name in SPLITS], range(len(SPLITS)), MISSING)


def units(group: pa.Array | pa.ChunkedArray | None, duplicates: np.ndarray) -> np.ndarray:
    """int64 [n]: samples of one number stay together: they share a group or a duplicate, at first or at second hand."""
    if group is None:
        return duplicates
    names = pa.chunked_array([group]) if isinstance(group, pa.Array) else group
    groups = names.combine_chunks().dictionary_encode()
    groups = pa.concat_arrays(groups.chunks) if isinstance(groups, pa.ChunkedArray) else groups
    code = groups.indices.fill_null(-1).to_numpy().astype(np.int64)
    own, n = np.flatnonzero(code >= 0), len(code)
    duplicates = np.unique(duplicates, return_inverse=True)[1]
    size = n + len(groups.dictionary)
    links = coo_matrix((np.ones(len(own), np.int8), (duplicates[own], n + code[own])), shape=(size, size))
    return connected_components(links, directed=False)[1][duplicates].astype(np.int64)


def follow(given: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """Samples of which nothing is said take the split of the rest of their unit, where that is one of val and test."""
    given = given.copy()
    silent = given == MISSING
    for part in (VAL, TEST):
        alone = np.setdiff1d(unit[given == part], unit[~silent & (given != part)])
        given[silent & np.isin(unit, alone)] = part
    return given


def mixed(keys: np.ndarray, seed: int) -> np.ndarray:
    """uint64 [n]: keys in an order that the seed decides (the finaliser of SplitMix64; Steele, Lea and Flood, 2014)."""
    with np.errstate(over="ignore"):
        z = keys.astype(np.uint64) ^ np.uint64(seed)
        z = z + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def quota(counts: np.ndarray, share: float, room: np.ndarray) -> np.ndarray:
    """int64 [strata]: the share of each stratum by largest remainders, at least one sample in all, at most its room."""
    exact = share * counts
    whole = np.minimum(np.floor(exact).astype(np.int64), room)
    more = max(1, int(share * counts.sum() + 0.5)) - int(whole.sum())
    by_remainder = np.argsort(np.floor(exact) - exact, kind="stable")
    whole[by_remainder[(whole < room)[by_remainder]][: max(more, 0)]] += 1
    return whole


def choose(
    strata: np.ndarray, unit: np.ndarray, order: np.ndarray, share: float, wanted: np.ndarray, room: np.ndarray
) -> np.ndarray:
    """bool [n]: whole units, in the order of their keys, that bring each stratum near what is wanted, within its room.

    Units of several samples come in with the chance of a single one; those left over are tried last.
    """
    chosen = np.zeros(len(strata), dtype=bool)
    taken = np.zeros_like(wanted)
    together = several(strata, unit, order)
    early = [one for one in together if one.place < share]
    for one in early:
        one.join(chosen, taken, wanted, room)
    alone = first(strata, unit, order, np.minimum(wanted, room) - taken)
    chosen[alone] = True
    taken += np.bincount(strata[alone], minlength=len(wanted))
    for one in together[len(early) :]:
        one.join(chosen, taken, wanted, room)
    if not chosen.any():
        fits = [one for one in together if (one.counts <= room[one.strata]).all()]
        if fits:
            chosen[min(fits, key=lambda one: (one.gain(taken, wanted), one.place)).rows] = True
    return chosen


@dataclass(frozen=True)
class Unit:
    """Several samples that stay together: their rows, how many there are of each stratum, and a place from 0 to 1."""

    place: float
    rows: np.ndarray
    strata: np.ndarray
    counts: np.ndarray

    def gain(self, taken: np.ndarray, wanted: np.ndarray) -> int:
        """By how much the distance from what is wanted grows when the unit is taken; negative is better."""
        missing = wanted[self.strata] - taken[self.strata]
        return int((abs(missing - self.counts) - abs(missing)).sum())

    def join(self, chosen: np.ndarray, taken: np.ndarray, wanted: np.ndarray, room: np.ndarray) -> None:
        """Take the unit, in place, where that is better and leaves a sample of each stratum."""
        if self.gain(taken, wanted) < 0 and (taken[self.strata] + self.counts <= room[self.strata]).all():
            chosen[self.rows] = True
            taken[self.strata] += self.counts


def several(strata: np.ndarray, unit: np.ndarray, order: np.ndarray) -> list[Unit]:
    """The units of more than one sample, by place."""
    _, number, size = np.unique(unit, return_inverse=True, return_counts=True)
    rows = np.flatnonzero(size[number] > 1)
    rows = rows[np.argsort(number[rows], kind="stable")]
    parts = np.split(rows, np.flatnonzero(np.diff(number[rows])) + 1) if len(rows) else []
    found = []
    for part in parts:
        place = float(mixed(order[part].min(keepdims=True), 1)[0]) / 2.0**64
        found.append(Unit(place, part, *np.unique(strata[part], return_counts=True)))
    return sorted(found, key=lambda one: one.place)


def first(strata: np.ndarray, unit: np.ndarray, order: np.ndarray, most: np.ndarray) -> np.ndarray:
    """int64 [m]: of the samples that are units of their own, the first of each stratum by order, `most` of each."""
    _, number, size = np.unique(unit, return_inverse=True, return_counts=True)
    rows = np.flatnonzero(size[number] == 1)
    rows = rows[np.lexsort((order[rows], strata[rows]))]
    starts = np.searchsorted(strata[rows], np.arange(len(most)))
    rank = np.arange(len(rows)) - starts[strata[rows]]
    return rows[rank < most[strata[rows]]]
