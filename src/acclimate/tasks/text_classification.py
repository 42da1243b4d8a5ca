"""`TextClassification`: texts, or pairs of texts, into one class or several labels."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import torch

from acclimate.core.errors import fail
from acclimate.core.recipe import Options
from acclimate.data import near
from acclimate.data.gate import Finding
from acclimate.data.readers.texts import joined
from acclimate.data.table import Table
from acclimate.data.text_checks import check_texts, empty_rows, refuse_numbers
from acclimate.models.backbone import Backbone
from acclimate.models.texts import Texts
from acclimate.tasks import text_baseline
from acclimate.tasks.classification import Classification, are_names
from acclimate.tasks.read_head import ReadHead
from acclimate.tasks.task import Baseline, Came, Starts
from acclimate.tasks.text_inputs import TextInputs
from acclimate.tasks.tuning import LANGUAGE_MODELS, Tuning

ENGLISH, MULTILINGUAL = ("bge-small", "minilm", "e5-small"), ("e5-small", "bge-small", "minilm")
"""Packaged models, best first (docs/log.md)."""
LENGTHS, CUT = (128, 48), 0.1
"""Tokens that a model is also looked at with, where at least this share of the texts is longer."""
LOOKS = 200
"""Texts whose letters decide which of them."""
FOREIGN = 0.02
"""A share of letters beyond ASCII above this says: not English."""


class TextClassification(Classification):
    name = "text_classification"
    mark = near.NAME
    kind = "texts"
    hub_tag = "text-classification"
    example = '"a text"'

    @staticmethod
    def matches(table: Table) -> bool:
        """Texts, with names or lists of names as targets."""
        return table.form == "text" and are_names(table)

    @staticmethod
    def unfit(table: Table) -> dict[int, str]:
        """Empty texts. Raises `UserError` for a column of numbers."""
        refuse_numbers(table)
        return empty_rows(table)

    @staticmethod
    def marks(raws: Sequence[str] | Sequence[tuple[str, ...]], workers: int) -> np.ndarray:
        """uint8 [n, 80], of pairs [n, 160]: digests and signatures (`data/near.py`)."""
        return near.marks(pa.chunked_array([pa.array(map(list, raws) if isinstance(raws[0], tuple) else raws)]))

    @staticmethod
    def same(marks: np.ndarray, table: Table | None = None) -> np.ndarray:
        return near.alike_by(marks) if table is None else near.alike(table.column("sample"))

    @staticmethod
    def examine(table: Table) -> list[Finding]:
        return check_texts(table)

    @staticmethod
    def models(table: Table) -> Starts:
        """Models to start from where none is named: multilingual ones first where texts do not look English."""
        step = max(1, len(table) // LOOKS)
        texts = table.column("sample").take(list(range(0, len(table), step))).to_pylist()
        letters = [letter for text in texts for letter in "".join(text or ())[:1000] if letter.isalpha()]
        foreign = sum(not unicodedata.name(letter, "").startswith("LATIN") or letter > "\x7f" for letter in letters)
        share = foreign / max(1, len(letters))
        if share > FOREIGN:
            return Starts(MULTILINGUAL, f"{share:.0%} of the letters are not English")
        return Starts(ENGLISH)

    @staticmethod
    def resolutions(shown: Texts, sizes: np.ndarray) -> tuple[int, ...]:
        """Shorter readings where enough texts are longer: else they would be the same."""
        shorter = (length for length in LENGTHS if length < shown.size and (sizes > length).mean() >= CUT)
        return (shown.size, *shorter)

    @staticmethod
    def inputs(preprocessing: Texts) -> TextInputs:
        return TextInputs(preprocessing)

    @staticmethod
    def suit(preprocessing: Texts, table: Table, options: Options) -> Texts:
        """Raises `UserError` for more tokens than the architecture reads."""
        size = options.size or preprocessing.size
        if size > preprocessing.most:
            raise fail(f"--size {size}", "is more tokens than the model reads", f"at most {preprocessing.most}")
        return replace(preprocessing, size=size, long=options.long or preprocessing.long)

    def baseline(
        self, table: Table, train: np.ndarray, val: np.ndarray, rows: np.ndarray, came: Came | None
    ) -> Baseline | None:
        """TF-IDF and logistic regression (`tasks.text_baseline`)."""
        texts = joined(table.column("sample"), "\n").to_pylist()
        encoded = self.encode(table.column("target"))
        if len(encoded) == 0 or (encoded[train].ndim == 1 and len(np.unique(encoded[train])) < len(self.classes)):
            return None

        def judge(predictions: np.ndarray) -> float:
            return float(self.losses(predictions, encoded[val]).mean())

        predict = text_baseline.fitted([texts[i] for i in train], encoded[train], [texts[i] for i in val], judge)

        held = predict([texts[i] for i in val])

        def answers(asked: np.ndarray) -> np.ndarray:
            return self.at_its_best(predict([texts[i] for i in asked]), held, encoded[val])

        return Baseline(text_baseline.NAME, answers(rows), answers)

    def head(self, features: torch.Tensor, backbone: Backbone) -> ReadHead:
        return ReadHead.of(features, len(self.classes))

    def tuning(self, head: ReadHead, preprocessing: Texts) -> Tuning:
        return LANGUAGE_MODELS[preprocessing.family].at(head.width)
