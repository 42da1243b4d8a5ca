"""Filters of texts: the same text with less of what only one side has, so that texts from two places look more alike."""

from __future__ import annotations

import html
import re
import unicodedata

from acclimate.tasks.filters import Filter

TAG = re.compile(r"</?[a-zA-Z][^<>]{0,200}>")
LINK = re.compile(r"https?://\S+")
MARKS = re.compile(r"(?<!\w)[*_`~#|>]+|[*_`~|]+(?!\w)")
"""Marks of Markdown and the like at an end of a word, or alone."""
PLAIN = str.maketrans({"“": '"', "”": '"', "„": '"', "‘": "'", "’": "'", "–": "-", "—": "-", "…": "..."})
WORDS = 32
"""What "short" leaves of a text."""


def stripped(text: str) -> str:
    """Without tags, links and marks, entities resolved, white space as single spaces."""
    text = LINK.sub(" ", html.unescape(TAG.sub(" ", text)))
    return " ".join(MARKS.sub(" ", text).split())


def normal(text: str) -> str:
    """In Unicode's compatibility form, with plain quotation marks and dashes."""
    return unicodedata.normalize("NFKC", text).translate(PLAIN)


def begun(text: str) -> str:
    return " ".join(text.split()[:WORDS])


FILTERS: dict[str, Filter[str]] = {
    "plain": Filter(stripped, "without markup and links", both=True),
    "normal": Filter(normal, "in one form of letters, quotation marks and dashes", both=True),
    "lower": Filter(str.lower, "without capital letters", both=True),
    "short": Filter(begun, f"as their first {WORDS} words"),
}
"""Of one text; each of a pair goes through it."""
