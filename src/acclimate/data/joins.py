"""`joined`: which of many rows are nearly the same, from bands of hashes that near ones share, without comparing every pair."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

NEIGHBOURS = 4
"""Rows of a bucket that each row is compared with; a chain of neighbours joins a larger bucket."""


def joined(bands: list[np.ndarray], near: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """int64 [n]: equal numbers for rows that are near, at first or at second hand.

    `bands`: of each band the hash of every row, [n, k] of integers; two rows may be near where all hashes of one band agree (locality
    sensitive hashing; Indyk and Motwani, 1998). `near(pairs)`: bool [m] of int64 [m, 2] rows, what is true of them. What earlier
    comparisons have joined is not compared again. Memory and, but for sorting, time grow with n.
    """
    found, n = buckets(bands), len(bands[0])
    number, links = np.arange(n), [np.zeros((0, 2), np.int64)]
    for step in range(1, NEIGHBOURS + 1):
        pairs = candidates(found, step)
        pairs = pairs[number[pairs[:, 0]] != number[pairs[:, 1]]]
        links.append(pairs[near(pairs)])
        joins = np.concatenate(links)
        graph = coo_matrix((np.ones(len(joins), np.int8), (joins[:, 0], joins[:, 1])), shape=(n, n))
        number = connected_components(graph, directed=False)[1].astype(np.int64)
    return number


def buckets(bands: list[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """(rows in order, bucket of each) of every band; within a bucket, those that the next band puts together are neighbours."""
    found = [np.unique(whole(band), return_inverse=True)[1] for band in bands]
    orders = [np.lexsort((after, bucket)) for bucket, after in zip(found, found[1:] + found[:1], strict=True)]
    return [(order, bucket[order]) for order, bucket in zip(orders, found, strict=True)]


def whole(rows: np.ndarray) -> np.ndarray:
    """Each row of a matrix as one value that can be sorted."""
    rows = np.ascontiguousarray(rows)
    return rows.view(f"V{rows.dtype.itemsize * rows.shape[1]}").ravel()


def candidates(bands: list[tuple[np.ndarray, np.ndarray]], step: int) -> np.ndarray:
    """int64 [m, 2]: pairs of rows that lie `step` places apart in one bucket of any band."""
    found = []
    for order, bucket in bands:
        same = np.flatnonzero(bucket[step:] == bucket[:-step])
        found.append(np.stack([order[same], order[same + step]], axis=1))
    pairs = np.sort(np.concatenate(found), axis=1)
    return np.stack(np.divmod(distinct(pairs[:, 0] * len(bucket) + pairs[:, 1]), len(bucket)), axis=1)


def distinct(values: np.ndarray) -> np.ndarray:
    """The different values in order; where values share their high bits, sorting is much faster than NumPy's hash table."""
    values = np.sort(values)
    return values[np.append(True, values[1:] != values[:-1])[: len(values)]]


def runs(pairs: np.ndarray, size: int, most: int) -> list[np.ndarray]:
    """The pairs in runs of about `most` values, where each holds `size`."""
    return np.array_split(pairs, -(-len(pairs) * size // most)) if len(pairs) else []
