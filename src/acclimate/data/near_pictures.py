"""`mark` and `alike`: which pictures are the same or nearly the same, whatever their format, size, quality or metadata.

The mark of a picture is a tiny copy of it. Pictures are nearly the same where tiny copies, each of mean 0 and length 1, are less than
`NEAR` apart, and brightness and colours agree: the measure of a correlation, which tells more than the sign bits of a perceptual hash
(Zauner, 2010), in no more than 288 bytes. Candidates are those that agree in some coarse coefficients of its cosine transform.
"""

from __future__ import annotations

import hashlib

import numpy as np
from PIL import Image
from scipy.fft import dctn

from acclimate.data.decode import decode_sized
from acclimate.data.joins import joined, runs, whole

NAME = "picture 1"
"""Names what a mark is; to be raised where the same picture becomes other bytes."""
SIDE, HUES = 16, 4
"""Pixels of a side of the tiny copy: of its grey, and of each of its two colour channels."""
GREY = SIDE * SIDE
WIDTH = GREY + 2 * HUES * HUES
"""Bytes of a mark."""
DECODED = 128
"""Pixels that the shorter side of a JPEG is decoded at, at least: fewer make the tiny copy depend on the file's own size."""
NEAR = 0.09
"""Distance of two tiny copies, of at most 2. Re-encoded and resized photographs lie at 0.01 to 0.06 from what they are of, different
ones at 0.13 and more; of 6,000 handwritten digits of 16 x 16 pixels 6 are as near to another as this."""
LEVELS = 8
"""By how much, of 255, brightness and colours may differ: formats and sizes change them by 3."""
PALE = 3
"""Colours within so much of grey are none: a copy may have lost them."""
FLAT = 2
"""A picture whose grey deviates by less, of 255, shows too little to be told by its looks."""
BANDS, ROWS, COEFFICIENTS, STEP = 12, 14, 24, 0.12
"""Pictures are compared where `ROWS` of the `COEFFICIENTS` coarsest coefficients fall into one step each, in any of the bands."""
AT_ONCE = 1 << 22
"""Values that are compared at a time, for memory."""


def mark(raw: bytes) -> np.ndarray:
    """uint8 [WIDTH]: the tiny copy of an encoded picture, upright: GREY of luma, the rest of Cb and Cr. Where it shows too little, or
    is no picture, zeros of luma and 32 bytes of BLAKE2b of the file, which only byte-equal files share."""
    try:
        image, (wide, high) = decode_sized(raw, DECODED)
    except ValueError:
        return _by_content(raw)
    scale = max(1, round(wide / image.width))  # a JPEG decoded at a part of its size is padded to whole pixels
    box = (0, 0, min(wide / scale, image.width), min(high / scale, image.height))
    tiny = image.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box).convert("YCbCr")
    grey = np.asarray(tiny.getchannel("Y")).ravel()
    colours = [np.asarray(tiny.getchannel(name).reduce(SIDE // HUES)).ravel() for name in ("Cb", "Cr")]
    return np.concatenate([grey, *colours]) if grey.std() >= FLAT else _by_content(raw)


def _by_content(raw: bytes) -> np.ndarray:
    digest = hashlib.blake2b(raw, digest_size=WIDTH - GREY).digest()
    return np.append(np.zeros(GREY, np.uint8), np.frombuffer(digest, np.uint8))


def alike(marks: np.ndarray) -> np.ndarray:
    """int64 [n]: equal numbers for pictures that are the same or nearly the same, by their marks (uint8 [n, WIDTH]).

    Memory and, but for sorting, time grow with n. What is near at second hand counts as near.
    """
    _, rows, number = np.unique(whole(marks), return_index=True, return_inverse=True)
    marks = marks[rows]
    telling = np.flatnonzero(marks[:, :GREY].any(axis=1))
    found = np.arange(len(marks))
    if len(telling):
        shown = marks[telling]
        found[telling] = telling[joined(_bands(shown), lambda pairs: _near(shown, pairs))]
    return found[number]


def _bands(marks: np.ndarray) -> list[np.ndarray]:
    """int8 [n, ROWS] of each band."""
    part = AT_ONCE // GREY
    coarse = np.concatenate([_coarse(marks[start : start + part]) for start in range(0, len(marks), part)])
    random = np.random.default_rng(0)
    return [
        np.floor(
            coarse[:, random.permutation(COEFFICIENTS)[:ROWS]] / STEP + random.random(ROWS, dtype=np.float32)
        ).astype(np.int8)
        for _ in range(BANDS)
    ]


def _coarse(marks: np.ndarray) -> np.ndarray:
    """float32 [n, COEFFICIENTS]: those of the lowest frequencies, without the mean."""
    waves = np.add.outer(np.arange(SIDE), np.arange(SIDE)).ravel()
    places = np.argsort(waves, kind="stable")[1 : COEFFICIENTS + 1]
    shown = dctn(_shapes(marks).reshape(-1, SIDE, SIDE), axes=(1, 2), norm="ortho")
    return shown.reshape(-1, GREY)[:, places]


def _shapes(marks: np.ndarray) -> np.ndarray:
    """float32 [n, GREY]: the grey of tiny copies, of mean 0 and length 1 each."""
    grey = marks[:, :GREY].astype(np.float32)
    grey -= grey.mean(axis=1, keepdims=True)
    return grey / np.linalg.norm(grey, axis=1, keepdims=True)


def _near(marks: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """bool [m]: whether the pictures of each pair are nearly the same."""
    return np.concatenate([np.zeros(0, bool), *(_same(marks, some) for some in runs(pairs, GREY, AT_ONCE))])


def _same(marks: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    one, other = marks[pairs[:, 0]], marks[pairs[:, 1]]
    shape = np.linalg.norm(_shapes(one) - _shapes(other), axis=1) < NEAR
    light = abs(one[:, :GREY].mean(axis=1) - other[:, :GREY].mean(axis=1)) <= LEVELS
    hues = [each[:, GREY:].astype(np.float32) - 128 for each in (one, other)]
    pale = np.logical_or(*(abs(each).max(axis=1) <= PALE for each in hues))
    return shape & light & (pale | (np.sqrt(((hues[0] - hues[1]) ** 2).mean(axis=1)) <= LEVELS))
