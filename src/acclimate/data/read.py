"""`read`: from whatever the user has to a `Table`, by the first reader that matches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from acclimate.core.errors import UserError, fail, near
from acclimate.data.readers import READERS
from acclimate.data.readers.encoding import check
from acclimate.data.readers.formats import FORMATS
from acclimate.data.readers.reader import Columns
from acclimate.data.readers.words import is_hidden
from acclimate.data.table import Table


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
    labels: bool = True,
) -> Table:
    """The samples of a source.

    `source`: a path (class folders of pictures or of text files, a table, a folder of tables named by split), a Hugging
    Face Dataset or DatasetDict, a pandas DataFrame, or a list of (path or PIL image or text, label). `image`, `text`,
    `label`, `split` and `group` name columns that are not recognised, two names for `text` make each sample a pair;
    `separator` cuts a label column into several labels a sample. Of files of text, `encoding` is their encoding (default
    UTF-8) and `quoting` says whether quotation marks enclose the fields of CSV and TSV (default "auto": it is seen).
    `labels=False` reads samples alone: also a flat folder, one picture, the lines of a text file, a table without labels
    or a list of samples.

    Raises `UserError` for a source that is not there, is of no known layout, or lacks what it should have.
    """
    check(encoding)
    texts = (text,) if isinstance(text, str) else tuple(text or ()) or None
    columns = Columns(image, texts, label, split, group, separator, quoting, encoding, labels)
    found = existing(source) if isinstance(source, str | Path) else source
    for reader in READERS.values():
        if reader.matches(found):
            return reader.read(found, columns)
    raise unknown(found)


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


def unknown(source: Any) -> UserError:
    if isinstance(source, Path):
        return fail(
            str(source),
            "is no table",
            f"tables end in {', '.join(FORMATS)}; pictures and text files come as folders per class",
        )
    known = "a path, a Hugging Face Dataset, a pandas DataFrame, or a list of (path, PIL image or text, label)"
    return fail(f"{type(source).__name__} in memory", "is no source of samples", f"give {known}")
