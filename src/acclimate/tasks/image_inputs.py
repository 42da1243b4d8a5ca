"""`ImageInputs`: how a picture file becomes what the model reads, and how it is varied in training."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageOps

from acclimate.core import seeds
from acclimate.core.tree import Tree, leaves
from acclimate.data.decode import decode
from acclimate.data.table import Raw
from acclimate.models.pictures import Pictures
from acclimate.tasks.filters import Filter
from acclimate.tasks.picture_filters import FILTERS
from acclimate.tasks.pictures import PictureInputs, encoded_picture, pixels_of
from acclimate.tasks.task import Mix

VERSION = 1
"""To be raised when this file or `decode` gives other pixels for the same picture."""

CROP_AREA = (0.5, 1.0)
CROP_RATIO = (3 / 4, 4 / 3)
COLOUR = 0.1
"""Brightness, contrast and saturation of "light" change by at most this share."""
RAND_OPERATIONS, RAND_MAGNITUDE = 2, 0.3
"""RandAugment as torchvision has it by default: 2 operations, magnitude 9 of 0..30."""
SIDE, PREFIX = 8, 16
"""Places along a side of maps that are fine enough to say where evidence lies; tokens that may stand before those of the picture."""
MIX_ALPHA = {"mixup": 0.2, "cutmix": 1.0}
"""Both parameters of the Beta distribution of the share (Zhang et al. 2018; Yun et al. 2019)."""


class ImageInputs(PictureInputs):
    """Pictures for one preprocessing. A prepared, viewed or augmented sample is uint8 [size, size, 3], channels last.

    Stateless, and safe to use from several threads: every draw comes from a generator of its own, keyed by the seed.
    """

    version = VERSION
    policies = ("none", "light", "randaugment", "trivial")
    views: ClassVar[dict[str, int]] = {"none": 1, "light": 4}
    filters: ClassVar[dict[str, Filter[Image.Image]]] = FILTERS
    mixes: ClassVar[dict[str, Mix]] = {"mixup": Mix(1, "light"), "cutmix": Mix(1, "light")}

    def __init__(self, preprocessing: Pictures) -> None:
        super().__init__(preprocessing, preprocessing.size, preprocessing.size)

    def prepare(self, raw: Raw) -> torch.Tensor:
        """Decode, filter and resize, antialiased. Raises ValueError, with a reason, where the file is no sound picture."""
        size, shown = self.preprocessing.size, self.preprocessing.filter
        image = decode(encoded_picture(raw), least=size)
        image = self.filters[shown].apply(image) if shown else image
        return pixels_of(image.resize((size, size), self.sampling, box=self.seen(image)))

    def seen(self, image: Image.Image) -> tuple[float, float, float, float]:
        """The largest square in the middle, or all of it."""
        return _square(image) if self.preprocessing.resize == "crop" else (0, 0, *image.size)

    def view(self, prepared: Tree, view: int, seed: int, policy: str = "light") -> torch.Tensor:
        """0 is the prepared picture itself, any other a random crop (half the area or more), mirrored by chance."""
        if view == 0:
            return prepared
        return pixels_of(self._cropped(_image(prepared), seeds.generator("view", view, seed)))

    def augment(self, prepared: Tree, policy: str, seed: int, target: Any = None) -> torch.Tensor:
        """By "none", "light" (random crop, mirroring, slight change of colour), "randaugment" (on top of light), or "trivial", which
        neither crops nor mirrors: for digits, letters and whatever else has a right way round."""
        if policy == "none":
            return prepared
        random = seeds.generator("augment", policy, seed)
        if policy == "trivial":
            return pixels_of(_trivially(_image(prepared), random))
        image = _coloured(self._cropped(_image(prepared), random), random)
        return pixels_of(_randaugmented(image, random) if policy == "randaugment" else image)

    def mix(self, samples: list[Tree], kind: str, seed: int) -> tuple[torch.Tensor, list[float]]:
        """Two samples in one, and the share of each: "mixup" blends them, "cutmix" pastes a box of the second."""
        first, second = samples
        random = seeds.generator("mix", kind, seed)
        share = float(random.beta(MIX_ALPHA[kind], MIX_ALPHA[kind]))
        if kind == "mixup":
            return torch.lerp(second.float(), first.float(), share).round_().to(torch.uint8), [share, 1 - share]
        height, width = first.shape[:2]
        rows, columns = (_stretch(side, math.sqrt(1 - share), random) for side in (height, width))
        mixed = first.clone()
        mixed[rows, columns] = second[rows, columns]
        pasted = (rows.stop - rows.start) * (columns.stop - columns.start) / (height * width)
        return mixed, [1 - pasted, pasted]

    def collate(self, samples: list[Tree]) -> torch.Tensor:
        """float32 [batch, 3, size, size] in channels-last memory, normalised by mean and std."""
        return self.normalised(samples)

    @staticmethod
    def grounds(stages: int) -> Iterable[int]:
        """From the features back to the picture: the last maps that are fine enough tell most."""
        return range(stages, -1, -1)

    @staticmethod
    def blanks(batch: torch.Tensor) -> list[torch.Tensor]:
        """A picture of the mean colour."""
        return [torch.zeros_like(batch[:1])]

    @staticmethod
    def evidence(shares: Tree) -> list[np.ndarray] | None:
        """float32 [side, side] each, of the prepared picture, from the largest map; None where no map has a side of `SIDE`, or the answer
        does not rest on it, as where a head reads a token of its own."""
        maps = [found for leaf in leaves(shares) if leaf.is_floating_point() and (found := _map(leaf)) is not None]
        largest = max(maps, key=lambda each: each.shape[1], default=None)
        if largest is None or largest.shape[1] < SIDE or not largest.any():
            return None
        return list(largest.float().cpu().numpy())

    def _cropped(self, image: Image.Image, random: np.random.Generator) -> Image.Image:
        area = random.uniform(*CROP_AREA)
        ratio = math.exp(random.uniform(*np.log(CROP_RATIO)))
        width = min(math.sqrt(area * ratio), 1) * image.width
        height = min(math.sqrt(area / ratio), 1) * image.height
        left, top = random.uniform(0, image.width - width), random.uniform(0, image.height - height)
        image = image.resize(image.size, self.sampling, box=(left, top, left + width, top + height))
        return ImageOps.mirror(image) if random.random() < 0.5 else image


def _map(leaf: torch.Tensor) -> torch.Tensor | None:
    """float [B, side, side], summed over the channels: of maps [B, C, side, side] or [B, side, side, C], or of tokens [B, N, C], of which
    some may stand before those of the picture; None of anything else."""
    if leaf.ndim == 4 and leaf.shape[2] == leaf.shape[3]:
        return leaf.sum(1)
    if leaf.ndim == 4 and leaf.shape[1] == leaf.shape[2]:
        return leaf.sum(3)
    if leaf.ndim != 3:
        return None
    side = math.isqrt(leaf.shape[1])
    if leaf.shape[1] - side**2 > PREFIX:
        return None
    return leaf.sum(2)[:, leaf.shape[1] - side**2 :].unflatten(1, (side, side))


def _image(sample: torch.Tensor) -> Image.Image:
    return Image.fromarray(sample.numpy())


def _square(image: Image.Image) -> tuple[float, float, float, float]:
    """The largest square in the middle."""
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    return left, top, left + side, top + side


def _stretch(side: int, share: float, random: np.random.Generator) -> slice:
    """Pixels of one side that a box covers: `share` of it around a random middle, cut at the edges."""
    middle, half = random.uniform(0, side), share * side / 2
    return slice(max(0, round(middle - half)), min(side, round(middle + half)))


def _coloured(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Brightness, contrast (about the mean grey) and saturation, as one matrix: one pass over the pixels."""
    brightness, contrast, saturation = random.uniform(1 - COLOUR, 1 + COLOUR, 3)
    grey = np.array([0.299, 0.587, 0.114])
    mixing = saturation * np.eye(3) + (1 - saturation) * grey
    middle = np.asarray(image.convert("L")).mean()
    matrix = np.column_stack([brightness * contrast * mixing, np.full(3, brightness * (1 - contrast) * middle)])
    return image.convert("RGB", tuple(matrix.ravel()))


