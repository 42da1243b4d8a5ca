"""`ImageClassification`: pictures into one class or several labels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from torch import nn

from acclimate.core.errors import fail
from acclimate.core.recipe import Options
from acclimate.data.decode import size_of
from acclimate.data.table import Table
from acclimate.models.pictures import Pictures
from acclimate.tasks.classification import Classification, are_names
from acclimate.tasks.image_inputs import ImageInputs
from acclimate.tasks.pictures import OfPictures, smaller
from acclimate.tasks.task import Baseline, Came, Starts
from acclimate.tasks.tuning import PICTURES, Tuning

LOOKS = 64
"""Pictures whose size decides the resolution."""
SMALLEST = 96
"""Below this side, in pixels, pretrained features are poor: small pictures are enlarged to it."""


class ImageClassification(OfPictures, Classification):
    name = "image_classification"
    kind = "pictures"
    hub_tag = "image-classification"

    @staticmethod
    def matches(table: Table) -> bool:
        """Pictures, with names or lists of names as targets."""
        return table.form in ("path", "bytes") and are_names(table)

    @staticmethod
    def baseline(
        table: Table, train: np.ndarray, val: np.ndarray, rows: np.ndarray, came: Came | None
    ) -> Baseline | None:
        """Pictures have none that takes seconds."""
        return None

    @staticmethod
    def models(table: Table) -> Starts:
        """Models to start from where none is named."""
        return Starts(("efficientnet_lite0",))

    @staticmethod
    def resolutions(shown: Pictures, sizes: np.ndarray) -> tuple[int, ...]:
        """Beside the suited size about three quarters and half of it: most that a smaller picture loses, and what it saves, shows there."""
        return smaller(shown.size, SMALLEST, 0.72, 0.5) if not shown.fixed else (shown.size,)

    @staticmethod
    def inputs(preprocessing: Pictures) -> ImageInputs:
        return ImageInputs(preprocessing)

    @staticmethod
    def suit(preprocessing: Pictures, table: Table, options: Options) -> Pictures:
        """The preprocessing for these pictures: the asked size, else the model's own, but no larger than they are.

        Enlarging a picture costs time and shows the network nothing new. Sizes are multiples of 32. Raises `UserError`
        where a size is asked that the architecture does not read.
        """
        asked = options.size
        if options.long is not None:
            rule = "says how long texts are read, and the samples are pictures"
            raise fail(f"--long {options.long}", rule, "leave it out")
        if preprocessing.fixed:
            if asked not in (None, preprocessing.size):
                raise fail(
                    f"--size {asked}",
                    f"is not read by this architecture, which takes {preprocessing.size}",
                    "leave it out",
                )
            return preprocessing
        if asked is not None:
            return replace(preprocessing, size=asked)
        rows = np.linspace(0, len(table) - 1, min(LOOKS, len(table))).astype(int)
        sides = [min(size) for row in np.unique(rows) if (size := size_of(table, int(row))) is not None]
        if not sides:
            return preprocessing
        fitting = -(-int(np.median(sides)) // 32) * 32
        return replace(preprocessing, size=min(preprocessing.size, max(SMALLEST, fitting)))

    def tuning(self, head: nn.Module, preprocessing: Pictures) -> Tuning:
        return PICTURES
