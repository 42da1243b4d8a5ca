"""Which pictures a YOLO data set has in which split, and what its classes are called: from data.yaml, or from the folders alone."""

from __future__ import annotations

import os
import posixpath
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from acclimate.core.errors import Problems, UserError, fail
from acclimate.data.readers.box_files import Finder, layers, refuse_different_names, split_above, within
from acclimate.data.readers.folders import FILES, walk
from acclimate.data.readers.reader import Passed
from acclimate.data.readers.words import has_image_suffix, is_text_file, suffix
from acclimate.data.table import SPLITS

KEYS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
"""Split -> what it may be called in a data.yaml."""
YAML = (".yaml", ".yml")
USUAL = ("data.yaml", "data.yml", "dataset.yaml")
LARGEST = 1 << 20
"""Bytes of a data.yaml."""
NAMES = ("classes.txt", "obj.names", "_darknet.labels", "classes.names", "data.names")
"""Files that hold a name a line."""
FOLDERS = frozenset({"images", "labels"})


@dataclass(frozen=True)
class Sets:
    """What a YOLO data set says beside its labels."""

    root: Path
    pictures: list[tuple[str | None, list[str]]]
    """Paths relative to the root, or absolute, of each split."""
    names: dict[int, str]
    notes: tuple[str, ...] = ()
    keypoints: bool = False
    """Whether rows go on with key points behind the box."""

    @property
    def classes(self) -> list[str]:
        return list(dict.fromkeys(self.names[number] for number in sorted(self.names)))


