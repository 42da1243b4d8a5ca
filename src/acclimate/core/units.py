"""How times and amounts of memory are written for people."""

from __future__ import annotations

UNITS = ((3600, "h"), (60, "min"), (1, "s"))


def duration(seconds: float) -> str:
    """Two figures: "0.4 s", "45 s", "1.5 min", "3.0 h"."""
    if seconds < 0.1:
        return "<0.1 s"
    count, unit = next(((seconds / length, unit) for length, unit in UNITS if seconds >= length), (seconds, "s"))
    return f"{count:.1f} {unit}" if count < 10 else f"{count:.0f} {unit}"


def size(count: int) -> str:
    """Bytes in MB, from 1 GB on in GB."""
    if count < 1e6:
        return "<1 MB"
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
