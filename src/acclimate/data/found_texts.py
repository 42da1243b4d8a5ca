"""What paths mean as texts to predict: lines of text, rows of tables, and text files in folders; nothing is held in whole."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acclimate.core.errors import Problems, fail
from acclimate.core.recipe import spoken
from acclimate.data.found import STDIN, Found, Sample, Unread, files_of
from acclimate.data.readers import formats
from acclimate.data.readers.columns import Search
from acclimate.data.readers.encoding import UTF_8
from acclimate.data.readers.formats import FORMATS
from acclimate.data.readers.reader import Columns
from acclimate.data.readers.words import IMAGE_SUFFIXES, OTHER_SUFFIXES, is_text_file, suffix

LINES = {".txt", ".md", ".rst", ".log"}
"""Suffixes of files that are read line by line; a suffix that says nothing is taken for one, too."""
FILE, TEXT, FIRST, SECOND = "file", "text", "text_1", "text_2"
AT_ONCE = 1024
"""Rows of a table that are Python objects at a time."""


@dataclass(frozen=True)
class Texts:
    """`paths` as samples. `columns`: what the user said; `fitted`: columns that the samples of the fit came from, two for pairs."""

    paths: Sequence[str]
    listed: Iterable[bytes]
    columns: Columns
    fitted: tuple[str, ...]

    @property
    def pairs(self) -> bool:
        return len(self.fitted) == 2

    def found(self) -> Found:
        """Raises `UserError` for tables that hold no texts, before the first sample is given, and for options without effect."""
        named = [path for path in self.paths if not Path(path).is_dir()]
        tables = [file for file, inside in files_of(named) if not inside and is_table(file)]
        if not tables:
            self.columns.refuse("lines of text", "text", "quoting")
        problems, names = Problems(), {}
        for table in dict.fromkeys(tables):
            names[table] = problems.attempt(self.names, Path(table)) or ()
        problems.stop()
        several = len(self.paths) > 1 or not (self.paths[0] == STDIN or Path(self.paths[0]).exists()) or not named
        shown = (FIRST, SECOND) if self.pairs else (TEXT,)
        return Found(((FILE, *shown) if several else shown), self.samples(names, several))

    def samples(self, names: dict[str, tuple[str, ...]], several: bool) -> Iterator[Sample]:
        for file, inside in files_of(self.paths):
            for content in self.contents(file, inside, names):
                yield Sample({**({FILE: file} if several else {}), **self.cells(content)}, content)

    def cells(self, content: Any) -> dict[str, str | None]:
        if self.pairs:
            first, second = content if isinstance(content, tuple) else (None, None)
            return {FIRST: first, SECOND: second}
        return {TEXT: content if isinstance(content, str) else None}

    def contents(self, file: str, inside: bool, names: dict[str, tuple[str, ...]]) -> Iterator[Any]:
        try:
            if inside:
                yield self.whole(Path(file))
            elif file == STDIN:
                yield from map(self.line, lines(self.listed, self.columns.encoding, "stdin"))
            elif file in names:
                yield from rows(Path(file), self.columns, names[file])
            elif suffix(file) in (IMAGE_SUFFIXES | OTHER_SUFFIXES) - LINES and Path(file).is_file():
                yield Unread(f"is neither lines of text (.txt) nor a table ({', '.join(FORMATS)})")
            else:
                with Path(file).open("rb") as opened:
                    yield from map(self.line, lines(opened, self.columns.encoding, file))
        except OSError as error:
            yield Unread((error.strerror or "cannot be read").lower())

    def line(self, text: str | Unread) -> Any:
        if not self.pairs or isinstance(text, Unread):
            return text
        parts = tuple(text.split("\t"))
        return parts if len(parts) == 2 else Unread("is no pair of texts with a tab between them")

    def whole(self, path: Path) -> str | Unread:
        """A file in a folder is a sample."""
        if self.pairs:
            return Unread("is one text, where the model was fitted on pairs")
        if not is_text_file(path.name):
            return Unread("is no .txt file: in folders these are read, and tables are named one by one")
        encoding = self.columns.encoding or UTF_8
        try:
            return path.read_bytes().decode("utf-8-sig" if codecs.lookup(encoding).name == UTF_8 else encoding)
        except UnicodeDecodeError as error:
            return _not_encoded(encoding, error)

    def names(self, path: Path) -> tuple[str, ...]:
        """The columns of a table that hold the texts: those the user named, else those of the fit, else the likeliest."""
        head = formats.head(path, self.columns)
        if not head.num_rows:
            raise fail(str(path), "has no rows", "give a table with one row per sample")
        fitted = self.fitted if set(self.fitted) <= set(head.column_names) else None
        search = Search(head, Columns(text=self.columns.text or fitted or None, labels=False), str(path), None)
        found = search.sample()
        form, _ = search.samples(found) if found else ("text", None)
        search.problems.stop()
        if form != "text":
            raise fail(str(path), "holds pictures, and the model reads texts", "name the column of texts with --text")
        if self.fitted and len(found) != len(self.fitted):
            wanted = "pairs of texts, and this is one text" if self.pairs else "single texts, and these are pairs"
            names = spoken("text", ("COLUMN",) * len(self.fitted))
            raise fail(f"{path}: {', '.join(found)}", f"the model was fitted on {wanted}", f"say {names}")
        return found


def is_table(file: str) -> bool:
    return file != STDIN and suffix(file) in FORMATS and Path(file).is_file()


def lines(file: Iterable[bytes], encoding: str | None, name: str) -> Iterator[str | Unread]:
    """Each line without its end; one that is not so encoded is `Unread`."""
    if codecs.lookup(encoding or UTF_8).name == UTF_8:
        for number, line in enumerate(file):
            line = line.removeprefix(codecs.BOM_UTF8) if number == 0 else line
            try:
                yield line.removesuffix(b"\n").removesuffix(b"\r").decode()
            except UnicodeDecodeError as error:
                yield _not_encoded(UTF_8, error)
        return
    text = io.TextIOWrapper(file, encoding, newline="\n")  # type: ignore[type-var]  # where an end is depends on the encoding
    try:
        yield from (line.removesuffix("\n").removesuffix("\r") for line in text)
    except UnicodeDecodeError:
        raise fail(name, f"is not {str(encoding).upper()}", "name its encoding with --encoding") from None


def _not_encoded(encoding: str, error: UnicodeDecodeError) -> Unread:
    return Unread(f"is not {encoding.upper()} (byte {error.start + 1}): name its encoding with --encoding")


def rows(path: Path, columns: Columns, names: tuple[str, ...]) -> Iterator[Any]:
    """The texts of each row, of two columns as a tuple."""
    for batch in formats.stream(path, columns, names):
        for start in range(0, batch.num_rows, AT_ONCE):
            part = batch.slice(start, AT_ONCE)
            yield from map(_row, zip(*(part.column(name).to_pylist() for name in names), strict=True))


def _row(texts: tuple[Any, ...]) -> str | tuple[str, ...]:
    said = tuple(text if isinstance(text, str) else "" for text in texts)
    return said[0] if len(said) == 1 else said
