"""Tables of names: what can be named (sources, strategies, tasks, ...) and where it lives, imported only when asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

from acclimate.core.errors import fail, near


class Names(Mapping[str, Any]):
    """name -> object, from `{"probe": "acclimate.strategies.probe:probe"}`; iteration keeps the order of the table.

    Raises `UserError` with the nearest names for a name that is not in the table.
    """

    def __init__(self, kind: str, places: Mapping[str, str]) -> None:
        self.kind = kind
        self.places = dict(places)

    def __getitem__(self, name: str) -> Any:
        if name not in self.places:
            raise fail(f"{self.kind} {name!r}", f"is not a known {self.kind}", near(name, self.places))
        module, attribute = self.places[name].split(":")
        return getattr(import_module(module), attribute)

    def __contains__(self, name: object) -> bool:
        return name in self.places

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)
