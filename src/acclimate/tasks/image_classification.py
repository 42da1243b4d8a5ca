"""`ImageClassification`: pictures into one class or several labels."""

from __future__ import annotations

from acclimate.data.table import Table
from acclimate.models.card import Preprocessing
from acclimate.tasks.classification import Classification, are_names
from acclimate.tasks.image_inputs import ImageInputs


class ImageClassification(Classification):
    name = "image_classification"

    @staticmethod
    def matches(table: Table) -> bool:
        """Pictures, with names or lists of names as targets."""
        return table.form in ("path", "bytes") and are_names(table)

    def inputs(self, preprocessing: Preprocessing) -> ImageInputs:
        return ImageInputs(preprocessing)
