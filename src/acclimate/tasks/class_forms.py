"""How classes are written: tables of one row a sample, or JSON Lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from acclimate.tasks.forms import Form, Row

PROBABILITY = "p:"
"""How the columns of probabilities begin."""


def forms(columns: tuple[str, str], classes: Sequence[str], probabilities: bool) -> dict[str, Form]:
    """By the ending of the file. `columns`: of the answer, its class or labels and its confidence; `probabilities`: with that of every
    class."""
    kinds: dict[str, type] = {columns[0]: str, columns[1]: float, "error": str}
    spread: dict[str, type] = {f"{PROBABILITY}{name}": float for name in classes} if probabilities else {}
    table = Form({**kinds, **spread}, cells)
    return {
        ".csv": table,
        ".jsonl": Form({**kinds, **({"probabilities": dict} if probabilities else {})}, iter),
        ".parquet": table,
    }


def cells(rows: Iterable[Row]) -> Iterator[Row]:
    """Rows with one value in every cell: several labels as "a|b", each probability in a cell of its own."""
    for row in rows:
        plain = {name: "|".join(value) if isinstance(value, list) else value for name, value in row.items()}
        yield {**plain, **{f"{PROBABILITY}{name}": value for name, value in row.get("probabilities", {}).items()}}
