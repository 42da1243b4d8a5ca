"""Errors that are the user's to mend: each says the value, the rule and the remedy.

Tree: `UserError` (exit code 2, no traceback) < `MissingExtra`. Everything else that is raised is a fault of the library
and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Problem:
    """One mistake: what came (`value`), what is allowed (`rule`), what to do (`remedy`). `option`: the one that says of the data what they
    do not have, where that is all."""

    value: str
    rule: str
    remedy: str
    option: str = ""

    def __str__(self) -> str:
        return f"{self.value}: {self.rule}\n  {self.remedy}"


class UserError(Exception):
    """One or several mistakes in what the user gave, reported together."""

    def __init__(self, *problems: Problem) -> None:
        self.problems = problems
        super().__init__("\n".join(map(str, problems)))


class MissingExtra(UserError):
    """A part of the library needs packages that are not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(
            Problem(what, f"needs the extra '{extra}', which is not installed", f"pip install 'acclimate[{extra}]'")
        )


class Problems:
    """Collects mistakes so that several are reported at once: `check.add(...)`, then `check.stop()`."""

    def __init__(self) -> None:
        self.found: list[Problem] = []

    def add(self, value: str, rule: str, remedy: str, option: str = "") -> None:
        self.found.append(Problem(value, rule, remedy, option))

    def attempt(self, step: Callable[..., T], *arguments: object) -> T | None:
        """`step(*arguments)`; the mistakes it raises are collected, and the answer is None."""
        try:
            return step(*arguments)
        except UserError as error:
            self.found += [problem for problem in error.problems if problem not in self.found]
            return None

    def stop(self) -> None:
        """Raise `UserError` with everything found so far, if anything was."""
        if self.found:
            raise UserError(*self.found)


def fail(value: str, rule: str, remedy: str) -> UserError:
    """A `UserError` with one problem, to be raised: `raise fail(...)`."""
    return UserError(Problem(value, rule, remedy))


def nearest(value: str, known: Iterable[str]) -> str:
    """ "did you mean 'probe'?", or nothing where no known name is near."""
    close = difflib.get_close_matches(value, list(known), n=3)
    return f"did you mean {' or '.join(repr(name) for name in close)}?" if close else ""


def near(value: str, known: Iterable[str], most: int = 12) -> str:
    """A remedy that names the nearest of the known names and lists them: "did you mean 'probe'? known: auto, probe".

    Of more than `most` names only the nearest are named, or the first where none is near.
    """
    names = list(known)
    hint = nearest(value, names)
    if len(names) <= most:
        return f"{hint} known: {', '.join(names) or 'none'}".lstrip()
    return hint or f"known: {', '.join(names[:most])}, ... ({len(names)} in all)"
