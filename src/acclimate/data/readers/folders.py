"""Class folders, with or without train / val / test on top; without labels, any folder of pictures."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from acclimate.core.errors import UserError, fail
from acclimate.data.readers.formats import FORMATS
from acclimate.data.readers.reader import Columns, Passed, Reader
from acclimate.data.readers.words import (
    has_image_suffix,
    is_hidden,
    is_text_file,
    may_be_picture,
    natural_key,
    split_of,
    suffix,
)
from acclimate.data.table import SPLITS, Table

HIDDEN = "hidden files and folders ignored"
LOOPS = "links back to a folder above ignored"


@dataclass(frozen=True)
class Kind:
    """What files are samples."""

    name: str
    """What messages call them: "pictures"."""
    suffixes: tuple[str, ...]
    """How most of them end."""
    may_be: Callable[[str], bool]
    """Whether a file of this name in a class folder is a sample."""
    surely: Callable[[str], bool]
    """Whether a file of this name is one wherever it lies."""

    @property
    def other(self) -> str:
        return f"files that are no {self.name} passed over"

    @property
    def outside(self) -> str:
        return f"{self.name} outside class folders passed over"

    @property
    def empty(self) -> str:
        return f"class folders without {self.name}"


IMAGES_SHOWN = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".webp")
PICTURES = Kind("pictures", IMAGES_SHOWN, may_be_picture, has_image_suffix)
TEXTS = Kind("texts", (".txt",), is_text_file, is_text_file)
FILES = Kind("files", (), bool, bool)


def matches(source: Any) -> bool:
    return isinstance(source, Path) and source.is_dir()


def read(source: Path, columns: Columns) -> Table:
    """Rows go by split (train, val, test), then class in natural order, then path; symlinks are followed.

    Raises `UserError` for a folder without pictures, or, where labels are wanted, without class folders.
    """
    columns.refuse("class folders")
    table = collect(source, columns, PICTURES)
    if table.passed.get(PICTURES.other, (0, []))[0] > len(table):
        refuse_mixed(source)
    return table


def collect(source: Path, columns: Columns, kind: Kind) -> Table:
    """The files of a kind as a table of paths."""
    notes = Passed()
    found = [
        (split, label, paths)
        for split, top in split_folders(source, notes, kind)
        for label, paths in (
            class_folders(source, top, notes, kind) if columns.labels else [(None, walk(source, top, notes, kind))]
        )
    ]
    parts = [(split, label, pa.array(paths, pa.string())) for split, label, paths in found]
    if not any(len(paths) for _, _, paths in parts):
        raise nothing_found(source, notes, kind, columns.labels)
    rows = {"sample": pa.chunked_array([paths for _, _, paths in parts], pa.string())}
    if columns.labels:
        refuse_wrapper(source, {label for _, label, paths in parts if len(paths)}, kind)
        rows["target"] = repeated([label for _, label, _ in parts], parts)
    if parts[0][0] is not None:
        rows["split"] = repeated([split for split, _, _ in parts], parts)
    return Table(pa.table(rows), "path", str(source), "folders", root=source, passed=notes.named)


def repeated(words: list, parts: list) -> pa.ChunkedArray:
    counts = [len(paths) for _, _, paths in parts]
    return pa.chunked_array([pa.array(words, pa.string()).take(pa.array(np.repeat(np.arange(len(words)), counts)))])


def split_folders(root: Path, notes: Passed, kind: Kind) -> list[tuple[str | None, str]]:
    """(split, folder) of each split folder in the order of splits, else one (None, "") for the root itself.

    The folders at the top are splits when they all are named so, or when train and another split are among them (a
    class may be called "train"); samples in a folder beside splits are then an error.
    """
    files, folders = listing(root, "", Passed(), kind)
    words = {name: split_of(name) for name in folders}
    splits = {word for word in words.values() if word}
    if not splits or (None in words.values() and not ("train" in splits and len(splits) > 1)):
        return [(None, "")]
    listing(root, "", notes, kind)
    notes.add(kind.outside, *filter(kind.surely, files))
    beside = [name for name, word in words.items() if word is None]
    stray = [name for name in beside if any(map(kind.surely, walk(root, name, Passed(), kind)))]
    if stray:
        raise fail(
            f"{root}: {', '.join(stray)}",
            f"holds {kind.name} beside folders named by split; it is not known to which split they belong",
            "move them into one of the splits, or out of the folder",
        )
    ordered = sorted((SPLITS.index(word), name) for name, word in words.items() if word)
    return [(SPLITS[index], name) for index, name in ordered]


def class_folders(root: Path, top: str, notes: Passed, kind: Kind) -> Iterator[tuple[str, list[str]]]:
    """(class, its samples) of each class folder in natural order; a class holds everything below its folder."""
    files, folders = listing(root, top, notes, kind)
    notes.add(kind.outside, *(join(top, name) for name in files if kind.surely(name)))
    for name in sorted(folders, key=natural_key):
        paths = list(walk(root, join(top, name), notes, kind))
        notes.add(kind.empty, *([] if paths else [join(top, name)]))
        yield name, paths


def walk(root: Path, folder: str, notes: Passed, kind: Kind, above: frozenset[str] | None = None) -> Iterator[str]:
    """Paths, relative to the root, of the files below a folder that may be samples, by name within each folder."""
    real = os.path.realpath(root / folder)
    if above is None:
        above = frozenset(os.path.realpath(parent) for parent in (root / folder).absolute().parents)
    if real in above:
        notes.add(LOOPS, folder)
        return
    files, folders = listing(root, folder, notes, kind)
    for name in files:
        if kind.may_be(name):
            yield join(folder, name)
        else:
            notes.add(kind.other, join(folder, name))
    for name in folders:
        yield from walk(root, join(folder, name), notes, kind, above | {real})


def listing(root: Path, folder: str, notes: Passed, kind: Kind) -> tuple[list[str], list[str]]:
    """(files, folders) of a folder, sorted by name, hidden ones left out and counted. A broken link is a file, a pipe is none."""
    files: list[str] = []
    folders: list[str] = []
    try:
        with os.scandir(root / folder) as entries:
            for entry in entries:
                if is_hidden(entry.name):
                    notes.add(HIDDEN, join(folder, entry.name))
                elif entry.is_dir():
                    folders.append(entry.name)
                elif entry.is_file() or entry.is_symlink():
                    files.append(entry.name)
                else:
                    notes.add(kind.other, join(folder, entry.name))
    except OSError as error:
        raise fail(
            str(root / folder), f"cannot be listed: {error.strerror}", "check who may read the folder"
        ) from error
    return sorted(files), sorted(folders)


def join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def tables_in(root: Path) -> list[str]:
    return [name for name in listing(root, "", Passed(), FILES)[0] if suffix(name) in FORMATS]


def nothing_found(root: Path, notes: Passed, kind: Kind, labels: bool) -> UserError:
    """Why a folder gave no sample, with the likeliest remedy."""
    if kind.outside in notes.named:
        return fail(
            str(root),
            f"holds {notes.named[kind.outside][0]} {kind.name} but no class folders",
            f"put the {kind.name} of each class into a folder named after the class, or give a table with a label column",
        )
    if tables := tables_in(root):
        rule = "holds no samples in class folders" if labels else f"holds no {kind.name}"
        return fail(str(root), rule, f"to read the table, give {root / tables[0]}")
    if any(root.iterdir()):
        return fail(str(root), f"holds no {kind.name}", f"{kind.name} are files that end in {', '.join(kind.suffixes)}")
    per_class = f"give a folder with one folder of {kind.name} per class"
    remedy = per_class if labels else "give a folder of pictures or of text files, or a table; no classes are needed"
    return fail(str(root), "is an empty folder", remedy)


def mostly_texts(root: Path) -> bool:
    """Whether the folders below hold more text files than pictures, or, where they hold nothing, the folder itself.

    A first picture before any text file decides at once: a large folder of pictures is not walked twice.
    """
    names, folders = listing(root, "", Passed(), FILES)
    below = (path for name in folders for path in walk(root, name, Passed(), FILES))
    first = next(below, None)
    texts = pictures = 0
    for path in names if first is None else itertools.chain([first], below):
        texts, pictures = texts + TEXTS.surely(path), pictures + PICTURES.surely(path)
        if pictures and not texts:
            return False
    return texts > pictures


def refuse_mixed(root: Path) -> None:
    """Pictures with a text file each are pictures; where texts are more, it is not known what the samples are."""
    texts = pictures = 0
    for path in walk(root, "", Passed(), FILES):
        texts, pictures = texts + TEXTS.surely(path), pictures + PICTURES.surely(path)
    if texts > pictures > 0:
        raise fail(
            str(root),
            f"holds {pictures:,} pictures and {texts:,} text files; it is not known which are the samples",
            "move the files of one kind out of the folder",
        )


def refuse_wrapper(root: Path, classes: set, kind: Kind) -> None:
    """One class only, because the folder given is one level too high or belongs to a table."""
    if len(classes) != 1:
        return
    only = root / next(iter(classes))
    if only.is_dir():
        files, folders = listing(only, "", Passed(), kind)
        if len(folders) > 1 and not any(map(kind.surely, files)):
            raise fail(str(root), f"holds one folder, {only.name}, which holds {len(folders)} folders", f"give {only}")
    if tables := tables_in(root):
        raise fail(
            str(root),
            f"holds one class folder, {only.name}, beside a table",
            f"to read the table, give {root / tables[0]}",
        )


reader = Reader(matches, read)
