"""The content-addressed store of the cache: a key names a chunk of samples, written whole, checked by a sum, shared by processes."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from acclimate.core.errors import fail
from acclimate.core.places import cache_folder
from acclimate.core.run import write_whole
from acclimate.core.tree import Tree, leaves, rebuild, structure

FOLDER = "chunks"
SPARE = 500_000_000
"""Bytes of the disk that the cache never takes."""


def given_limit() -> int:
    """Bytes that $ACCLIMATE_CACHE_GB allows; 0 where it is not set. Raises `UserError` where it is no number above 0."""
    given = os.environ.get("ACCLIMATE_CACHE_GB")
    if not given:
        return 0
    try:
        if 0 < float(given) < float("inf"):
            return max(1, int(float(given) * 1e9))
    except ValueError:
        pass
    raise fail(f"ACCLIMATE_CACHE_GB {given!r}", "is not a number above 0", "give gigabytes, for example 20")


def content_key(*parts: object) -> str:
    """32 hex digits that depend on every part."""
    return hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=16).hexdigest()


@dataclass(frozen=True)
class Chunk:
    """A fixed set of samples in a fixed order: a tree of tensors with one row a sample, and notes."""

    tree: Tree
    notes: dict[str, str]


@dataclass
class Store:
    """Chunks by key. Safe for several processes: files appear by rename and are never changed.

    `limit`: bytes; `trim` removes the least recently used chunks above it (default: $ACCLIMATE_CACHE_GB, else 20 GB or half of
    what the disk has left, whichever is less).
    """

    folder: Path = field(default_factory=cache_folder)
    limit: int = 0
    spilled: int = 0
    """Bytes that could not be written because the disk was full, and were kept in memory instead."""

    def __post_init__(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            rule, remedy = (
                f"cannot be made: {(error.strerror or 'refused').lower()}",
                "let ACCLIMATE_CACHE name a folder",
            )
            raise fail(f"cache {str(self.folder)!r}", rule, remedy) from None
        if not self.limit:
            free = shutil.disk_usage(self.folder).free + self.size()
            self.limit = given_limit() or int(min(20e9, free / 2))

    def path(self, key: str) -> Path:
        return self.folder / FOLDER / key[:2] / f"{key}.safetensors"

    def get(self, key: str) -> Chunk | None:
        """The chunk, memory-mapped; None where it is not there or its sum does not fit (a damaged file is removed)."""
        path = self.path(key)
        try:
            with safe_open(path, framework="pt") as file:
                notes = file.metadata()
                tensors = [file.get_tensor(name) for name in sorted(file.keys(), key=int)]
            if int(notes.pop("sum")) != _sum(tensors):
                raise ValueError("sum")
            os.utime(path)
        except FileNotFoundError:
            return None
        except (SafetensorError, ValueError, KeyError, TypeError, OSError):
            path.unlink(missing_ok=True)
            return None
        return Chunk(rebuild(json.loads(notes.pop("structure")), tensors), notes)

    def put(self, key: str, tree: Tree, **notes: str) -> Chunk:
        """Write the chunk and return it as `get` would; where the disk is full it stays in memory and `spilled` says so."""
        tensors = [leaf.contiguous() for leaf in leaves(tree)]
        marks = {**notes, "structure": json.dumps(structure(tree)), "sum": str(_sum(tensors))}
        try:
            write_whole(
                self.path(key), save({str(i): tensor for i, tensor in enumerate(tensors)}, marks), durable=False
            )
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            self.spilled += sum(tensor.nbytes for tensor in tensors)
            return Chunk(tree, notes)
        return self.get(key) or Chunk(tree, notes)

    def room(self) -> int:
        """Bytes that new chunks may take, older ones making way; some of the disk is always left free."""
        return max(0, min(self.limit, shutil.disk_usage(self.folder).free + self.size() - SPARE))

    def files(self) -> list[os.stat_result]:
        return [stat for _, stat in self._entries()]

    def size(self) -> int:
        return sum(stat.st_size for _, stat in self._entries())

    def trim(self, limit: int | None = None) -> int:
        """Remove the least recently used chunks until `limit` bytes are left; returns the bytes removed."""
        entries = sorted(self._entries(), key=lambda entry: entry[1].st_mtime)
        excess = sum(stat.st_size for _, stat in entries) - (self.limit if limit is None else limit)
        removed = 0
        for path, stat in entries:
            if removed >= excess:
                break
            path.unlink(missing_ok=True)
            removed += stat.st_size
        return removed

    def _entries(self) -> list[tuple[Path, os.stat_result]]:
        found = []
        for path in (self.folder / FOLDER).glob("*/*"):
            try:
                found.append((path, path.stat()))
            except FileNotFoundError:
                continue
        return found


def _sum(tensors: list[torch.Tensor]) -> int:
    total = 0
    for tensor in tensors:
        total = zlib.crc32(tensor.detach().reshape(-1).view(torch.uint8).numpy().data, total)
    return total
