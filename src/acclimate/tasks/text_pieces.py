"""Pieces of a text with a weight each: tokens put together to words, and the stretch of a long text that is worth showing."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence

import numpy as np

from acclimate.tasks.exhibit import Piece

Spans = np.ndarray
"""int64 [T, 3] of tokens: the text, and its characters from and to; text -1 where a token stands for none."""
MORE = "…"


def pieces(texts: Sequence[str], spans: Spans, weights: np.ndarray | None) -> list[tuple[Piece, ...]]:
    """Each text in pieces that joined give it back: words with the sum of their tokens' weights, the largest of all texts being 1 or -1,
    and white space between them with 0. None is the weight of what no token stands for: it was not read; and of all where `weights`
    (float [T]) is None."""
    words = [list(_words(text, spans[spans[:, 0] == number, 1:])) for number, text in enumerate(texts)]
    sums = [_sums(each, spans, number, weights) for number, each in enumerate(words)]
    most = max((float(np.abs(each).max(initial=0)) for each in sums), default=0.0) or 1.0
    return [
        tuple(_filled(text, each, None if weights is None else total / most))
        for text, each, total in zip(texts, words, sums, strict=True)
    ]


def _words(text: str, spans: np.ndarray) -> Iterator[tuple[int, int]]:
    """Characters from and to of each word: stretches of tokens that overlap, or touch between two letters of one word."""
    begin = end = -1
    for left, right in sorted({_trimmed(text, *span) for span in spans.tolist()}):
        if left >= right:
            continue
        if begin >= 0 and (left < end or (left == end and _one_word(text[left - 1], text[left]))):
            end = max(end, right)
            continue
        if begin >= 0:
            yield begin, end
        begin, end = left, right
    if begin >= 0:
        yield begin, end


def _trimmed(text: str, begin: int, end: int) -> tuple[int, int]:
    """Without white space at both ends, which some tokens hold."""
    end = min(end, len(text))
    while begin < end and text[begin].isspace():
        begin += 1
    while begin < end and text[end - 1].isspace():
        end -= 1
    return begin, end


def _one_word(before: str, after: str) -> bool:
    """Whether two letters that touch belong to one word: not in scripts that put no spaces between words."""
    return all(
        (one.isalnum() or unicodedata.combining(one)) and unicodedata.east_asian_width(one) not in "WF"
        for one in (before, after)
    )


def _sums(words: list[tuple[int, int]], spans: Spans, text: int, weights: np.ndarray | None) -> np.ndarray:
    """float64 [words]: of the weights of the tokens that end in each word."""
    sums = np.zeros(len(words))
    if weights is None or not words:
        return sums
    own = (spans[:, 0] == text) & (spans[:, 2] > spans[:, 1])
    place = np.searchsorted([begin for begin, _ in words], spans[own, 2] - 1, side="right") - 1
    np.add.at(sums, place.clip(0), weights[own])
    return sums


def _filled(text: str, words: list[tuple[int, int]], weights: np.ndarray | None) -> Iterator[Piece]:
    """The words, and what lies between them."""
    end = 0
    for number, (begin, after) in enumerate([*words, (len(text), len(text))]):
        if between := text[end:begin]:
            yield between, 0.0 if weights is not None and between.isspace() else None
        if begin < after:
            yield text[begin:after], None if weights is None else float(weights[number])
        end = after


def shortened(text: tuple[Piece, ...], most: int) -> tuple[Piece, ...]:
    """The stretch of at most `most` characters (one piece at least) that the largest weights lie in, with "…" where something is cut off;
    the beginning where there are no weights."""
    lengths = np.array([len(piece) for piece, _ in text], dtype=np.int64)
    if lengths.sum() <= most:
        return text
    size, heavy = (
        np.concatenate([[0], np.cumsum(each)]) for each in (lengths, [abs(weight or 0) for _, weight in text])
    )
    ends = np.maximum(np.searchsorted(size, size[:-1] + most, side="right") - 1, np.arange(len(text)) + 1)
    first = int((heavy[ends] - heavy[:-1]).argmax())
    last = int(ends[first])
    cut = text[first:last]
    before: tuple[Piece, ...] = ((MORE, None),) if first else ()
    return (*before, *cut, *(((MORE, None),) if last < len(text) else ()))