def _sheared(image: Image.Image, across: float, down: float) -> Image.Image:
    width, height = image.size
    shift = (-across * height / 2, -down * width / 2)
    return image.transform(image.size, Image.Transform.AFFINE, (1, across, shift[0], down, 1, shift[1]))


def _moved(image: Image.Image, across: float, down: float) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, (1, 0, across * image.width, 0, 1, down * image.height))


# Each takes a picture and a strength in -1..1, whose sign is random. Those that know no direction read its size alone.
RAND_AUGMENT: dict[str, Callable[[Image.Image, float], Image.Image]] = {
    "identity": lambda image, strength: image,
    "shear across": lambda image, strength: _sheared(image, 0.3 * strength, 0),
    "shear down": lambda image, strength: _sheared(image, 0, 0.3 * strength),
    "move across": lambda image, strength: _moved(image, 150 / 331 * strength, 0),
    "move down": lambda image, strength: _moved(image, 0, 150 / 331 * strength),
    "rotate": lambda image, strength: image.rotate(30 * strength),
    "brightness": lambda image, strength: ImageEnhance.Brightness(image).enhance(1 + 0.9 * strength),
    "colour": lambda image, strength: ImageEnhance.Color(image).enhance(1 + 0.9 * strength),
    "contrast": lambda image, strength: ImageEnhance.Contrast(image).enhance(1 + 0.9 * strength),
    "sharpness": lambda image, strength: ImageEnhance.Sharpness(image).enhance(1 + 0.9 * strength),
    "posterize": lambda image, strength: ImageOps.posterize(image, 8 - round(4 * abs(strength))),
    "solarize": lambda image, strength: ImageOps.solarize(image, round(255 * (1 - abs(strength)))),
    "autocontrast": lambda image, strength: ImageOps.autocontrast(image),
    "equalize": lambda image, strength: ImageOps.equalize(image),
}


def _randaugmented(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """RandAugment (Cubuk et al. 2020): a few operations drawn uniformly, all at one magnitude."""
    operations = list(RAND_AUGMENT.values())
    for _ in range(RAND_OPERATIONS):
        operation = operations[random.integers(len(operations))]
        image = operation(image, RAND_MAGNITUDE * random.choice((-1, 1)))
    return image


def _trivially(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """TrivialAugment (Müller and Hutter 2021), in RandAugment's space: one operation drawn uniformly, and its magnitude as well."""
    operations = list(RAND_AUGMENT.values())
    return operations[random.integers(len(operations))](image, random.uniform(-1, 1))
