"""`draw`: boxes in a picture, with class and score, legible on any background."""

from __future__ import annotations

import colorsys
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from acclimate.data.decode import decode_sized
from acclimate.data.table import Raw
from acclimate.tasks.exhibit import FINE, Picture, encoded, small
from acclimate.tasks.pictures import encoded_picture

LONGEST = 2000
"""Pixels of the long side of a picture that is drawn for the eye."""
LINE, LETTERS = 400, 42
"""The long side in widths of a line, and in heights of letters."""
THINNEST, SMALLEST, CLEAR = 2, 12, 3
"""Pixels of a line without its edges, and of letters; of a line in a picture so small that its format would take the colour from it."""
DARK = (16, 16, 16)
"""Of letters, and of the edges of lines: every colour of a class is lighter by far."""
FIRST = ((255, 176, 0), (72, 190, 255), (255, 92, 92), (84, 224, 112), (236, 122, 255), (244, 240, 80), (64, 224, 208))
"""Colours of the first classes: far apart, also for most who are colour-blind."""
GOLDEN = 0.618034
"""Of the circle of hues: the step after which neighbours differ most, however many there are."""
LEAST = 0.25
"""Luminance of a colour: its contrast with what is dark is 5 to 1 or more."""
HIDDEN = (0.08, 0.25)
"""Share of another tag, and of another box, that a tag may hide; where there is no such place, the colour has to say the class."""
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Line:
    """`dash`: drawn and left out in turn, in widths of the line; (0, 0): all is drawn. `style`: what CSS calls that."""

    colour: Colour
    dash: tuple[int, int]
    style: str


LINES = {
    "found": Line((72, 190, 255), (0, 0), "solid"),
    "missed": Line((255, 225, 60), (6, 4), "dashed"),
    "wrong": Line((255, 110, 70), (2, 2), "dotted"),
    "doubted": Line((255, 180, 255), (10, 3), "double"),
}
"""Of boxes that are judged: kinds differ in colour, lightness and dashes."""


def draw(
    image: Image.Image,
    boxes: Sequence[Sequence[float]],
    classes: Sequence[str],
    scores: Sequence[float] | None,
    names: Sequence[str],
) -> Image.Image:
    """A copy of the picture, RGB, with boxes drawn into it, the largest first, and a tag of class and score at each.

    `boxes`: [n, 4] x1, y1, x2, y2 in pixels of the picture. `classes`: [n] their names. `scores`: [n] from 0 to 1, or None where
    there are none. `names`: all classes there are; a class has the colour of its place there, in every picture.
    """
    shown = image.convert("RGB") if image.mode != "RGB" else image.copy()
    places = {name: place for place, name in enumerate(names)}
    corners = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    order = np.argsort(-(corners[:, 2:] - corners[:, :2]).prod(axis=1), kind="stable")
    pen, width = ImageDraw.Draw(shown), max(THINNEST, round(max(shown.size) / LINE))
    colours = [colour(places.get(classes[i], len(names))) for i in order]
    for i, paint in zip(order, colours, strict=True):
        _outline(pen, corners[i], width, paint, shown.size)
    tags, told = Tags(shown.size, width, corners), set()
    for i, paint in zip(order, colours, strict=True):
        name = legible(classes[i], places.get(classes[i], len(names)))
        tags.add(pen, i, name, "" if scores is None else f" {scores[i]:.2f}", paint, needed=name not in told)
        told.add(name)
    return shown


def judged(image: Image.Image, boxes: Sequence[Sequence[float]], kinds: Sequence[str]) -> Image.Image:
    """A copy of the picture with boxes drawn into it, as for `draw`, each with the line of its kind in `LINES`, what was found first."""
    shown = image.convert("RGB") if image.mode != "RGB" else image.copy()
    pen, width = ImageDraw.Draw(shown), max(CLEAR, round(max(shown.size) / LINE))
    order = sorted(range(len(boxes)), key=lambda i: list(LINES).index(kinds[i]))
    for i in order:
        line = LINES[kinds[i]]
        _outline(pen, np.array(boxes[i], dtype=np.float64), width, line.colour, shown.size, line.dash)
    return shown


def outlined(raw: Raw, boxes: Sequence[np.ndarray], kinds: Sequence[str]) -> Picture | None:
    """The picture, small, with boxes in pixels of the upright original, as for `judged`; None where it cannot be read any more."""
    try:
        image, (width, height) = decode_sized(encoded_picture(raw), least=FINE)
    except ValueError:
        return None
    image = small(image, FINE)
    scale = np.tile([image.width / width, image.height / height], 2)
    shown = judged(image, [(np.asarray(box) * scale).tolist() for box in boxes], kinds)
    return Picture(encoded(shown), *shown.size)


@cache
def colour(place: int) -> Colour:
    """The colour of the class at a place, the same in every picture."""
    if place < len(FIRST):
        return FIRST[place]
    found = np.array(colorsys.hsv_to_rgb(place * GOLDEN % 1, 0.8 if place % 2 else 0.5, 1.0 if place % 3 else 0.75))
    while luminance(found) < LEAST:
        found += (1 - found) / 8
    red, green, blue = (round(part * 255) for part in found)
    return red, green, blue


def luminance(colour: np.ndarray) -> float:
    """Relative luminance of red, green and blue from 0 to 1, as WCAG 2 defines it."""
    linear = np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def legible(name: str, place: int) -> str:
    """The name in letters that Pillow's font has, accents dropped; the number of the class, "#3", where none of them is left."""
    plain = unicodedata.normalize("NFKD", " ".join(name.split()))
    return "".join(letter for letter in plain if letter.isprintable() and _has(letter)).strip() or f"#{place}"


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


