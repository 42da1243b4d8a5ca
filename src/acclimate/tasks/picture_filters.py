"""Filters of pictures: the same picture with less of what only one side has, so that pictures from two places look more alike."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter, ImageOps
from scipy import ndimage

from acclimate.tasks.filters import Filter
from acclimate.tasks.picture_traits import content

SMOOTH = 150.0
"""Before edges are looked for, a picture is blurred by its shorter side / `SMOOTH`, at least by `LEAST` pixels."""
LEAST = 0.5
STRONG, WEAK = 0.92, 0.84
"""Shares of the pixels whose slope is less than that of an edge, and of what goes on from an edge."""
BLURRED, COARSE = 50.0, 4
"""The shorter side / `BLURRED` is how far "blur" reaches; "low" leaves one pixel of so many in each direction."""


def cropped(image: Image.Image) -> Image.Image:
    """A square around what stands out from the border, in the border's colour; the picture itself where nothing does."""
    pixels = np.asarray(image, dtype=np.float32) / 255
    left, top, right, bottom = content(pixels)
    side = max(right - left, bottom - top)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    colour = [int(value) for value in (255 * np.median(border, axis=0)).round()]
    canvas = Image.new("RGB", (side, side), (colour[0], colour[1], colour[2]))
    part = image.crop((left, top, right, bottom))
    canvas.paste(part, ((side - part.width) // 2, (side - part.height) // 2))
    return canvas


def drawn(image: Image.Image) -> Image.Image:
    """Its edges (Canny, 1986), two or three pixels wide, black on white."""
    sigma = max(LEAST, min(image.size) / SMOOTH)
    grey = ndimage.gaussian_filter(np.asarray(image.convert("L"), dtype=np.float32), sigma, mode="nearest")
    across, down = ndimage.sobel(grey, axis=1), ndimage.sobel(grey, axis=0)
    slope = np.hypot(across, down)
    weak, strong = np.quantile(slope, (WEAK, STRONG))
    ridge = _ridges(slope, across, down) & (slope > 0)
    parts, _ = ndimage.label(ridge & (slope >= weak), np.ones((3, 3)))
    kept = np.unique(parts[ridge & (slope >= strong)])
    lines = ndimage.binary_dilation(np.isin(parts, kept[kept > 0]))
    return Image.fromarray(np.where(lines, 0, 255).astype(np.uint8)).convert("RGB")


def _ridges(slope: np.ndarray, across: np.ndarray, down: np.ndarray) -> np.ndarray:
    """bool [height, width]: where the slope is no less than at both neighbours in its own direction, of four."""
    framed = np.pad(slope, 1)
    height, width = slope.shape

    def moved(x: int, y: int) -> np.ndarray:
        return framed[1 + y : 1 + y + height, 1 + x : 1 + x + width]

    direction = np.round(np.arctan2(down, across) / (np.pi / 4)).astype(int) % 4
    found = np.zeros(slope.shape, dtype=bool)
    for number, (x, y) in enumerate(((1, 0), (1, 1), (0, 1), (-1, 1))):
        found |= (direction == number) & (slope >= moved(x, y)) & (slope >= moved(-x, -y))
    return found


def _blurred(image: Image.Image) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(min(image.size) / BLURRED))


def _coarse(image: Image.Image) -> Image.Image:
    few = (max(1, image.width // COARSE), max(1, image.height // COARSE))
    return image.resize(few, Image.Resampling.BOX).resize(image.size, Image.Resampling.BILINEAR)


FILTERS: dict[str, Filter[Image.Image]] = {
    "content": Filter(cropped, "cropped to what stands out from the border", both=True),
    "contrast": Filter(ImageOps.autocontrast, "with all of the range of light", both=True),
    "edges": Filter(drawn, "as drawings of their edges"),
    "grey": Filter(lambda image: image.convert("L").convert("RGB"), "without colour"),
    "invert": Filter(ImageOps.invert, "as negatives"),
    "blur": Filter(_blurred, "blurred"),
    "low": Filter(_coarse, f"at a {COARSE}th of their resolution"),
}
"""Of an upright RGB picture in its own size."""
