"""Files that `predict` leaves for each sample in a folder: named as the sample is, and never over another."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from acclimate.cli.mistakes import MACHINE
from acclimate.core.errors import fail

if TYPE_CHECKING:
    from acclimate.data.found import Sample
    from acclimate.tasks.forms import Piece

STDIN = "-"


def check_folder(option: str, name: str) -> None:
    """Raises `UserError` where the folder holds anything: that might be the user's own pictures or labels, or those of another call."""
    folder = Path(name)
    above = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not above.is_dir():
        raise fail(f"--{option} {name!r}", f"{above} is no folder", "name a new one")
    if folder.is_dir() and any(folder.iterdir()):
        raise fail(f"--{option} {name!r}", "is not empty", "name a new folder, or empty this one")


class Pieces:
    """The pieces of one kind, in `folder`; below it they lie as the samples lie below what the paths have in common."""

    def __init__(self, folder: str, piece: Piece, paths: Sequence[str]) -> None:
        self.folder = Path(folder)
        self.whole = os.path.abspath(folder)  # noqa: PTH100
        self.piece = piece
        self.home = home_of(paths)

    def begin(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, content in self.piece.beside.items():
            self._write(self.folder / name, content)

    def over(self, rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """The rows, each as soon as its piece lies there; what cannot be read has none."""
        for row in rows:
            if "error" not in row:
                self._leave(row)
            yield row

    def holds(self, sample: Sample) -> bool:
        """Whether a sample is what was just written, which is none, where the folder lies in one that is read."""
        return os.path.abspath(str(sample.named["path"])).startswith(self.whole + os.sep)  # noqa: PTH100

    def _leave(self, row: dict[str, Any]) -> None:
        try:
            self._write(self.place(row["path"]), self.piece.made(row))
        except (OSError, ValueError) as error:  # the sample has gone, or its name is too long with another ending
            if isinstance(error, OSError) and error.errno in MACHINE:
                raise
            why = getattr(error, "strerror", None) or error
            click.echo(f"{row['path']}: no {self.piece.ending} could be made of it: {why}", err=True)

    @staticmethod
    def _write(path: Path, content: bytes) -> None:
        from acclimate.core.run import write_whole

        write_whole(path, content, durable=False)

    def place(self, path: str) -> Path:
        """a/x.jpg -> FOLDER/a/x.txt, and FOLDER/a/x.png.txt for a/x.png where the other is there already."""
        whole = os.path.abspath(path)  # noqa: PTH100
        inside = os.path.commonpath([whole, self.home]) == self.home
        # Outside of what the paths have in common (names on stdin) the whole path keeps names apart.
        name = os.path.relpath(whole, self.home if inside else os.sep)
        place = (self.folder / name).with_suffix(self.piece.ending)
        return self.folder / f"{name}{self.piece.ending}" if place.exists() else place


def home_of(paths: Sequence[str]) -> str:
    """The folder that paths on a command line have in common; the working folder where all names come from stdin."""
    folders = [_folder(path) for path in paths if path != STDIN] or [os.curdir]
    return os.path.commonpath(map(os.path.abspath, folders))


def _folder(path: str) -> str:
    """The folder itself, that of a file, or the one above the first wildcard."""
    if Path(path).is_dir():
        return path
    while glob.has_magic(path) and not Path(path).exists():
        path = os.path.dirname(path)  # noqa: PTH120
    return path if Path(path).is_dir() else os.path.dirname(path)  # noqa: PTH120
