"""Samples and labels of a table as lists: cut by class, taken, written as a table again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from acclimate.core.seeds import generator
from acclimate.data.table import Table


def rows_of(table: Table) -> tuple[list[Any], np.ndarray]:
    """(samples as they are stored, labels)."""
    return [table.raw(i) for i in range(len(table))], np.array(table.column("target").to_pylist())


def written(path: Path, samples: list[Any], labels: np.ndarray, split: np.ndarray | None = None) -> Path:
    name = "text" if isinstance(samples[0], str) else "image"
    columns = {name: samples, "label": labels.tolist(), **({} if split is None else {"split": split.tolist()})}
    pq.write_table(pa.table(columns), path)
    return path


def cut(labels: np.ndarray, share: float, *key: int | str) -> np.ndarray:
    """bool [n]: about this share of each class."""
    found = np.zeros(len(labels), dtype=bool)
    for name in sorted({label for label in labels if label is not None}):
        own = generator("cut", name, *key).permutation(np.flatnonzero(labels == name))
        found[own[: round(share * len(own))]] = True
    return found


def take(rows: tuple[list[Any], np.ndarray], kept: np.ndarray) -> tuple[list[Any], np.ndarray]:
    return [one for one, keep in zip(rows[0], kept, strict=True) if keep], rows[1][kept]
