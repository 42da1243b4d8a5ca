"""What can be wrong with texts themselves: empty, numbers for words, characters lost, markup and control characters left over."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from acclimate.core.errors import fail
from acclimate.data.gate import LISTED, Finding
from acclimate.data.readers.texts import halves, joined
from acclimate.data.table import OWN, Table

EMPTY = r"^[\s\pZ\p{Cc}\p{Cf}]*$"
NUMBER = r"^\s*[-+]?[$€£]?\d+([.,:/\-]\d+)*\s*%?\s*$"
LEFT_OVER = (
    (
        "replacement characters",
        "\N{REPLACEMENT CHARACTER}",
        "replacement characters (U+FFFD: what stood there was lost in decoding)",
    ),
    (
        "html",
        r"&(#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z]{2,8}\d{0,2});"
        r"|</?(a|b|br|div|em|font|h[1-6]|i|img|li|p|span|strong|table|td|tr|ul)(\s[^<>]*)?/?>",
        "HTML entities or tags",
    ),
    ("control characters", r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", "NUL or other control characters"),
)
"""(rule, what it looks like, what it is called)."""


def check_texts(table: Table) -> list[Finding]:
    """What is left over in the texts of a table of form "text"; texts are named, never changed.

    Raises `UserError` for texts that are all numbers.
    """
    texts = joined(table.column("sample"), "\n")
    refuse_numbers(table)
    findings = []
    for rule, pattern, called in LEFT_OVER:
        rows = np.flatnonzero(matching(texts, pattern))
        names = [table.name(int(row)) for row in rows[:LISTED]]
        if names:
            findings.append(Finding(rule, "note", f"texts with {called}: {len(rows):,}", names, len(rows), "kept"))
    return findings


def refuse_numbers(table: Table) -> None:
    """Raises `UserError` for texts that are all numbers."""
    texts = joined(table.column("sample"), "\n")
    said = texts.filter(pa.array(~matching(texts, EMPTY) & texts.is_valid().to_numpy(zero_copy_only=False)))
    if len(said) and matching(said, NUMBER).all():
        first = ", ".join(map(repr, said[:3].to_pylist()))
        others = [name for name in table.rows.column_names if name not in OWN]
        remedy = "name the column of texts with --text" + (f"; other columns: {', '.join(others)}" if others else "")
        raise fail(f"{table.source}: {first}, ...", "is a column of numbers, not of texts", remedy)


def empty_rows(table: Table) -> dict[int, str]:
    """Row -> why there is nothing to read in it: no text, or only spaces; of a pair one such text is enough."""
    found: dict[int, str] = {}
    columns = halves(table.column("sample"))
    for called, texts in zip(
        ("",) if len(columns) == 1 else ("its first text ", "its second text "), columns, strict=True
    ):
        filled = pc.fill_null(texts, "")
        blank = pc.greater(pc.utf8_length(filled), 0).to_numpy(zero_copy_only=False)
        for row in np.flatnonzero(matching(filled, EMPTY)).tolist():
            found.setdefault(row, f"{called}{'holds only spaces' if blank[row] else 'is empty'}")
    return found


def matching(texts: pa.ChunkedArray, pattern: str) -> np.ndarray:
    """bool [n]; null does not match."""
    return pc.fill_null(pc.match_substring_regex(texts, pattern), False).to_numpy(zero_copy_only=False)
