"""A folder of the hub that a package carries as it is: config.json, model.safetensors and tokenizer.json."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import load_file

from acclimate.models.packages.content import CONFIG, TOKENIZER, WEIGHTS, Content


def read(files: dict[str, Path]) -> Content:
    """`files`: by name, the three of the folder."""
    config = json.loads(files[CONFIG].read_text(encoding="utf-8"))
    tokenizer = json.loads(files[TOKENIZER].read_text(encoding="utf-8"))
    return Content(config, load_file(files[WEIGHTS]), tokenizer)
