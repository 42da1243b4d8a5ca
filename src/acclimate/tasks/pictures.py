"""What all tasks on pictures share: how files are found, read and normalised, and what needs no check before they are decoded."""

from __future__ import annotations

import hashlib
import io
import json
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import PIL
import torch
from PIL import Image

from acclimate.core.device import background
from acclimate.core.tree import Tree
from acclimate.data import near_pictures
from acclimate.data.decode import decode, formats
from acclimate.data.found import Found, files
from acclimate.data.gate import Finding
from acclimate.data.readers.reader import Columns
from acclimate.data.table import Raw, Table, read_file
from acclimate.tasks import picture_traits
from acclimate.tasks.exhibit import EDGE, Picture, encoded, lit, small
from acclimate.tasks.filters import Filter
from acclimate.tasks.traits import Trait

SAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


class OfPictures:
    """The part of a `Task` that is the same whatever is told of a picture."""

    example = '"photo.jpg"'
    mark = near_pictures.NAME

    @staticmethod
    def unfit(table: Table) -> dict[int, str]:
        """Which files are no pictures shows when they are decoded."""
        return {}

    @staticmethod
    def marks(raws: Sequence[bytes], workers: int) -> np.ndarray:
        """uint8 [n, 288]: tiny copies (`data/near_pictures.py`)."""
        with background(workers) as pool:
            return np.stack(list(pool.map(near_pictures.mark, raws)))

    @staticmethod
    def same(marks: np.ndarray, table: Table | None = None) -> np.ndarray:
        return near_pictures.alike(marks)

    @staticmethod
    def examine(table: Table) -> list[Finding]:
        return []


def smaller(size: int, least: int, *shares: float, step: int = 32) -> tuple[int, ...]:
    """The size, and the multiples of `step` next to these shares of it, largest first, none below `least`."""
    others = {step * round(share * size / step) for share in shares}
    return (size, *sorted((one for one in others if least <= one < size), reverse=True))


