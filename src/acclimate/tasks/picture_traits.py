"""What a person sees of pictures: light, contrast, colour, sharpness, size, shape, and how much of it the object fills."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from acclimate.core.device import background
from acclimate.data.decode import decode, formats, upright_size
from acclimate.data.table import Raw
from acclimate.tasks.traits import Trait

SIDE = 128
"""Pixels of the shorter side that a picture is looked at with, so that what is measured does not follow its size."""
STANDS_OUT = 0.1
"""Difference from the border, of 0..1, from which a pixel belongs to what the picture shows."""
PERCENT = "{:.0%}"
LOOKS = {
    "brightness": ("light", "brighter", "darker", "{:.2f}"),
    "contrast": ("light", "with more contrast", "with less contrast", "{:.2f}"),
    "colour": ("colour", "more colourful", "less colourful", "{:.2f}"),
    "sharpness": ("sharpness", "sharper", "more blurred", "{:.3f}"),
    "size": ("size", "larger", "smaller", "{:.0f} pixels"),
    "aspect": ("size", "wider", "narrower", "{:.2f}"),
    "object scale": ("object scale", "with larger objects", "with smaller objects", PERCENT),
}
"""Of each trait: its group, what more and less of it is called, how its numbers are told."""


def traits(ours: Sequence[Raw], theirs: Sequence[Raw], workers: int) -> list[Trait]:
    """Of encoded pictures that can be decoded."""
    with background(workers) as pool:
        mine, others = (np.array(list(pool.map(look, side))) for side in (ours, theirs))
    each = zip(LOOKS.items(), mine.T, others.T, strict=True)
    return [Trait(name, group, more, less, a, b, form) for (name, (group, more, less, form)), a, b in each]


def look(raw: Raw) -> tuple[float, ...]:
    """Numbers in the order of `LOOKS`: mean and spread of grey, mean saturation, mean step between neighbours as a share of the
    spread, root of the area, width / height, and the share of the picture that `content` covers."""
    assert isinstance(raw, bytes)
    with Image.open(io.BytesIO(raw), formats=formats()) as opened:
        width, height = upright_size(opened)
    image = decode(raw, least=SIDE)
    scale = SIDE / min(image.size)
    image = image.resize(
        (max(1, round(image.width * scale)), max(1, round(image.height * scale))), Image.Resampling.BILINEAR
    )
    pixels = np.asarray(image, dtype=np.float32) / 255
    grey = pixels @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    spread = float(grey.std())
    steps = np.abs(np.diff(grey, axis=0)).mean() + np.abs(np.diff(grey, axis=1)).mean()
    left, top, right, bottom = content(pixels)
    filled = (right - left) * (bottom - top) / grey.size
    colour = float((pixels.max(axis=2) - pixels.min(axis=2)).mean())
    return (
        float(grey.mean()),
        spread,
        colour,
        float(steps) / max(spread, 1e-3),
        (width * height) ** 0.5,
        width / height,
        filled,
    )


def content(pixels: np.ndarray) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of what stands out from the border of a picture, float [height, width, 3] of 0..1; all of it where
    nothing does, or the border is of no one colour."""
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    middle = np.median(border, axis=0)
    apart = np.abs(pixels - middle).max(axis=2) > STANDS_OUT
    rows, columns = np.flatnonzero(apart.any(axis=1)), np.flatnonzero(apart.any(axis=0))
    if not len(rows):
        return 0, 0, pixels.shape[1], pixels.shape[0]
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
