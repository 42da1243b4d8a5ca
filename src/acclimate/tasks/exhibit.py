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
UNLIT = 0.55
"""What is left of the light of a picture where nothing speaks for the answer: what does must stand out from any picture."""
VEIL = 0.8
"""How much of the picture the strongest evidence covers."""
UNSEEN = 0.25
"""What is left of the light where the model does not look at all."""
WARM = np.array([[200, 60, 0], [255, 140, 0], [255, 235, 120]], dtype=np.float64)
"""Colours from weak to strong evidence: each is lighter than the one before, so that they differ for everyone and in grey."""


@dataclass(frozen=True)
class Picture:
    """A picture as WebP, `width` x `height` pixels; `overlay`: the same with a map of evidence laid over it, where there is one."""

    content: bytes
    width: int
    height: int
    overlay: bytes | None = None


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
        """The pieces with the largest weights above 0, largest first, each once."""
        pieces = [piece for text in self.texts for piece in text if (piece[1] or 0) > 0]
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
    """The picture in dim grey, warm where evidence speaks for the answer; what lies outside of `seen` is nearly dark.

    `evidence`: float [h, w] of any scale, of the part `seen` (left, top, right, bottom) in pixels of the picture. What speaks against the
    answer is not drawn.
    """
    left, top, right, bottom = (round(side) for side in seen)
    size = (max(1, right - left), max(1, bottom - top))
    most = max(float(evidence.max(initial=0)), 1e-12)
    positive = Image.fromarray((np.maximum(evidence, 0) / most).astype(np.float32))
    heat = np.asarray(positive.resize(size, Image.Resampling.BICUBIC)).clip(0, 1)
    grey = np.asarray(image.convert("L"), dtype=np.float64)[..., None].repeat(3, axis=2)
    light = grey * UNSEEN
    part = (slice(top, top + size[1]), slice(left, left + size[0]))
    heat = heat[: light[part].shape[0], : light[part].shape[1]]
    colour = np.stack([np.interp(heat, np.linspace(0, 1, len(WARM)), channel) for channel in WARM.T], axis=-1)
    veil = VEIL * heat[..., None]
    light[part] = grey[part] * (UNLIT + (1 - UNLIT) * veil) * (1 - veil) + colour * veil * (
        0.4 + 0.6 * grey[part] / 255
    )
    return Image.fromarray(light.round().clip(0, 255).astype(np.uint8))
