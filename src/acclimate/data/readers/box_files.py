"""What the readers of boxes share beside the boxes: facts about their files, where pictures lie, what is refused."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from acclimate.core.errors import fail
from acclimate.data.readers.words import has_image_suffix, is_hidden, split_of

MOST_LOST = 0.05
"""Share of the boxes that may be unusable; more is no accident."""
NAMED = 5
SUFFIXES = (".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG", ".bmp", ".tif", ".tiff", ".webp")
"""What a picture that is named without its suffix may end in, likeliest first."""


class Fact(NamedTuple):
    """Something about a data set of boxes that its reader sees; `Table.passed` holds it under `what`, `mend` makes it a finding."""

    rule: str
    what: str
    done: str
    severity: Literal["note", "set aside"] = "set aside"


NO_LABEL_FILE = Fact("label file missing", "pictures without a label file", "read as without objects", "note")
NO_PICTURE = Fact("labels without a picture", "labels without a picture", "left out")
IN_NO_SET = Fact("picture in no image set", "pictures that no image set names", "left out")
SET_WITHOUT_PICTURE = Fact("image set without a picture", "names in image sets that are no picture", "left out")
UNREAD_LABELS = Fact("unreadable labels", "label files that cannot be read", "left out with their pictures")
TWICE = Fact("picture annotated twice", "pictures with two label files", "the first was taken")
OTHER_PICTURE = Fact(
    "another picture named",
    "label files that name another picture than the one they are called like",
    "not followed",
    "note",
)
POLYGON = Fact("polygon", "rows that hold a polygon", "read as the box around it", "note")
CONFIDENCE = Fact(
    "row with a sixth value", "rows with a sixth value, such as a confidence", "the sixth is not read", "note"
)
NO_BOX = Fact("no box", "objects or rows that say no box", "left out")
UNKNOWN_CLASS = Fact("unknown class", "boxes of a class that has no name", "left out")
FACTS = (
    *(NO_LABEL_FILE, NO_PICTURE, IN_NO_SET, SET_WITHOUT_PICTURE, UNREAD_LABELS, TWICE, OTHER_PICTURE, POLYGON),
    *(CONFIDENCE, NO_BOX, UNKNOWN_CLASS),
)


def side(said: Any) -> int | None:
    """A width or height as an annotation says it, None where that is no size."""
    try:
        found = int(float(said))
    except (TypeError, ValueError, OverflowError):
        return None
    return found if 0 < found < 1 << 31 else None


def both(width: Any, height: Any) -> tuple[int, int] | None:
    one, other = side(width), side(height)
    return None if one is None or other is None else (one, other)


def refuse_many(source: Any, what: str, count: int, of: int, named: Sequence[str], remedy: str) -> None:
    """Raises `UserError` where the share of what is wrong is no accident."""
    if count > MOST_LOST * of:
        first = "; ".join(named[:NAMED]) + ("; ..." if count > NAMED else "")
        raise fail(
            f"{source}: {what}: {count:,} of {of:,}",
            f"more than {MOST_LOST:.0%}, which is no accident: {first}",
            remedy,
        )


def refuse_different_names(source: Any, names: Mapping[str, Iterable[str]]) -> None:
    """Raises `UserError` where not all of the places (splits, files) name the same classes."""
    every = set().union(*names.values())
    lacking = {place: sorted(every - set(known)) for place, known in names.items()}
    said = "; ".join(f"{place} lacks {', '.join(map(repr, missing))}" for place, missing in lacking.items() if missing)
    if said:
        raise fail(f"{source}: {said}", "name different classes", "give all splits the same names")


def layers(root: Path, words: frozenset[str]) -> Iterator[tuple[Path, list[str]]]:
    """(folder, the names in it, sorted) of the root and of the folders, two levels deep, that are named by a split or one of `words`."""

    def deeper(folder: Path, depth: int) -> Iterator[tuple[Path, list[str]]]:
        try:
            with os.scandir(folder) as entries:
                found = sorted((entry.name, entry.is_dir()) for entry in entries if not is_hidden(entry.name))
        except OSError:
            found = []
        yield folder, [name for name, is_folder in found if not is_folder]
        for name, is_folder in found:
            if is_folder and depth and (split_called(name) or name.casefold() in words):
                yield from deeper(folder / name, depth - 1)

    return deeper(root, 2)


def split_called(folder: str) -> str | None:
    """train, val or test for a folder that is named so, with or without a year behind: "train2017" is train."""
    return split_of(folder.rstrip("0123456789_-. "))


def split_above(path: str) -> str | None:
    """The split that the first of a path's folders says which says any."""
    return next(filter(None, map(split_called, path.split("/")[:-1])), None)


def split_in_words(name: str) -> str | None:
    """The split that a name holds as a word: "instances_train2017" is train."""
    return next(filter(None, map(split_of, re.findall(r"[A-Za-z]+", name))), None)


class Finder:
    """Finds pictures by how the data name them: relative to one of several folders, with or without folders and suffix."""

    def __init__(self, root: Path, places: Iterable[Path]) -> None:
        self.root = root
        self.places = list(dict.fromkeys(places))

    def find(self, name: str) -> str | None:
        """The path, relative to the root where it lies there, or None.

        The place of the last picture is tried first; then folders of the name are left out, the outermost first.
        """
        parts = name.strip().replace("\\", "/").removeprefix("./").split("/")
        for one in filter(None, ("/".join(parts[first:]) for first in range(len(parts)))):
            for number, place in enumerate(self.places):
                if (found := with_suffix(place / one)) is not None:
                    self.places.insert(0, self.places.pop(number))
                    return within(self.root, found)
        return None


def with_suffix(path: Path) -> Path | None:
    """The file, or the picture that is named so but for its suffix."""
    if path.is_file():
        return path
    if has_image_suffix(path.name):
        return None
    return next((found for end in SUFFIXES if (found := path.with_name(path.name + end)).is_file()), None)


def within(root: Path, path: Path) -> str:
    """A path as a table stores it: relative to the root where it lies there, with slashes, else absolute."""
    if not root.parts:  # the working folder, which a relative path starts from anyway
        return path.as_posix()
    whole = os.path.abspath(path)  # noqa: PTH100  (links stay as they are)
    start = os.path.abspath(root)  # noqa: PTH100
    if os.path.commonpath([whole, start]) == start:
        return os.path.relpath(whole, start).replace(os.sep, "/")
    return whole
