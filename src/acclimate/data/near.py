"""`alike`: which texts are the same or nearly the same, without comparing every pair.

Texts are the same where they are equal after Unicode normalisation, in any case, with punctuation and spaces collapsed.
Longer ones are nearly the same where their sets of short character sequences (shingles) have a Jaccard similarity of
`LEAST`: candidates are found by MinHash and banding (Broder, 1997; Indyk and Motwani, 1998), and every one is verified. Where the
texts are no longer at hand, `alike_by` goes by marks of them, which tell the similarity to within some hundredths.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from acclimate.data.joins import distinct, joined, runs, whole
from acclimate.data.readers.texts import halves
from acclimate.data.splits import mixed

NAME = "text 1"
"""Names what a mark is; to be raised where the same text becomes other bytes."""
LEAST = 0.9
"""Jaccard similarity from which two texts count as nearly the same."""
SHINGLE = 4
"""Characters of a shingle."""
PAD = "\n" * (SHINGLE - 1)
SHORTEST = 20
"""Characters; of shorter texts a difference of one character is a difference."""
BANDS, ROWS = 8, 8
"""Two texts are compared where all hashes of one band agree: at 0.9 in 99 of 100 cases, at 0.5 in 3."""
DIGEST = 16
"""Bytes of a mark that say what a text is; `BANDS * ROWS` others, what it is nearly."""
AT_ONCE = 1 << 18
"""Characters that are hashed at a time: small enough for a processor's cache."""


def alike(texts: pa.ChunkedArray) -> np.ndarray:
    """int64 [n]: equal numbers for texts (string, or list<string>: pairs of them) that are the same or nearly the same.

    Pairs are alike where their first texts are and their second ones too. Null is like nothing else. Time and memory grow
    with the length of all texts.
    """
    return both(map(numbered, halves(texts)))


def both(parts: Iterable[np.ndarray]) -> np.ndarray:
    """int64 [n]: equal numbers where all the numbers are equal."""
    first, *others = parts
    for other in others:
        first = np.unique(first * (other.max(initial=0) + 1) + other, return_inverse=True)[1]
    return first


def marks(texts: pa.ChunkedArray) -> np.ndarray:
    """uint8 [n, 80], of pairs [n, 160]: of each text a digest after normalisation and, of a longer one, a byte of each of the hashes of
    its signature. Zeros for null."""
    return np.concatenate([_marks(normalised(half).combine_chunks()) for half in halves(texts)], axis=1)


def _marks(texts: pa.Array) -> np.ndarray:
    found = np.zeros((len(texts), DIGEST + BANDS * ROWS), np.uint8)
    for row, text in enumerate(texts.to_pylist()):
        if text is not None:
            found[row, :DIGEST] = np.frombuffer(hashlib.blake2b(text.encode(), digest_size=DIGEST).digest(), np.uint8)
    rows = long(texts)
    if len(rows):
        signs = [signatures(part) for part in parts(texts.take(pa.array(rows)))]
        found[rows, DIGEST:] = np.concatenate(signs).astype(np.uint8)
    return found


def alike_by(marks: np.ndarray) -> np.ndarray:
    """int64 [n]: as `alike`, by the marks of the texts."""
    halves = np.split(marks, marks.shape[1] // (DIGEST + BANDS * ROWS), axis=1)
    return both(map(_numbered_by, halves))


def _numbered_by(marks: np.ndarray) -> np.ndarray:
    _, rows, number = np.unique(whole(marks[:, :DIGEST]), return_index=True, return_inverse=True)
    signs = marks[rows, DIGEST:]
    rows, found = np.flatnonzero(signs.any(axis=1)), np.arange(len(signs))
    if len(rows):
        signs = signs[rows]
        found[rows] = rows[joined(bands(signs), lambda pairs: agreeing(signs, pairs) >= LEAST)]
    return found[number]


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
    number, rows = np.arange(len(texts)), long(texts)
    if len(rows):
        number[rows] = rows[group_long(texts.take(pa.array(rows)))]
    return number


def long(texts: pa.Array) -> np.ndarray:
    """int64 [m]: the rows of texts that may be nearly the same as others."""
    return np.flatnonzero(pc.utf8_length(texts).fill_null(0).to_numpy(zero_copy_only=False) >= SHORTEST)


def group_long(texts: pa.Array) -> np.ndarray:
    """int64 [n]: as `group`."""
    signs = np.concatenate([signatures(part) for part in parts(texts)])
    # Within three standard errors, signatures must leave it possible.
    least = LEAST - 3 * (LEAST * (1 - LEAST) / signs.shape[1]) ** 0.5

    def near(pairs: np.ndarray) -> np.ndarray:
        found = agreeing(signs, pairs) >= least
        some = pairs[found]
        found[found] = (
            np.concatenate([np.zeros(0), *(jaccard(texts, each) for each in by_length(texts, some))]) >= LEAST
        )
        return found

    return joined(bands(signs), near)


def bands(signs: np.ndarray) -> list[np.ndarray]:
    return np.split(signs, BANDS, axis=1)


def by_length(texts: pa.Array, pairs: np.ndarray) -> list[np.ndarray]:
    """The pairs in runs of texts of about `AT_ONCE` characters."""
    length = pc.utf8_length(texts).to_numpy(zero_copy_only=False)
    ends = np.cumsum(length[pairs].sum(axis=1)) // AT_ONCE
    return np.split(pairs, np.flatnonzero(np.diff(ends)) + 1) if len(pairs) else []


def agreeing(signs: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """float64 [m]: the share of their signatures in which the texts of each pair agree, an estimate of their similarity."""
    some = runs(pairs, signs.shape[1], AT_ONCE)
    return np.concatenate([np.zeros(0), *((signs[one[:, 0]] == signs[one[:, 1]]).mean(axis=1) for one in some)])


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
