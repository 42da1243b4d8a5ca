"""Whether quotation marks enclose the fields of a CSV or TSV file, seen by parsing a part of it both ways."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pyarrow as pa

SAMPLE = 1 << 20
"""Bytes that are looked at, from the line of the first quotation mark on."""
SLOPPY = 0.05
"""Rows that break the rules of quoting, as a share of well quoted fields, that are taken for slips of the pen."""


@dataclass(frozen=True)
class Parsed:
    """What came of parsing one way: rows that do not fit (too many or few fields, loose quotation marks), well quoted fields."""

    wrong: int
    quoted: int = 0


def detect(content: pa.Buffer, delimiter: str) -> tuple[bool, bool]:
    """(whether quotation marks enclose fields, whether there was anything to decide)."""
    first = re.search(b'"', content)
    if first is None:
        return True, False
    header = line_at(content, 0)
    text = lines_from(content, first.start())
    enclosed, plain = with_quotes(text, delimiter, header), without_quotes(text, delimiter, header)
    if enclosed.wrong > plain.wrong + SLOPPY * enclosed.quoted:
        return False, True
    return True, enclosed.quoted > 0


def line_at(content: pa.Buffer, start: int) -> str:
    end = re.compile(b"\n|\\Z").search(content, start)
    return bytes(content[start : end.start() if end else None]).decode().rstrip("\r")


def lines_from(content: pa.Buffer, place: int) -> str:
    """Whole lines, `SAMPLE` bytes or fewer, from the one that holds the place on."""
    before = bytes(content[max(0, place - SAMPLE) : place])
    start = place - len(before) + before.rfind(b"\n") + 1
    found = bytes(content[start : start + SAMPLE])
    whole = found.rpartition(b"\n")[0] if start + SAMPLE < len(content) else found
    return whole.decode(errors="replace")


def with_quotes(text: str, delimiter: str, header: str) -> Parsed:
    mark = re.escape(delimiter)
    end = rf"({mark}|\r?\n|\r|\Z)"
    field = re.compile(rf'(?:("(?:[^"]|"")*")|([^{mark}\r\n]*)){end}')
    width = sum(1 for one in field.finditer(header) if one[3]) + 1
    wrong = quoted = count = 0
    loose = False
    for whole, plain, after in field.findall(text):
        count += 1
        quoted += bool(whole)
        loose |= plain.startswith('"')
        if after != delimiter:
            blank = count == 1 and not whole and not plain
            wrong += not blank and (loose or count != width)
            count, loose = 0, False
    return Parsed(wrong, quoted)


def without_quotes(text: str, delimiter: str, header: str) -> Parsed:
    width = header.count(delimiter)
    return Parsed(sum(line.count(delimiter) != width for line in text.split("\n") if line.strip("\r")))
