"""Pascal VOC: one XML file a picture, beside it or in a folder of annotations, with or without image sets or split folders."""

from __future__ import annotations

import itertools
import math
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from acclimate.core.errors import fail
from acclimate.data.readers.box_files import (
    IN_NO_SET,
    NO_BOX,
    NO_PICTURE,
    OTHER_PICTURE,
    SET_WITHOUT_PICTURE,
    TWICE,
    UNREAD_LABELS,
    both,
    layers,
    refuse_many,
    split_above,
)
from acclimate.data.readers.boxes import Frames, Gathered, Placed
from acclimate.data.readers.folders import FILES, walk
from acclimate.data.readers.reader import Columns, Passed, Reader
from acclimate.data.readers.words import has_image_suffix, split_of, suffix
from acclimate.data.table import SPLITS, Table

ANNOTATIONS = frozenset({"annotations", "annotation", "xml", "xmls"})
SIDES = ANNOTATIONS | {"jpegimages", "images", "image", "imgs", "pictures", "labels"}
"""Folders that part pictures from their annotations: a picture and its annotation have the same path without them."""
SETS = ("ImageSets/Main", "ImageSets", "imagesets/main")
LOOKED_AT = 5
"""XML files that are looked into."""
BEGINNING = 4096
"""Bytes of a file in which its first tag stands."""
CORNERS = ("xmin", "ymin", "xmax", "ymax")
DOCTYPES = tuple("<!DOCTYPE".encode(encoding) for encoding in ("utf-8", "utf-16-le", "utf-16-be"))
OTHER_XML = "XML files that annotate no picture passed over"


def matches(source: Any) -> bool:
    return isinstance(source, Path) and source.is_dir() and any(map(is_annotation, some_xml(source)))


def some_xml(root: Path) -> Iterator[Path]:
    found = (folder / name for folder, names in layers(root, ANNOTATIONS) for name in names if suffix(name) == ".xml")
    return itertools.islice(found, LOOKED_AT)