@cache
def _has(letter: str) -> bool:
    """Whether the font has a letter: what it lacks looks like what no font has."""
    if letter == " ":
        return True
    look, none = (bytes(_font(16).getmask(one)) for one in (letter, "\uffff"))
    return look != none


def _outline(
    pen: ImageDraw.ImageDraw,
    box: np.ndarray,
    width: int,
    paint: Colour,
    size: tuple[int, int],
    dash: tuple[int, int] = (0, 0),
) -> None:
    """A line of the colour between two dark ones, around the edges of the box and inside the picture; dark where it is left out."""
    edge = max(1, width // 2)
    reach = width / 2 + edge
    low = np.clip(box[:2], reach, None)
    high = np.maximum(np.clip(box[2:], None, np.array(size) - reach), low)
    for out, thick, fill in ((reach, width + 2 * edge, DARK), (reach - edge, width, paint)):
        left, top, right, bottom = _whole([*(low - out), *(high + out)])
        corners = (left, top, max(left, right), max(top, bottom))
        if fill == DARK or not any(dash):
            pen.rectangle(corners, outline=fill, width=thick)
        else:
            _dashed(pen, corners, thick, fill, dash)


def _dashed(
    pen: ImageDraw.ImageDraw, corners: tuple[int, int, int, int], width: int, paint: Colour, dash: tuple[int, int]
) -> None:
    left, top, right, bottom = corners
    on, step = dash[0] * width, sum(dash) * width
    for x in range(left, right + 1, step):
        for y in (top, max(top, bottom - width + 1)):
            pen.rectangle((x, y, min(x + on - 1, right), min(y + width - 1, bottom)), fill=paint)
    for y in range(top, bottom + 1, step):
        for x in (left, max(left, right - width + 1)):
            pen.rectangle((x, y, min(x + width - 1, right), min(y + on - 1, bottom)), fill=paint)


def _whole(edges: Sequence[float] | np.ndarray) -> tuple[int, int, int, int]:
    """Whole pixels, the last ones included, as Pillow wants them."""
    left, top, right, bottom = np.rint(edges).astype(int).tolist()
    return left, top, right - 1, bottom - 1


class Tags:
    """Places a tag at each box where it hides least: above the box, else inside, else below; never outside the picture."""

    def __init__(self, size: tuple[int, int], line: int, boxes: np.ndarray) -> None:
        self.size = np.array(size)
        self.reach = line / 2 + max(1, line // 2)
        self.boxes = boxes
        self.letters = max(SMALLEST, round(max(size) / LETTERS))
        self.font = _font(self.letters)
        self.pad = max(2, self.letters // 4)
        self.placed = np.zeros((0, 4))

    def add(self, pen: ImageDraw.ImageDraw, index: int, name: str, score: str, paint: Colour, needed: bool) -> None:
        """Draw the tag of box `index`; where every place for it would hide too much of others, only if it is `needed`."""
        text = self._fitted(name, score)
        spot, hides = self._spot(index, np.array([self.font.getlength(text) + 2 * self.pad, self.letters + self.pad]))
        if hides and not needed:
            return
        left, top, right, bottom = _whole(spot)
        pen.rectangle((left, top, right, bottom), fill=paint, outline=DARK)
        pen.text((left + self.pad, (top + bottom + 1) / 2), text, fill=DARK, font=self.font, anchor="lm")
        self.placed = np.vstack([self.placed, spot])

    def _fitted(self, name: str, score: str) -> str:
        """The name, shortened until the tag fits into the picture."""
        room = self.size[0] - 2 * self.pad
        if self.font.getlength(name + score) <= room:
            return name + score
        while len(name) > 1 and self.font.getlength(f"{name}…{score}") > room:
            name = name[: max(1, len(name) * 9 // 10)]
        return f"{name}…{score}"

    def _spot(self, index: int, wide: np.ndarray) -> tuple[np.ndarray, bool]:
        """(float64 [4]: of the places for a tag the one that hides least, whether that is too much)."""
        x1, y1, x2, y2 = self.boxes[index]
        reach, (width, height) = self.reach, wide
        lefts = (x1 - reach, x2 + reach - width)
        tops = (y1 + 0.5 - height, y1 - 0.5, y2 - 0.5 - height, y2 - 0.5)
        spots = np.array([(left, top) for top in tops for left in lefts])
        spots = np.clip(spots, 0, np.maximum(self.size - wide, 0))
        spots = np.hstack([spots, spots + wide])
        boxes, tags = _shared(spots, self.boxes), _shared(spots, self.placed)
        own, boxes[:, index] = boxes[:, index].copy(), 0
        cost = tags.sum(axis=1) + boxes.sum(axis=1) / 2 + own / 4 + np.arange(len(spots)) / 100
        best = int(cost.argmin())
        hidden = [shares[best].max(initial=0) for shares in (tags, boxes)]
        return spots[best], bool(hidden[0] > HIDDEN[0] or hidden[1] > HIDDEN[1])


def _shared(spots: np.ndarray, others: np.ndarray) -> np.ndarray:
    """float64 [m, n]: the area that each spot [m, 4] and each other box [n, 4] share, as a share of the other."""
    low = np.maximum(spots[:, None, :2], others[None, :, :2])
    high = np.minimum(spots[:, None, 2:], others[None, :, 2:])
    area = (others[:, 2:] - others[:, :2]).prod(axis=1)
    return np.clip(high - low, 0, None).prod(axis=2) / np.maximum(area, 1)
