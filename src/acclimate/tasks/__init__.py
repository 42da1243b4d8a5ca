"""Tasks: what a target is, and everything that depends on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from acclimate.core.errors import fail, near
from acclimate.core.names import Names

if TYPE_CHECKING:
    import pyarrow as pa

    from acclimate.data.table import Table
    from acclimate.tasks.task import Task

TASKS = Names(
    "task",
    {
        "image_classification": "acclimate.tasks.image_classification:ImageClassification",
        "detection": "acclimate.tasks.detection:Detection",
        "text_classification": "acclimate.tasks.text_classification:TextClassification",
    },
)


def resolve(table: Table, name: str | None = None, free: bool = True) -> type[Task]:
    """The task named, or the first that fits the table. Raises UserError where none does, or the one named does not.

    `free`: whether another could be named."""
    fitting = [task for task in ([name] if name else TASKS) if TASKS[task].matches(table)]
    if fitting:
        return TASKS[fitting[0]]
    targets = f"{_said(table.column('target').type)} as targets" if "target" in table else "no targets"
    asked = f"task {name!r}" if name else "any task"
    raise fail(
        f"{table.source}: samples given as {table.form}, {targets}",
        f"does not fit {asked}",
        "name the column of the labels with --label, or "
        + (
            f"another task with --task; {near('', TASKS)}"
            if free
            else "give data like those that the model learned from"
        ),
    )


def _said(kind: pa.DataType) -> str:
    """A type of targets as a person calls it."""
    import pyarrow as pa

    if pa.types.is_list(kind):
        return "boxes" if pa.types.is_struct(kind.value_type) else "lists of labels"
    return "classes" if pa.types.is_string(kind) or pa.types.is_large_string(kind) else f"values of type {kind}"
