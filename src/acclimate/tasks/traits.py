"""`Trait`: a property of samples that a person can see, as numbers of two sides, so that what differs can be told in plain words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Trait:
    """`ours` float64 [n] and `theirs` float64 [m]: one number a sample."""

    name: str
    group: str
    """What kind of thing it is: "light", "size", "language"."""
    more: str
    """What theirs are where their numbers are larger: "brighter"."""
    less: str
    ours: np.ndarray
    theirs: np.ndarray
    form: str = "{:.2f}"
    """How a number is told."""
    telling: tuple[str, ...] = ()
    """What on their side bears out the difference, where that can be named: words, languages."""

    @property
    def medians(self) -> tuple[float, float]:
        return float(np.median(self.ours)), float(np.median(self.theirs))

    @property
    def middles(self) -> tuple[float, float]:
        """Medians, or means where both medians are equal."""
        ours, theirs = self.medians
        return (ours, theirs) if ours != theirs else (float(np.mean(self.ours)), float(np.mean(self.theirs)))

    @property
    def grown(self) -> bool:
        """Whether theirs are larger."""
        ours, theirs = self.middles
        return theirs > ours

    @property
    def told(self) -> str:
        """ "darker: brightness 0.61 -> 0.32"."""
        ours, theirs = self.middles
        word = self.more if self.grown else self.less
        named = f" ({', '.join(self.telling)})" if self.telling else ""
        return f"{word}: {self.name} {self.form.format(ours)} -> {self.form.format(theirs)}{named}"
