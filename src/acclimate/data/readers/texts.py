"""Texts in columns: which column, or which two, hold them, and how they are stored."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from acclimate.data.readers.labels import is_text
from acclimate.data.readers.pictures import plain

NAMES = [
    *("text", "sentence", "review", "content", "question", "query", "utterance", "comment", "message", "document"),
    *("body", "title", "headline", "tweet", "post", "abstract", "description"),
]
"""What columns of texts are called, likeliest first."""
PAIRS = [
    *(("sentence1", "sentence2"), ("sentence_1", "sentence_2"), ("sentence_a", "sentence_b")),
    *(("premise", "hypothesis"), ("question1", "question2"), ("question", "sentence")),
    *(("text_a", "text_b"), ("text1", "text2"), ("text_1", "text_2")),
]
"""What two columns are called of which each row is a pair of texts."""
LOOKED_AT = 100
PROSE = re.compile(r"[^\W\d_]\S*\s+\S*[^\W\d_]|[\u3040-\u30ff\u3400-\u9fff]{5}|[\u0e00-\u0eff]{10}")
"""Two words in one value, or some letters of a script that does not part its words (Chinese, Japanese, Thai, Lao)."""


def find(raw: pa.Table, taken: set[str | None]) -> list[tuple[str, ...]]:
    """What may be the texts: the likeliest of usual names, else every column that holds prose, `taken` ones left out.

    Where there is neither, a column that is named like texts all the same, so that a message can say what it holds.
    """
    free = {plain(name): name for name in reversed(raw.column_names) if name not in taken}
    strings = {key: name for key, name in free.items() if is_text(value_type(raw.column(name)))}
    for first, second in PAIRS:
        if first in strings and second in strings:
            return [(strings[first], strings[second])]
    if usual := next((strings[name] for name in NAMES if name in strings), None):
        return [(usual,)]
    prose = [name for name in raw.column_names if name in strings.values() and holds_prose(raw.column(name))]
    return [(name,) for name in prose or [free[name] for name in NAMES if name in free][:1]]


def passed_over(raw: pa.Table, name: str, others: list[str]) -> tuple[str, ...]:
    """A note where other columns hold prose too, and one of texts was taken for its name."""
    prose = [one for one in others if is_text(value_type(raw.column(one))) and holds_prose(raw.column(one))]
    if not prose:
        return ()
    several = "hold texts too and are" if len(prose) > 1 else "holds texts too and is"
    return (f"{', '.join(map(repr, prose))} {several} not read; --text {name} --text {prose[0]} makes pairs",)


def value_type(column: pa.ChunkedArray) -> pa.DataType:
    return column.type.value_type if pa.types.is_dictionary(column.type) else column.type


def holds_prose(column: pa.ChunkedArray) -> bool:
    """Whether not all of the first values are codes: single words, numbers, dates, addresses."""
    return any(value and PROSE.search(value) for value in column.slice(0, LOOKED_AT).to_pylist())


def valid(value: Any) -> Any:
    """A text without lone surrogates, which no file could hold; "?" stands for each. Other values as they are."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def paired(first: pa.ChunkedArray, second: pa.ChunkedArray) -> pa.ChunkedArray:
    """list<string>: the two texts of each row; where one is missing it is empty, where both are, the row is null."""
    both = pa.table({"first": first.cast(pa.string()), "second": second.cast(pa.string())})
    chunks = [zipped(*batch.columns) for batch in both.to_batches()]
    return pa.chunked_array(chunks, pa.list_(pa.string()))


def zipped(first: pa.Array, second: pa.Array) -> pa.Array:
    n = len(first)
    neither = pc.and_(first.is_null(), second.is_null())
    values = pa.concat_arrays([pc.fill_null(first, ""), pc.fill_null(second, "")])
    turned = values.take(pa.array(np.arange(2 * n).reshape(2, n).T.ravel()))
    offsets = pa.array(np.arange(0, 2 * n + 1, 2, dtype=np.int32))
    return pa.ListArray.from_arrays(offsets, turned, mask=neither)


def joined(samples: pa.ChunkedArray, joint: str) -> pa.ChunkedArray:
    """string: each text, or the two of a pair with the joint between them."""
    return pc.binary_join(samples, joint) if pa.types.is_list(samples.type) else samples


def halves(samples: pa.ChunkedArray) -> list[pa.ChunkedArray]:
    """The texts, or the first and the second of pairs."""
    return [pc.list_element(samples, i) for i in (0, 1)] if pa.types.is_list(samples.type) else [samples]
