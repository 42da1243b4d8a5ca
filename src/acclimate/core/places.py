"""Where things lie on this machine."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """`$ACCLIMATE_CACHE`, else `~/.cache/acclimate`: activations, fetched weights, remembered measurements."""
    return Path(os.environ.get("ACCLIMATE_CACHE") or Path.home() / ".cache" / "acclimate")
