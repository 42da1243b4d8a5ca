"""What a network would be needed for: whether one is there, and errors that say how to go on without."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import getproxies

from acclimate.core.errors import UserError, fail
from acclimate.models.packages.table import TEXTS
from acclimate.models.sources.packaged import PACKAGED

HUB = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
PATIENCE = 3.0
"""Seconds until a host counts as out of reach."""


def reachable(url: str) -> bool:
    """Whether a download is worth trying; behind a proxy the proxy decides; HF_HUB_OFFLINE says no."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return False
    parts = urlparse(url)
    if parts.scheme in getproxies():
        return True
    try:
        socket.create_connection((parts.hostname or "", parts.port or 443), timeout=PATIENCE).close()
    except OSError:
        return False
    return True


def packaged() -> str:
    """The packaged models, by the kind of their inputs."""
    return "; ".join(f"of {kind}: {', '.join(names)}" for kind, names in (("pictures", PACKAGED), ("texts", TEXTS)))


def out_of_reach(name: str) -> UserError:
    """The weights are not on this machine and cannot be fetched now."""
    return fail(
        f"model {name!r}",
        "has no weights on this machine, and there is no network to fetch them from",
        f"on a machine with a network: acclimate models get {name}; or give --weights FILE; "
        f"or use a packaged model ({packaged()})"
        + ("" if name.startswith("hf:") else f"; random:{name} starts without pretrained weights"),
    )


def fetched(url: str, path: Path, name: str, begin_of_sum: str | None = None) -> Path:
    """The file of a URL at `path`, whole or not at all; `name` is the model it belongs to. Raises `UserError`."""
    if not reachable(url):
        raise out_of_reach(name)
    import torch

    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        torch.hub.download_url_to_file(url, os.fspath(path), begin_of_sum, progress=False)
    except (OSError, RuntimeError) as error:
        rule, remedy = f"could not be downloaded ({error})", "try again, or give --weights FILE"
        raise fail(f"model {name!r}", rule, remedy) from None
    return path
