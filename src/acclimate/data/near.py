"""`alike`: which texts are the same or nearly the same, without comparing every pair.

Texts are the same where they are equal after Unicode normalisation, in any case, with punctuation and spaces collapsed.
Longer ones are nearly the same where their sets of short character sequences (shingles) have a Jaccard similarity of
`LEAST`: candidates are found by MinHash and banding (Broder, 1997; Indyk and Motwani, 1998), and every one is verified.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from acclimate.data.readers.texts import halves
from acclimate.data.splits import mixed

LEAST = 0.9
"""Jaccard similarity from which two texts count as nearly the same."""
SHINGLE = 4
"""Characters of a shingle."""
PAD = "\n" * (SHINGLE - 1)
SHORTEST = 20
"""Characters; of shorter texts a difference of one character is a difference."""
BANDS, ROWS = 8, 8
"""Two texts are compared where all hashes of one band agree: at 0.9 in 99 of 100 cases, at 0.5 in 3."""
NEIGHBOURS = 4
"""Texts of a bucket that each text is compared with; a chain of neighbours joins a larger bucket."""
AT_ONCE = 1 << 18
"""Characters that are hashed at a time: small enough for a processor's cache."""


def alike(texts: pa.ChunkedArray) -> np.ndarray:
    """int64 [n]: equal numbers for texts (string, or list<string>: pairs of them) that are the same or nearly the same.

    Pairs are alike where their first texts are and their second ones too. Null is like nothing else. Time and memory grow
    with the length of all texts.
    """
    first, *second = map(numbered, halves(texts))
    for other in second:
        first = np.unique(first * (other.max(initial=0) + 1) + other, return_inverse=True)[1]
    return first


def numbered(texts: pa.ChunkedArray) -> np.ndarray:
    coded = pc.dictionary_encode(normalised(texts).combine_chunks())
    coded = coded.combine_chunks() if isinstance(coded, pa.ChunkedArray) else coded
    numbers = group(coded.dictionary)
    code = coded.indices.fill_null(-1).to_numpy().astype(np.int64)
    alone = len(numbers) + np.arange(len(code))
    return np.where(code < 0, alone, np.append(numbers, -1)[code])


