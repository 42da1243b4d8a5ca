"""`sizes`: how large pictures are, by their headers alone, once EXIF has turned them upright."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
from PIL import Image

from acclimate.data.decode import formats, orientation, upright_size

THREADS = 16
"""Files that are waited for at a time."""
AT_ONCE = 16
"""Pictures that a thread reads at a time."""


class Header(NamedTuple):
    """Size in pixels of the upright picture, and the EXIF orientation (1 to 8; 1 = stored upright)."""

    width: int
    height: int
    orientation: int


def header(picture: Path | bytes) -> Header | None:
    """What the header of a picture file says; None where it cannot be read. No pixel is decoded."""
    try:
        if isinstance(picture, Path) and not picture.is_file():  # a pipe would be waited for
            return None
        with Image.open(io.BytesIO(picture) if isinstance(picture, bytes) else picture, formats=formats()) as image:
            return Header(*upright_size(image), orientation(image))
    except Exception:  # decoders raise a dozen classes; why a picture cannot be read is for the gate to say
        return None


def sizes(samples: pa.ChunkedArray, form: str, root: Path | None) -> tuple[pa.Array, pa.Array]:
    """(width, height), int32 [n] each, of the upright pictures of a column `sample`; null where a header cannot be read."""
    folder = Path(root or "")

    def some(start: int) -> list[Header | None]:
        part = samples.slice(start, AT_ONCE).to_pylist()
        return [one and header(folder / one if form == "path" else one) for one in part]

    with ThreadPoolExecutor(THREADS, thread_name_prefix="headers") as pool:
        found = [one or None for part in pool.map(some, range(0, len(samples), AT_ONCE)) for one in part]
    width, height = ([one and one[side] for one in found] for side in (0, 1))
    return pa.array(width, pa.int32()), pa.array(height, pa.int32())
