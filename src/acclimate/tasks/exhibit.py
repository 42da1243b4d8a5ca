"""`Exhibit`: one sample as it is shown to a person, with what was answered and what that rests on."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

EDGE, FINE = 200, 320
"""Pixels of the long side of a picture that is shown; of one with lines drawn into it."""
QUALITY = 70
"""Of WebP: 3 to 8 kB at EDGE."""
UNLIT, UNSEEN = 0.6, 0.2
"""What is left of the light of a picture where nothing speaks for the answer, and where the model does not look at all."""
VEIL, STRONG = 0.75, 0.98
"""How much of the picture the strongest evidence covers; the share of the places above which evidence counts as the strongest."""
COLOURS = "inferno"
"""From weak to strong each is lighter than the one before, so that they differ for everyone and in grey."""


@dataclass(frozen=True)
class Picture:
    """A picture as WebP, `width` x `height` pixels; `overlay`: the same with a map of evidence laid over it, where there is one."""

    content: bytes
    width: int
    height: int
    overlay: bytes | None = None

    @property
    def weighed(self) -> bool:
        return self.overlay is not None


Piece = tuple[str, float | None]
"""A stretch of a text and its weight from -1 to 1: what it says for (above 0) or against the answer; None where it was not read, or
where it is not known."""


@dataclass(frozen=True)
class Passages:
    """One text, or the two of a pair, in pieces that joined give the text back; "…" at an end where it is cut."""

    texts: tuple[tuple[Piece, ...], ...]
    weighed: bool
    """Whether there are weights at all."""

    def strongest(self, most: int = 3) -> list[str]:
        """The words with the largest weights above 0, largest first, each once."""
        pieces = [
            piece for text in self.texts for piece in text if (piece[1] or 0) > 0 and any(map(str.isalnum, piece[0]))
        ]
        return list(dict.fromkeys(text for text, _ in sorted(pieces, key=lambda piece: -(piece[1] or 0))))[:most]


@dataclass(frozen=True)
class Exhibit:
    """What a page says about one sample.

    `name`: what the sample is called. `truth`: its label in words, None where it has none. `answer`: what was answered. `sure`: how sure
    of it, 0 to 1, None where that is no one number. `right`: whether it is, None where nobody can say. `shown`: the sample itself, None
    where it cannot be read any more. `notes`: what else there is to tell, by its kind: ("missed", "2 cells").
    """

    name: str
    truth: str | None
    answer: str
    sure: float | None
    right: bool | None
    shown: Picture | Passages | None
    notes: tuple[tuple[str, str], ...] = ()

    @property
    def weighed(self) -> bool:
        """Whether it shows what the answer rests on."""
        return self.shown is not None and self.shown.weighed


def small(image: Image.Image, edge: int = EDGE) -> Image.Image:
    """The picture with a long side of `edge` pixels, smaller ones enlarged."""
    scale = edge / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3)


def encoded(image: Image.Image) -> bytes:
    """As WebP."""
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=QUALITY, method=4)
    return buffer.getvalue()


def lit(image: Image.Image, evidence: np.ndarray, seen: tuple[float, float, float, float]) -> Image.Image:
    """The picture in dim grey, glowing where evidence speaks for the answer; what lies outside of `seen` is nearly dark.

    `evidence`: float [h, w] of any scale, of the part `seen` (left, top, right, bottom) in pixels of the picture. What speaks against the
    answer is not drawn.
    """
    from matplotlib import colormaps

    left, top, right, bottom = (round(side) for side in seen)
    heat = _heat(evidence, (right - left, bottom - top))
    light = np.asarray(image.convert("L"), dtype=np.float32)[..., None].repeat(3, axis=2)
    part, veil = light[top:bottom, left:right].copy(), VEIL * heat[..., None]
    light *= UNSEEN
    light[top:bottom, left:right] = part * UNLIT * (1 - veil) + 255 * colormaps[COLOURS](heat)[..., :3] * veil
    return Image.fromarray(light.round().clip(0, 255).astype(np.uint8))


def _heat(evidence: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """float32 [height, width] from 0 to 1: what speaks for the answer, as smooth as the picture; `size`: (width, height)."""
    positive = np.maximum(evidence, 0).astype(np.float32)
    strong = float(np.quantile(positive, STRONG)) or float(positive.max()) or 1.0
    small = Image.fromarray((positive / strong).clip(0, 1))
    return np.asarray(small.resize(size, Image.Resampling.BICUBIC)).clip(0, 1)
