"""What a person sees of texts: length, language, words that are new, capital letters, markup, figures."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain

import numpy as np

from acclimate.core.errors import MissingExtra
from acclimate.data.table import Raw
from acclimate.tasks.traits import Trait

READ = 2000
"""Characters of a text that are looked at."""
NAMED, RARE = 5, 3
"""Words that are named, and how often one must come up to be."""
WORD = re.compile(r"[^\W\d_]+")
MARKUP = re.compile(r"</?[a-zA-Z][^<>]{0,200}>|&#?\w{1,8};|https?://\S+|[*_#`|~\[\]{}\\^]")
PERCENT = "{:.0%}"
NONE = "zxx"
"""What py3langid (and ISO 639) calls the language of a text that is in none."""


def traits(ours: Sequence[Raw], theirs: Sequence[Raw]) -> list[Trait]:
    """Of texts or pairs of them. Raises `MissingExtra` where languages cannot be told."""
    sides = [[_joined(raw) for raw in side] for side in (ours, theirs)]

    def trait(name: str, group: str, more: str, less: str, of: Callable[[str], float], form: str = PERCENT) -> Trait:
        mine, others = (np.array([of(text[:READ]) for text in side]) for side in sides)
        return Trait(name, group, more, less, mine, others, form)

    mine, others = (np.array([len(text.split()) for text in side], dtype=float) for side in sides)
    return [
        Trait("words", "length", "longer", "shorter", mine, others, "{:.0f}"),
        _language(*sides),
        *_vocabulary(*sides),
        trait("capital letters", "casing", "with more capitals", "with fewer capitals", _capitals),
        trait("markup", "markup", "with more markup", "with less markup", _markup, "{:.1%}"),
        trait("figures", "figures", "with more figures", "with fewer figures", _digits, "{:.1%}"),
    ]


def _joined(raw: Raw) -> str:
    assert isinstance(raw, str | tuple)
    return raw if isinstance(raw, str) else "\n".join(raw)


def _language(ours: list[str], theirs: list[str]) -> Trait:
    """Whether a text is in the language that most of ours are in."""
    try:
        import py3langid  # type: ignore[import-untyped]
    except ImportError:
        raise MissingExtra("telling languages", "text") from None
    mine, others = ([py3langid.classify(text[:READ])[0] for text in side] for side in (ours, theirs))
    main = Counter(mine).most_common(1)[0][0]
    common = (name for name, count in Counter(others).most_common(3) if name != main and count > RARE)
    telling = tuple("no language recognised" if name == NONE else name for name in common)
    called = "no language that is recognised" if main == NONE else repr(main)
    own, their = (np.array([float(name == main) for name in side]) for side in (mine, others))
    found = Trait(f"in {called}", "language", f"more in {called}", "of another language", own, their, PERCENT)
    return found if found.grown else replace(found, telling=telling)


def _vocabulary(ours: list[str], theirs: list[str]) -> list[Trait]:
    """Share of the words of a text that half of ours do not have, for the other half and for theirs; none of a single text."""
    known, mine, others = ([_words(text) for text in side] for side in (ours[::2], ours[1::2], theirs))
    if not mine:
        return []
    counts, there = (Counter(chain.from_iterable(map(set, side))) for side in (known + mine, others))
    reference = set(chain.from_iterable(known))

    def new(words: list[str]) -> float:
        return _share(len([word for word in words if word not in reference]), len(words))

    own, their = (np.array(list(map(new, side))) for side in (mine, others))

    def odds(word: str) -> float:
        """How much more often it comes up in theirs, with its weight."""
        a, b = (counts[word] + 0.5) / (len(ours) + 1), (there[word] + 0.5) / (len(theirs) + 1)
        return float(b * np.log(b / a))

    unknown = (word for word, count in there.items() if count > RARE and word not in reference)
    telling = tuple(word for word in sorted(unknown, key=odds, reverse=True)[:NAMED] if odds(word) > 0)
    found = Trait("new words", "vocabulary", "with more new words", "with fewer new words", own, their, PERCENT)
    return [replace(found, telling=telling) if found.grown else found]


def _words(text: str) -> list[str]:
    return [word.casefold() for word in WORD.findall(text[:READ])]


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _capitals(text: str) -> float:
    letters = [letter for letter in text if letter.isalpha()]
    return _share(sum(letter.isupper() for letter in letters), len(letters))


def _markup(text: str) -> float:
    return _share(sum(len(found) for found in MARKUP.findall(text)), len(text))


def _digits(text: str) -> float:
    return _share(sum(letter.isdigit() for letter in text), len(text))
