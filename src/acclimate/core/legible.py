"""`legible`: names and texts of the user's that can be shown anywhere: nothing in them moves a cursor or turns the text around them."""

from __future__ import annotations

import unicodedata

TURNING = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
"""What Unicode calls characters that change the direction of what follows."""


def legible(text: str, kept: str = "") -> str:
    """Control characters (but those `kept`), lone surrogates and what turns the direction of a text each become "\\ufffd"."""
    return "".join("\ufffd" if _controls(one) and one not in kept else one for one in text)


def _controls(letter: str) -> bool:
    return unicodedata.category(letter) in ("Cc", "Cs") or unicodedata.bidirectional(letter) in TURNING