def is_annotation(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return re.search(rb"<annotation[\s>]", file.read(BEGINNING).replace(b"\0", b"")) is not None
    except OSError:
        return False


def read(source: Path, columns: Columns) -> Table:
    """Rows go by split (train, val, test), then as the image sets or the names of the files do.

    Image sets, where there are any, say which pictures are samples; else folders named by split do. Corners that are
    counted from 1 (`from_one`) are brought to 0. Raises `UserError` for a folder without annotations, where more than 5 %
    of them cannot be read, and where no picture or no box is left.
    """
    columns.refuse("Pascal VOC")
    passed = Passed()
    files = list(walk(source, "", passed, FILES))
    folder = Folder(source, [path for path in files if has_image_suffix(path)], passed)
    annotations = [path for path in files if suffix(path) == ".xml"]
    if not annotations:
        hint = "give a folder of pictures with an .xml file for each, or with JPEGImages and Annotations"
        raise fail(str(source), "holds no .xml file with the boxes of a picture", hint)
    folder.annotate(annotations)
    found = Gathered(passed=passed)
    for split, picture in folder.samples():
        annotation = folder.annotated.get(picture)
        found.picture(picture, split, annotation.said if annotation else None, annotation is not None)
        for label, corners, difficult in annotation.objects if annotation else ():
            found.box(label, corners, difficult=difficult)
    return found.table(source, "voc", source, from_one)


@dataclass(frozen=True)
class Annotation:
    """What an XML file says: the name of its picture, its size, and (class, corners, difficult) of each object."""

    filename: str
    said: tuple[int, int] | None
    objects: list[tuple[str, tuple[float, ...], bool]]


@dataclass
class Folder:
    """The pictures of a VOC folder, by path relative to its root, and their annotations as they are found."""

    root: Path
    pictures: list[str]
    passed: Passed
    annotated: dict[str, Annotation] = field(default_factory=dict)
    lost: set[str] = field(default_factory=set)
    """Pictures whose annotation cannot be read."""

    def __post_init__(self) -> None:
        self.by_home: dict[tuple[str, str], str] = {}
        self.by_stem: dict[str, list[str]] = {}
        for picture in self.pictures:
            self.by_home.setdefault((home(picture), stem(picture)), picture)
            self.by_stem.setdefault(stem(picture), []).append(picture)

    def annotate(self, paths: list[str]) -> None:
        """Read XML files and find their pictures."""
        wrong, others = [], 0
        for path in paths:
            try:
                annotation = parse(self.root / path, self.passed, path)
            except (ElementTree.ParseError, OSError, ValueError) as error:
                wrong.append(f"{path} ({error})")
                self.lost.update(filter(None, [self.called(path, stem(path))]))
                continue
            if annotation is None:
                self.passed.add(OTHER_XML, path)
                others += 1
                continue
            picture = self.picture(path, annotation.filename)
            if picture is None:
                self.passed.add(NO_PICTURE.what, path)
            elif picture in self.annotated:
                self.passed.add(TWICE.what, f"{picture} ({path})")
            else:
                self.annotated[picture] = annotation
        self.passed.add(UNREAD_LABELS.what, *wrong)
        refuse_many(self.root, UNREAD_LABELS.what, len(wrong), len(paths) - others, wrong, "mend or remove them")

    def picture(self, path: str, filename: str) -> str | None:
        """The picture that is called like the annotation, else the one that its tag `filename` says, with or without suffix."""
        name = filename.replace("\\", "/").rpartition("/")[2]
        tagged = self.called(path, stem(name)) if name else None
        own = self.called(path, stem(path))
        if own and tagged and own != tagged:
            self.passed.add(OTHER_PICTURE.what, f"{path} ({name})")
        return own or tagged

    def called(self, path: str, name: str) -> str | None:
        """The picture of this stem beside an annotation or in the folder of pictures that goes with it, else the only one."""
        if (found := self.by_home.get((home(path), name))) is not None:
            return found
        others = self.by_stem.get(name, ())
        return others[0] if len(others) == 1 else None

    def samples(self) -> Iterator[tuple[str | None, str]]:
        """(split, picture) of every row; a picture without an annotation is one where it lies among annotated ones."""
        sets = image_sets(self.root)
        if sets:
            yield from self.named(sets)
            return
        folders = {posixpath.dirname(picture) for picture in self.annotated}
        there = [one for one in self.pictures if posixpath.dirname(one) in folders and one not in self.lost]
        splits = {one: split_above(one) for one in there}
        for split in (*SPLITS, None):
            yield from ((split, one) for one in there if splits[one] == split)

    def named(self, sets: dict[str, list[str]]) -> Iterator[tuple[str | None, str]]:
        """The pictures of the image sets."""
        named = set[str]()
        for split, names in sets.items():
            for name in names:
                picture = self.by_home.get(("", stem(name))) or self.called("", stem(name))
                if picture is None:
                    self.passed.add(SET_WITHOUT_PICTURE.what, f"{name} ({split})")
                    continue
                named.add(picture)
                if picture not in self.lost:
                    yield split, picture
        self.passed.add(IN_NO_SET.what, *(one for one in self.pictures if one not in named and not home(one)))


def image_sets(root: Path) -> dict[str, list[str]]:
    """Split -> the names of its pictures, as the image sets say; `trainval` is train where there is no train and no val."""
    for folder in SETS:
        files = {path.stem: path for path in sorted((root / folder).glob("*.txt"))} if (root / folder).is_dir() else {}
        sets = {split: path for name, path in files.items() if (split := split_of(name))}
        if "trainval" in files and not {"train", "val"} & sets.keys():
            sets["train"] = files["trainval"]
        if sets:
            return {split: names_of(sets[split]) for split in SPLITS if split in sets}
    return {}


def names_of(path: Path) -> list[str]:
    """The first word of each line; a second one, of sets by class, says whether the class is there."""
    lines = path.read_text("utf-8", "replace").splitlines()
    return [line.split()[0] for line in lines if line.split()]


def stem(path: str) -> str:
    """The name of a file without the suffix of a picture or an annotation: "a.b" of "x/a.b.jpg", and of "a.b"."""
    name = path.rpartition("/")[2]
    return name.rpartition(".")[0] if has_image_suffix(name) or suffix(name) == ".xml" else name


def home(path: str) -> str:
    """The folder of a file without the parts that only say whether pictures or annotations are in it."""
    return "/".join(part for part in path.split("/")[:-1] if part.casefold() not in SIDES)


def parse(path: Path, passed: Passed, name: str) -> Annotation | None:
    """None for XML that annotates no picture. Raises ValueError for a DOCTYPE, whose entities could grow without end."""
    raw = path.read_bytes()
    if any(mark in raw for mark in DOCTYPES):
        raise ValueError("holds a DOCTYPE, which is not read")
    root = ElementTree.fromstring(raw)
    if root.tag != "annotation":
        return None
    objects = []
    for number, one in enumerate(root.iterfind("object"), 1):
        label, box = (one.findtext("name") or "").strip(), one.find("bndbox")
        if box is None or not label:
            passed.add(NO_BOX.what, f"{name}, object {number} ({'no bndbox' if box is None else 'no name'})")
            continue
        said_corners = {corner: box.findtext(corner) for corner in CORNERS}
        corners = tuple(map(number_of, said_corners.values()))
        if wrong := [
            f"{each} {said_corners[each]!r}" for each, at in zip(CORNERS, corners, strict=True) if math.isnan(at)
        ]:
            passed.add(NO_BOX.what, f"{name}, object {number} ({wrong[0]} is no number)")
            continue
        difficult = (one.findtext("difficult") or "").strip().casefold() in {"1", "true"}
        objects.append((label, corners, difficult))
    said = both(root.findtext("size/width"), root.findtext("size/height"))
    return Annotation((root.findtext("filename") or "").strip(), said, objects)


def number_of(text: str | None) -> float:
    """NaN for what is no number."""
    try:
        return float(text or "nan")
    except ValueError:
        return float("nan")


def from_one(corners: np.ndarray, frames: Frames) -> Placed:
    """VOC's own corners are pixels counted from 1, the last one included; many tools write them counted from 0.

    Decided for the whole set, as no file says it: with a corner at 0 it is counted from 0; with none, and a box that ends at
    the right or lower side of its picture, from 1, and 1 is taken from xmin and ymin alone, so that [1, width] becomes
    [0, width] (as detectron2 does). A box without area in the file is left as it is.
    """
    good = (corners[:, 2] > corners[:, 0]) & (corners[:, 3] > corners[:, 1])
    size = np.where(np.isnan(frames.said), frames.own, frames.said)
    said = corners[np.isfinite(corners).all(axis=1) & corners.any(axis=1)]  # four zeros stand for nothing
    if (said != np.floor(said)).any():
        return corners, ("corners are read as they are: some have fractions",)
    if said[:, :2].min(initial=1) < 1:
        return corners, ("corners are counted from 0: one is below 1",)
    if not (corners[good, 2:] == size[good]).any():
        return corners, ("corners are read as they are: none is below 1, and none at the far sides of its picture",)
    moved = corners.copy()
    moved[good, :2] -= 1
    why = "none is below 1, and some are at the far sides of their pictures"
    return moved, (f"corners are counted from 1 ({why}): 1 is taken from xmin and ymin",)


reader = Reader(matches, read, explains=True)
