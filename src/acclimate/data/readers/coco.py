"""COCO: a JSON file of images, annotations and categories, or one for each split, with the pictures beside it or in folders."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acclimate.core.errors import Problems, fail
from acclimate.data.readers.box_files import (
    NO_BOX,
    NO_PICTURE,
    UNKNOWN_CLASS,
    Finder,
    both,
    layers,
    refuse_different_names,
    refuse_many,
    split_called,
    split_in_words,
)
from acclimate.data.readers.boxes import Gathered
from acclimate.data.readers.reader import Columns, Reader
from acclimate.data.readers.words import suffix
from acclimate.data.table import SPLITS, Table

FOLDERS = frozenset({"annotations"})
MOST_FILES = 50
"""JSON files of a folder that are looked into; a folder of more holds one a picture, which is another layout."""
BEGINNING = 1 << 20
"""Bytes of a file that are looked into."""
PARTS = ("images", "annotations", "categories")
BEGUN = re.compile(rb'"(images|annotations|categories)"\s*:\s*\[')
ID = int | float | str
LISTED = 5


def matches(source: Any) -> bool:
    if not isinstance(source, Path):
        return False
    if source.is_file():
        return suffix(source.name) == ".json" and is_coco(source)
    return source.is_dir() and any(map(is_coco, json_files(source)))


def json_files(root: Path) -> Iterator[Path]:
    for folder, names in layers(root, FOLDERS):
        found = [folder / name for name in names if suffix(name) == ".json"]
        if len(found) <= MOST_FILES:
            yield from found


def is_coco(path: Path) -> bool:
    """Whether a file holds the three lists; a file that is large or broken begins one of them, and is no JSON Lines."""
    try:
        with path.open("rb") as file:
            head = file.read(BEGINNING)
    except OSError:
        return False
    if not head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{") or not BEGUN.search(head):
        return False
    try:
        whole = json.loads(head)
        return all(isinstance(whole.get(part), list) for part in PARTS)
    except ValueError:
        return not is_json(head.partition(b"\n")[0])


def is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def read(source: Path, columns: Columns) -> Table:
    """Rows go by split (train, val, test), then as in the file. Categories become classes by name, in the order of their ids.

    A folder may hold several files, each named by its split (`instances_val2017.json`) or in a folder that is. Raises
    `UserError` for files that are no COCO, say a thing twice, or differ in their categories; where more than 5 % of the
    annotations are of no picture or no category; and where no box is left.
    """
    columns.refuse("COCO files")
    found = [(split, File.load(path)) for split, path in files_of(source)]
    root = source if source.is_dir() else source.parent
    root = root.parent if root.name.casefold() in FOLDERS else root
    names = {(split or file.path.name): file.names for split, file in found}
    unused, notes = without_boxes({name for each in names.values() for name in each}, [file for _, file in found])
    names = {place: [name for name in each if name not in unused] for place, each in names.items()}
    notes += tuple(note for _, file in found for note in file.called_alike())
    refuse_different_names(source, names)
    gathered = Gathered()
    for split, file in found:
        file.gather(gathered, split, Finder(root, file.places(root)))
    boxes = len(gathered.boxes)
    for fact, remedy in ((NO_PICTURE, "add the pictures to `images`"), (UNKNOWN_CLASS, "add them to `categories`")):
        count, first = gathered.passed.named.get(fact.what, (0, []))
        refuse_many(source, fact.what, count, boxes + count, first, f"{remedy}, or take the annotations out")
    return gathered.table(source, "coco", root, classes=next(iter(names.values())), notes=notes)


def files_of(source: Path) -> list[tuple[str | None, Path]]:
    """(split, file), train first; one file alone says no split. Files of boxes are taken before those of captions or key points."""
    if source.is_file():
        return [(None, source)]
    there = list(filter(is_coco, json_files(source)))
    there = [path for path in there if path.name.startswith("instances")] or there
    if not there:
        raise fail(
            str(source),
            f"holds no .json file with {', '.join(PARTS)}",
            "give the file itself, or a folder with annotations/instances_train.json or train/_annotations.coco.json",
        )
    if len(there) == 1:
        return [(None, there[0])]
    found = [(split_called(path.parent.name) or split_in_words(path.stem), path) for path in there]
    counts = Counter(split for split, _ in found)
    if None in counts or max(counts.values()) > 1:
        listed = ", ".join(str(path.relative_to(source)) for path in there)
        raise fail(
            f"{source}: {listed}",
            "are several COCO files, and not one for each split",
            "give one, or name them by split",
        )
    return sorted(found, key=lambda one: SPLITS.index(one[0] or ""))


@dataclass(frozen=True)
class File:
    """What one file says."""

    path: Path
    images: list[dict[str, Any]]
    annotations: list[dict[str, Any]]
    categories: dict[Any, str]
    """id -> name, by id."""
    above: frozenset[str]
    """Names that are the supercategory of every category but one called so."""

    @classmethod
    def load(cls, path: Path) -> File:
        """Raises `UserError` for a file that cannot be read, lacks one of its lists, or uses an id twice."""
        try:
            whole = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            raise fail(str(path), f"cannot be read as JSON: {error}", "check that it is whole") from error
        problems = Problems()
        parts: dict[str, Any] = {part: whole.get(part) if isinstance(whole, dict) else None for part in PARTS}
        for part, items in parts.items():
            if not isinstance(items, list) or not all(isinstance(one, dict) for one in items):
                problems.add(str(path), f"has no list of {part}", f"COCO files hold {', '.join(PARTS)}")
        problems.stop()
        wanted = {
            "images": ("id", "file_name"),
            "categories": ("id", "name"),
            "annotations": ("image_id", "category_id"),
        }
        for part, keys in wanted.items():
            lacking = [f"{one!r:.60}" for one in parts[part] if not all(isinstance(one.get(key), ID) for key in keys)]
            if lacking:
                problems.add(f"{path}: {part}: {len(lacking):,}, {lacking[0]}", f"lack {' or '.join(keys)}", "add them")
        problems.stop()
        for part in ("images", "categories"):
            ids = Counter(one["id"] for one in parts[part])
            if twice := [repr(number) for number, count in ids.items() if count > 1]:
                listed = ", ".join(twice[:LISTED]) + (", ..." if len(twice) > LISTED else "")
                problems.add(f"{path}: {part}: id {listed}", "is there twice", "give each an id of its own")
        problems.stop()
        ordered = sorted(parts["categories"], key=lambda one: (isinstance(one["id"], str), one["id"]))
        names = {one["id"]: str(one["name"]).strip() for one in ordered}
        parents = {str(one["name"]).strip(): str(one.get("supercategory") or "").strip() for one in ordered}
        above = {name for name in names.values() if len(parents) > 1 and set(without(parents, name).values()) == {name}}
        return cls(path, parts["images"], parts["annotations"], names, frozenset(above))

    @property
    def names(self) -> list[str]:
        return list(dict.fromkeys(self.categories.values()))

    def called_alike(self) -> Iterator[str]:
        """A note for each name that several categories have."""
        for name, count in Counter(self.categories.values()).items():
            if count > 1:
                ids = ", ".join(repr(number) for number, other in self.categories.items() if other == name)
                yield f"{self.path.name}: categories {ids} are all called {name!r}: they are one class"

    def places(self, root: Path) -> Iterator[Path]:
        """The folders that its pictures may lie in, likeliest first: beside it, `images`, and those named by its split."""
        split = split_called(self.path.parent.name) or split_in_words(self.path.stem)
        for home in dict.fromkeys([self.path.parent, root]):
            for folder in filter(Path.is_dir, (home, home / "images")):
                named = [one for one in folder.iterdir() if split and split_called(one.name) == split]
                yield folder
                yield from (inner for one in sorted(named) if one.is_dir() for inner in (one, one / "images"))

    def gather(self, found: Gathered, split: str | None, finder: Finder) -> None:
        """Its pictures with their boxes; a picture that is not there is kept, for the gate to name."""
        ids = {one["id"] for one in self.images}
        of_picture: dict[Any, list[dict[str, Any]]] = {}
        for one in self.annotations:
            if one["image_id"] in ids:
                of_picture.setdefault(one["image_id"], []).append(one)
            else:
                found.passed.add(NO_PICTURE.what, f"{self.called(one)}: image_id {one['image_id']!r}")
        for image in self.images:
            name = str(image["file_name"])
            found.picture(finder.find(name) or name, split, both(image.get("width"), image.get("height")))
            for one in of_picture.get(image["id"], ()):
                self.add(found, one)

    def add(self, found: Gathered, one: dict[str, Any]) -> None:
        label = self.categories.get(one["category_id"])
        corners = corners_of(one.get("bbox"))
        if corners is None:
            found.passed.add(NO_BOX.what, f"{self.called(one)}: bbox {one.get('bbox')!r:.40}")
        elif label is None:
            found.passed.add(UNKNOWN_CLASS.what, f"{self.called(one)}: category_id {one['category_id']!r}")
        else:
            area = one.get("area")
            said = float(area) if isinstance(area, int | float) else float("nan")
            found.box(label, corners, crowd=bool(one.get("iscrowd")), area=said)

    def called(self, annotation: dict[str, Any]) -> str:
        return f"{self.path.name}, annotation {annotation.get('id')!r}"


def without(parents: dict[str, str], name: str) -> dict[str, str]:
    return {other: parent for other, parent in parents.items() if other != name}


def without_boxes(names: set[str], files: list[File]) -> tuple[set[str], tuple[str, ...]]:
    """(the names that are no class: the supercategory of all others, as Roboflow writes it, without a box; a note that says so)."""
    used = {file.categories.get(one["category_id"]) for file in files for one in file.annotations}
    unused = {
        name for name in names if name not in used and all(name in file.above for file in files if name in file.names)
    }
    said = (
        f"category {name!r} has no box and is the supercategory of all others: it is no class"
        for name in sorted(unused)
    )
    return unused, tuple(said)


def corners_of(box: Any) -> tuple[float, ...] | None:
    """xyxy of a `bbox`, which is x, y, width, height; None where it is none."""
    try:
        x, y, width, height = map(float, box if isinstance(box, list) else ())
    except (TypeError, ValueError):
        return None
    return x, y, x + width, y + height


reader = Reader(matches, read, explains=True)
