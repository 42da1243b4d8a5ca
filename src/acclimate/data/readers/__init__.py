"""Readers: one file per layout of data, and the table of them; the order of the table is the order of trying."""

from __future__ import annotations

from acclimate.core.names import Names

READERS = Names(
    "reader",
    {
        "voc": "acclimate.data.readers.voc:reader",
        "coco": "acclimate.data.readers.coco:reader",
        "yolo": "acclimate.data.readers.yolo:reader",
        "split-tables": "acclimate.data.readers.split_tables:reader",
        "text-folders": "acclimate.data.readers.text_folders:reader",
        "folders": "acclimate.data.readers.folders:reader",
        "table": "acclimate.data.readers.table_file:reader",
        "lines": "acclimate.data.readers.lines:reader",
        "picture": "acclimate.data.readers.single:reader",
        "huggingface": "acclimate.data.readers.huggingface:reader",
        "pandas": "acclimate.data.readers.frames:reader",
        "pairs": "acclimate.data.readers.pairs:reader",
        "box-table": "acclimate.data.readers.box_tables:reader",  # asked for by name: the readers of tables see boxes too
    },
)
