"""`read`: from whatever the user has to a `Table`, by the first reader that matches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from acclimate.core.errors import UserError, fail, near
from acclimate.data.readers import READERS
from acclimate.data.readers.box_tables import in_folder
from acclimate.data.readers.encoding import check
from acclimate.data.readers.formats import FORMATS
from acclimate.data.readers.reader import Columns, Reader
from acclimate.data.readers.words import is_hidden
from acclimate.data.table import Table

BOX_TABLE = "box-table"
ABOUT = {
    "voc": "XML files",
    "coco": "JSON files",
    "yolo": "text files of numbers, or a data.yaml",
    BOX_TABLE: "tables named by split",
}
"""What each layout of boxes is known by."""


def read(
    source: Any,
    *,
    image: str | None = None,
    text: str | Sequence[str] | None = None,
    label: str | None = None,
    split: str | None = None,
    group: str | None = None,
    separator: str | None = None,
    quoting: str | None = None,
    encoding: str | None = None,
    format: str | None = None,
    labels: bool = True,
) -> Table:
    """The samples of a source.

    `source`: a path (class folders of pictures or of text files, a table, a folder of tables named by split, boxes in the
    layouts of Pascal VOC, COCO and YOLO), a Hugging Face Dataset or DatasetDict, a pandas DataFrame, or a list of (path or
    PIL image or text, label). `format` names the reader, where looking does not tell it (`READERS`). `image`, `text`,
    `label`, `split` and `group` name columns that are not recognised, two names for `text` make each sample a pair;
    `separator` cuts a label column into several labels a sample. Of files of text, `encoding` is their encoding (default
    UTF-8) and `quoting` says whether quotation marks enclose the fields of CSV and TSV (default "auto": it is seen).
    `labels=False` reads samples alone: also a flat folder, one picture, the lines of a text file, a table without labels
    or a list of samples.

    Raises `UserError` for a source that is not there, is of no known layout or of two, or lacks what it should have.
    """
    check(encoding)
    texts = (text,) if isinstance(text, str) else tuple(text or ()) or None
    boxes = None if format is None else format == BOX_TABLE
    columns = Columns(image, texts, label, split, group, separator, quoting, encoding, labels, boxes)
    found = existing(source) if isinstance(source, str | Path) else source
    return (named(format, found) if format is not None else looked_at(found, labels)).read(found, columns)


def named(name: str, source: Any) -> Reader:
    """The reader that the user named. Raises `UserError` for one that is not known, or cannot read the source."""
    if name not in READERS:
        raise fail(f"--format {name}", "is no layout of data", near(name, READERS))
    reader = READERS[name]
    if not (reader.matches(source) or (reader.explains and isinstance(source, Path))):
        what = str(source) if isinstance(source, Path) else f"{type(source).__name__} in memory"
        fitting = ", ".join(other for other in READERS if READERS[other].matches(source))
        raise fail(
            f"--format {name}",
            f"does not fit {what}",
            f"what fits: {fitting or 'nothing'}; leave it out to have it seen",
        )
    return reader


def looked_at(source: Any, labels: bool) -> Reader:
    """The first reader that matches; without labels a folder with boxes is one of pictures. Raises `UserError` where there is none."""
    boxes = layouts_of_boxes(source) if labels else []
    if len(boxes) > 1:
        listed = " and ".join(f"{name} ({ABOUT[name]})" for name in boxes)
        raise fail(str(source), f"holds boxes in {len(boxes)} layouts: {listed}", f"say which: --format {boxes[0]}")
    others = (READERS[name] for name in READERS if name not in ABOUT)
    found = READERS[boxes[0]] if boxes else next((reader for reader in others if reader.matches(source)), None)
    if found is None:
        raise unknown(source, labels)
    return found


def layouts_of_boxes(source: Any) -> list[str]:
    """The layouts of boxes that a path matches; tables are looked into only where there is another."""
    found = [name for name in ABOUT if name != BOX_TABLE and READERS[name].matches(source)]
    return [*found, BOX_TABLE] if found and source.is_dir() and in_folder(source) else found


def existing(name: str | Path) -> Path:
    """The path. Raises `UserError` where nothing is there, with the near names of what is."""
    if not str(name).strip():
        raise fail("''", "is no path", "give the folder or the table that holds the data")
    path = Path(name).expanduser()
    if path.exists():
        return path
    folder = next((parent for parent in path.parents if parent.is_dir()), Path())
    missing = path.relative_to(folder).parts[0] if path.is_relative_to(folder) else path.name
    names = sorted(entry.name for entry in folder.iterdir() if not is_hidden(entry.name))
    raise fail(str(path), f"is not there: {folder.absolute()} holds no {missing}", near(missing, names))


def unknown(source: Any, labels: bool) -> UserError:
    if isinstance(source, Path):
        return fail(
            str(source),
            "is no table",
            f"tables end in {', '.join(FORMATS)}; pictures and text files come as folders{' per class' if labels else ''}",
        )
    known = "a path, a Hugging Face Dataset, a pandas DataFrame, or a list of (path, PIL image or text, label)"
    return fail(f"{type(source).__name__} in memory", "is no source of samples", f"give {known}")