class PictureInputs:
    """The part of `Inputs` that is the same for all pictures, of `width` x `height` pixels once they are prepared.

    `preprocessing` has `mean`, `std` and `interpolation`, and a `filter` where there are `filters`. `version` is raised where the same
    picture becomes other pixels.
    """

    version: int
    filters: ClassVar[dict[str, Filter[Image.Image]]] = {}

    def __init__(self, preprocessing: Any, width: int, height: int) -> None:
        self.preprocessing = preprocessing
        self.width, self.height = width, height
        self.sampling = SAMPLING[preprocessing.interpolation]
        mean, std = torch.tensor(preprocessing.mean), torch.tensor(preprocessing.std)
        # One row of pixels each, so that a whole row is one run of multiply-adds.
        self.scale = (1 / (255 * std)).repeat(width)
        self.shift = (-mean / std).repeat(width)
        told = {**preprocessing.json(), "fixed": None, "version": self.version, "pillow": PIL.__version__}
        self.key = hashlib.blake2b(json.dumps(told, sort_keys=True).encode(), digest_size=16).hexdigest()

    def filtered(self, name: str) -> Any:
        return type(self)(replace(self.preprocessing, filter=name))  # type: ignore[call-arg]

    @abstractmethod
    def prepare(self, raw: Raw) -> Tree:
        """Decode and bring to size. Raises ValueError, with a reason, where the file is no sound picture."""

    @staticmethod
    def raw(sample: Any, fitted: tuple[str, ...]) -> bytes:
        """The encoded bytes of a path, of bytes, or of a picture in memory. Raises OSError, ValueError."""
        if isinstance(sample, bytes):
            return sample
        if isinstance(sample, Image.Image):
            buffer = io.BytesIO()
            sample.save(buffer, "PNG")
            return buffer.getvalue()
        if isinstance(sample, str | Path):
            return read_file(Path(sample))
        raise ValueError(f"a {type(sample).__name__}, where a path, bytes or a picture is needed")

    @staticmethod
    def find(paths: Sequence[str], listed: Iterable[bytes], columns: Columns, fitted: tuple[str, ...]) -> Found:
        """Files, folders and globs; "-" takes names of files from stdin."""
        columns.refuse("paths of pictures")
        return files(paths, listed)

    def prepare_all(self, raws: list[Any], workers: int) -> list[Tree | str]:
        """`prepare` of each, in `workers` threads; the reason where one cannot be."""

        def one(raw: Raw) -> Tree | str:
            try:
                return self.prepare(raw)
            except ValueError as error:
                return str(error)

        with background(workers) as pool:
            return list(pool.map(one, raws))

    @staticmethod
    def cost(prepared: Tree) -> int:
        """All pictures cost the same."""
        return 1

    @staticmethod
    def size_of(prepared: Tree) -> int:
        """A prepared picture does not say how large it was; figures of boxes are split by the boxes."""
        return 1

    @staticmethod
    def ids(samples: Iterable[Tree]) -> torch.Tensor:
        """Pictures index nothing."""
        return torch.zeros(0, dtype=torch.int64)

    @staticmethod
    def findings(samples: Iterable[tuple[str, Tree]]) -> list[Finding]:
        """Every readable picture suits every model."""
        return []

    @classmethod
    def numbers(cls, raw: Raw, prepared: Tree) -> dict[str, float]:
        """{"pixels": root of the area of the picture as it was given, "brightness": mean of its pixels from 0 to 1}."""
        with Image.open(io.BytesIO(encoded_picture(raw)), formats=formats()) as opened:
            pixels = (opened.width * opened.height) ** 0.5
        return {"pixels": pixels, "brightness": float(cls.pixels(prepared).float().mean()) / 255}

    @staticmethod
    def pixels(prepared: Tree) -> torch.Tensor:
        """uint8 [height, width, 3]: what of a prepared sample is picture."""
        return prepared

    @staticmethod
    def traits(ours: Sequence[Raw], theirs: Sequence[Raw], workers: int) -> list[Trait]:
        return picture_traits.traits(ours, theirs, workers)

    @staticmethod
    def grounds(stages: int) -> Iterable[int]:
        """Nothing is asked, but of pictures that are classified as a whole (`ImageInputs`)."""
        return ()

    @staticmethod
    def blanks(batch: Tree) -> list[Tree]:
        raise NotImplementedError  # of those with `grounds`

    @staticmethod
    def evidence(shares: Tree) -> list[np.ndarray] | None:
        raise NotImplementedError

    def shown(self, raw: Raw, evidence: np.ndarray | None) -> Picture | None:
        """A small picture, and beside it the same lit by the evidence."""
        try:
            picture = small(decode(encoded_picture(raw), least=EDGE))
        except ValueError:
            return None
        overlay = None if evidence is None else encoded(lit(picture, evidence, self.seen(picture)))
        return Picture(encoded(picture), *picture.size, overlay)

    def seen(self, image: Image.Image) -> tuple[float, float, float, float]:
        """(left, top, right, bottom): what of an upright picture the model sees, in its pixels."""
        return 0, 0, image.width, image.height

    def normalised(self, pictures: Sequence[torch.Tensor]) -> torch.Tensor:
        """float32 [batch, 3, height, width] in channels-last memory of uint8 [height, width, 3] each."""
        batch = torch.empty(len(pictures), self.height, self.width * 3)
        # One by one, so that the float copy stays in the processor's cache: several times as fast as all at once.
        for pixels, place in zip(pictures, batch, strict=True):
            torch.addcmul(self.shift, pixels.reshape(self.height, self.width * 3).float(), self.scale, out=place)
        return batch.view(len(pictures), self.height, self.width, 3).permute(0, 3, 1, 2)


def pixels_of(image: Image.Image) -> torch.Tensor:
    """uint8 [height, width, 3]."""
    return torch.from_numpy(np.array(image))


def encoded_picture(raw: Raw) -> bytes:
    """What can be decoded. Raises ValueError for a text."""
    if not isinstance(raw, bytes):
        raise ValueError("a text, where the bytes of a picture are needed")
    return raw