def contents(path: Path) -> dict[str, Any] | None:
    """A data.yaml, every value as the text that is written (a class "no" stays "no"); None for any other file."""
    try:
        if path.stat().st_size > LARGEST:
            return None
        found = yaml.load(path.read_bytes(), Loader=yaml.BaseLoader)
    except (OSError, yaml.YAMLError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and {"names", *KEYS} & found.keys() else None


def is_described(path: Path) -> bool:
    """Whether a file is a data.yaml that names classes and pictures."""
    said = (contents(path) or {}).keys()
    return bool({"names", "nc"} & said and KEYS.keys() & said)


def yaml_in(folder: Path) -> Path | None:
    """The data.yaml of a folder, also one that is called so and is none. Raises `UserError` where several may be it."""
    files = sorted(path for path in folder.iterdir() if suffix(path.name) in YAML and path.is_file())
    found = list(filter(is_described, files)) or [path for path in files if contents(path) is not None]
    usual = [path for path in found if path.name in USUAL]
    if len(found) > 1 and len(usual) != 1:
        listed = ", ".join(path.name for path in found)
        raise fail(f"{folder}: {listed}", "are several descriptions of data", f"give one of them: {found[0]}")
    return next(iter(usual or found or [path for path in files if path.name in USUAL]), None)


def sets_of(source: Path, passed: Passed) -> Sets:
    """Raises `UserError` for names that are missing, counted wrongly or not the same everywhere, and pictures that are not there."""
    path = yaml_in(source) if source.is_dir() else source
    if path is None:
        return from_folders(source, passed, names_beside(source))
    said = contents(path)
    if said is None:
        hint = "write YAML with train and val (folders or lists of pictures) and names"
        raise fail(str(path), "is no description of YOLO data", hint)
    return Described(path, said, passed).sets()


@dataclass(frozen=True)
class Described:
    """A data.yaml and what it says."""

    path: Path
    said: dict[str, Any]
    passed: Passed

    @property
    def root(self) -> Path:
        return self.path.parent

    def sets(self) -> Sets:
        problems = Problems()
        names = problems.attempt(self.names) or {}
        if not any(self.said.get(key) for keys in KEYS.values() for key in keys):
            problems.stop()
            return from_folders(self.root, self.passed, names)
        entries, notes = self.entries(problems)
        problems.stop()
        alone = len(entries) == 1  # one set, of which the splits are cut
        pictures = [(None if alone else split, self.listed(paths)) for split, paths in entries.items()]
        return Sets(self.root, pictures, names, notes, keypoints="kpt_shape" in self.said)

    def names(self) -> dict[int, str]:
        """Class number -> name, from a list or a mapping, else from a file of names."""
        said = self.said.get("names")
        if not said:
            return names_beside(self.root)
        pairs = dict(enumerate(said)) if isinstance(said, list) else said
        try:
            named = {int(number): str(name).strip() for number, name in pairs.items()}
        except (AttributeError, ValueError):
            rule = "is no list and no mapping of numbers to names"
            raise fail(f"names of {self.path}", rule, "write names: [one, other]") from None
        if twice := next((name for name, count in Counter(named.values()).items() if count > 1), None):
            numbers = ", ".join(str(number) for number, name in named.items() if name == twice)
            raise fail(
                f"{twice!r} in the names of {self.path}", f"is the name of classes {numbers}", "name each its own"
            )
        count = self.said.get("nc")
        if count and count != str(len(named)):
            rule = f"is not the number of its names, {len(named)}"
            raise fail(f"nc {count} of {self.path}", rule, "correct nc or names")
        return named

    def bases(self) -> list[Path]:
        """What paths may be relative to: `path`, itself relative to the file or the folder above it, else the file's own folder."""
        said = os.path.expanduser(str(self.said.get("path") or ""))  # noqa: PTH111
        named = [self.root / said, self.root.parent / said, self.root / Path(said).name] if Path(said).name else []
        return [*named, self.root]

    def entries(self, problems: Problems) -> tuple[dict[str, list[Path]], tuple[str, ...]]:
        """(split -> its folders and lists, notes): a split that is the same as an earlier one is left out."""
        found: dict[str, list[Path]] = {}
        notes: list[str] = []
        for split, keys in KEYS.items():
            said = next((self.said[key] for key in keys if self.said.get(key)), None)
            if said is None:
                continue
            each = [str(one) for one in (said if isinstance(said, list) else [said])]
            places = [(one, self.place(one)) for one in each]
            lacking = [one for one, place in places if place is None]
            there = [place for _, place in places if place is not None]
            if lacking and (split == "train" or there):
                looked = ", ".join(dict.fromkeys(os.path.normpath(base) for base in self.bases()))
                said = f"{split}: {', '.join(lacking)} in {self.path}"
                problems.add(said, "is not there", f"paths are read relative to {looked}")
            elif lacking:
                notes.append(f"{self.path.name}: {split} is not there ({', '.join(lacking)}) and read without")
            elif (other := next((name for name, paths in found.items() if paths == there), None)) is not None:
                told = f"names the same pictures for {other} and {split}: they are read once, as {other}"
                notes.append(f"{self.path.name} {told}")
            else:
                found[split] = there
        if not found and not problems.found:
            problems.add(str(self.path), "names no pictures that are there", "correct its train and val")
        return found, tuple(notes)

    def place(self, said: str) -> Path | None:
        """Where a folder or list is; Roboflow writes "../train/images" for what lies beside its data.yaml."""
        bare = said
        while bare.startswith("../"):
            bare = bare[3:]
        tried = (base / name for name in dict.fromkeys([said, bare]) for base in self.bases())
        return next((Path(os.path.normpath(path)) for path in tried if path.exists()), None)

    def listed(self, places: list[Path]) -> list[str]:
        """The pictures of folders, with all below them, and of lists, one a line."""
        found: list[str] = []
        for place in places:
            if place.is_dir():
                folder = within(self.root, place)
                below = walk(place, "", self.passed, FILES)
                found += (posixpath.normpath(f"{folder}/{one}") for one in below if has_image_suffix(one))
            elif is_text_file(place.name):
                finder = Finder(self.root, [place.parent, *self.bases()])
                lines = map(str.strip, place.read_text("utf-8", "replace").splitlines())
                found += (finder.find(line) or line for line in lines if line)
            else:
                found.append(within(self.root, place))
        return found


def from_folders(root: Path, passed: Passed, names: dict[int, str]) -> Sets:
    """Where no data.yaml names them: the pictures below `images`, else all, in splits as their folders are called."""
    pictures = [path for path in walk(root, "", passed, FILES) if has_image_suffix(path)]
    inside = [path for path in pictures if "images" in path.split("/")[:-1]]
    splits = {path: split_above(path) for path in inside or pictures}
    parts = [(split, [path for path, said in splits.items() if said == split]) for split in (*SPLITS, None)]
    return Sets(root, [(split, paths) for split, paths in parts if paths], names)


def name_files(root: Path) -> Iterator[Path]:
    yield from (folder / name for folder, names in layers(root, FOLDERS) for name in names if name in NAMES)


def names_beside(root: Path) -> dict[int, str]:
    """Class number -> name from files that hold one a line. Raises `UserError` where there is none, or they differ."""
    found = {path: path.read_text("utf-8-sig", "replace").rstrip().splitlines() for path in name_files(root)}
    found = {path: [line.strip() for line in lines] for path, lines in found.items() if lines}
    if not found:
        raise without_names(root)
    refuse_different_names(root, {within(root, path): lines for path, lines in found.items()})
    first, *others = found
    if odd := next((path for path in others if found[path] != found[first]), None):
        raise fail(
            f"{first} and {odd}", "hold the names in another order, so a number means two classes", "keep one of them"
        )
    return dict(enumerate(found[first]))


def without_names(root: Path) -> UserError:
    return fail(
        f"{root}: a YOLO folder without names",
        "labels are numbers, and nothing says what classes they are",
        "add classes.txt with a name a line, or a data.yaml with train, val and names",
    )