def normalised(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Compatible forms composed (NFKC), lower case, punctuation and spaces as one blank; what is nothing else stays as it is."""
    folded = pc.utf8_lower(pc.utf8_normalize(texts.cast(pa.large_string()), "NFKC"))
    bare = pc.utf8_trim(pc.replace_substring_regex(folded, r"[\pP\pZ\pC\s]+", " "), " ")
    return pc.if_else(pc.equal(bare, ""), texts.cast(pa.large_string()), bare)


def group(texts: pa.Array) -> np.ndarray:
    """int64 [n]: the number of the set of near texts of each of these different texts."""
    number = np.arange(len(texts))
    long = np.flatnonzero(pc.utf8_length(texts).to_numpy(zero_copy_only=False) >= SHORTEST)
    if len(long):
        number[long] = long[group_long(texts.take(pa.array(long)))]
    return number


def group_long(texts: pa.Array) -> np.ndarray:
    """int64 [n]: as `group`. What earlier comparisons have joined is not compared again."""
    signs = np.concatenate([signatures(part) for part in parts(texts)])
    bands = buckets(signs)
    number, links = np.arange(len(texts)), [np.zeros((0, 2), np.int64)]
    for step in range(1, NEIGHBOURS + 1):
        pairs = candidates(bands, step)
        pairs = pairs[number[pairs[:, 0]] != number[pairs[:, 1]]]
        pairs = np.concatenate([pairs[:0], *(some[agree(signs, some)] for some in runs(pairs, signs.shape[1]))])
        near = [some[jaccard(texts, some) >= LEAST] for some in by_length(texts, pairs)]
        links.extend(near)
        joins = np.concatenate(links)
        graph = coo_matrix((np.ones(len(joins), np.int8), (joins[:, 0], joins[:, 1])), shape=(len(texts),) * 2)
        number = connected_components(graph, directed=False)[1].astype(np.int64)
    return number


def runs(pairs: np.ndarray, size: int) -> list[np.ndarray]:
    return np.array_split(pairs, -(-len(pairs) * size // AT_ONCE)) if len(pairs) else []


def by_length(texts: pa.Array, pairs: np.ndarray) -> list[np.ndarray]:
    """The pairs in runs of texts of about `AT_ONCE` characters."""
    length = pc.utf8_length(texts).to_numpy(zero_copy_only=False)
    ends = np.cumsum(length[pairs].sum(axis=1)) // AT_ONCE
    return np.split(pairs, np.flatnonzero(np.diff(ends)) + 1) if len(pairs) else []


def agree(signs: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """bool [m]: whether signatures leave it possible, within three standard errors, that two texts are nearly the same."""
    error = (LEAST * (1 - LEAST) / signs.shape[1]) ** 0.5
    return (signs[pairs[:, 0]] == signs[pairs[:, 1]]).mean(axis=1) >= LEAST - 3 * error


def parts(texts: pa.Array) -> Iterator[pa.Array]:
    """The texts in runs of about `AT_ONCE` characters."""
    ends = np.cumsum(pc.utf8_length(texts).to_numpy(zero_copy_only=False)) // AT_ONCE
    cuts = [0, *(np.flatnonzero(np.diff(ends)) + 1).tolist(), len(texts)]
    for start, end in itertools.pairwise(cuts):
        yield texts.slice(start, end - start)


def shingles(texts: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """(uint64 [m]: a hash of each shingle of each text, int64 [n]: how many each text has).

    Texts are padded, so that a character at an end is in as many shingles as any other.
    """
    parted = PAD + PAD.join(texts.to_pylist()) + PAD
    points = np.frombuffer(parted.encode("utf-32-le"), np.uint32).astype(np.uint64)
    counts = pc.utf8_length(texts).to_numpy(zero_copy_only=False).astype(np.int64) + len(PAD)
    hashed = points[: -len(PAD)]
    for step in range(1, SHINGLE):
        hashed = hashed * np.uint64(0x9E3779B97F4A7C15) + points[step : step + len(hashed)]
    return mixed(hashed, 0), counts


def signatures(texts: pa.Array) -> np.ndarray:
    """uint32 [n, BANDS * ROWS]: the smallest value of each of many hash functions over the shingles of a text."""
    hashed, counts = shingles(texts)
    low = hashed.astype(np.uint32)
    starts = np.cumsum(counts) - counts
    random = np.random.default_rng(0).integers(0, 1 << 32, (BANDS * ROWS, 2), dtype=np.uint32)
    signs = np.empty((len(texts), BANDS * ROWS), np.uint32)
    for column, (factor, term) in enumerate(random):
        other = low * (factor | np.uint32(1)) + term
        signs[:, column] = np.minimum.reduceat(other ^ (other >> np.uint32(15)), starts)
    return signs


def buckets(signs: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """(rows in order, bucket of each) of every band; within a bucket, those that the next band puts together are neighbours."""
    found = []
    for band in range(BANDS):
        values = np.ascontiguousarray(signs[:, band * ROWS : (band + 1) * ROWS]).view(f"V{4 * ROWS}").ravel()
        found.append(np.unique(values, return_inverse=True)[1])
    orders = [np.lexsort((after, bucket)) for bucket, after in zip(found, found[1:] + found[:1], strict=True)]
    return [(order, bucket[order]) for order, bucket in zip(orders, found, strict=True)]


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


def jaccard(texts: pa.Array, pairs: np.ndarray) -> np.ndarray:
    """float64 [m]: shared shingles of each pair, as a share of all shingles of both."""
    hashed, counts = shingles(texts.take(pa.array(pairs.ravel())))
    side = np.repeat(np.arange(len(counts), dtype=np.uint64), counts)
    own = distinct((side << np.uint64(40)) | (hashed >> np.uint64(24)))
    side = own >> np.uint64(40)
    size = np.bincount(side.astype(np.int64), minlength=len(counts)).reshape(-1, 2).sum(axis=1)
    both = np.sort(((side >> np.uint64(1)) << np.uint64(40)) | (own & np.uint64((1 << 40) - 1)))
    twice = both[1:][both[1:] == both[:-1]] >> np.uint64(40)
    shared = np.bincount(twice.astype(np.int64), minlength=len(pairs))
    return shared / np.maximum(size - shared, 1)
