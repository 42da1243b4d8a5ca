"""The same boxes written in every layout, and what is read from them again."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image as Pillow

from acclimate.core.errors import UserError
from acclimate.data import gate
from acclimate.data.boxes import mend
from acclimate.data.read import read
from acclimate.data.table import Table

DATA = Path(os.environ.get("ACCLIMATE_DATA") or Path(__file__).parents[2] / "shared" / "data")
"""Real data sets, where there are any."""
ORIENTATION = 0x0112
SIZE = (40, 30)
BOXES = {
    "a": [("cat", 1.5, 2.25, 10.125, 20.0), ("dog", 0.0, 0.0, 40.0, 30.0)],
    "b": [("dog", 5.0, 6.5, 7.25, 8.0)],
    "c": [],
}
"""What is written in each layout and read again: of each picture (class, x1, y1, x2, y2)."""
WHOLE = {name: [(label, *(round(side) for side in box)) for label, *box in each] for name, each in BOXES.items()}
Named = dict[str, list[tuple]]


def real(name: str) -> Table:
    folder = DATA / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there: name the folder of real data sets with ACCLIMATE_DATA")
    return read(folder)


def picture(path: Path, size: tuple[int, int] = SIZE, orientation: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Pillow.Exif()
    exif[ORIENTATION] = orientation
    Pillow.new("RGB", size, (sum(path.name.encode()) % 256, 99, 7)).save(path, exif=exif)
    return path


def png(size: tuple[int, int] = SIZE) -> bytes:
    buffer = io.BytesIO()
    Pillow.new("RGB", size, "teal").save(buffer, "PNG")
    return buffer.getvalue()


def text(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def found(table: Table) -> Named:
    """Picture, without folders and suffix -> its boxes; None where it is not annotated."""
    columns = (table.column("sample").to_pylist(), table.column("target").to_pylist())
    rows = zip(columns[0] if table.form == "path" else range(len(table)), columns[1], strict=True)
    return {
        Path(str(name)).stem: each
        and [(box["label"], *(box[side] for side in ("x1", "y1", "x2", "y2"))) for box in each]
        for name, each in rows
    }


def same(read_: Named, written: Named) -> None:
    assert list(read_) == list(written)
    for name, each in written.items():
        assert [box[0] for box in read_[name]] == [box[0] for box in each]
        assert np.allclose([box[1:] for box in read_[name]], [box[1:] for box in each], rtol=0, atol=1e-6)


def splits(table: Table) -> dict[str, str | None]:
    return dict(zip(found(table), table.column("split").to_pylist(), strict=True))


def said(source: Any, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        read(source, **options)
    return str(caught.value)


def rules(source: Any, **options: Any) -> dict[str, gate.Finding]:
    return {finding.rule: finding for finding in mend(read(source, **options))[1]}


def voc_file(path: Path, boxes: list[tuple], size: tuple[int, int] | None = SIZE, filename: str = "") -> Path:
    objects = "".join(
        f"<object><name>{label}</name><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
        for label, x1, y1, x2, y2 in boxes
    )
    said_size = f"<size><width>{size[0]}</width><height>{size[1]}</height></size>" if size else ""
    return text(path, f"<annotation><filename>{filename}</filename>{said_size}{objects}</annotation>")


def voc(root: Path, boxes: Named = BOXES, pictures: str = "JPEGImages", annotations: str = "Annotations") -> Path:
    for name, each in boxes.items():
        picture(root / pictures / f"{name}.jpg")
        voc_file(root / annotations / f"{name}.xml", each, filename=f"{name}.jpg")
    return root


def coco_json(
    boxes: Named = BOXES, folder: str = "", names: tuple[str, ...] = ("dog", "cat"), **more: Any
) -> dict[str, Any]:
    """Ids of pictures, boxes and classes all have gaps."""
    ids = {name: 10 * number + 7 for number, name in enumerate(names)}
    images = [
        {"id": 3 * number, "file_name": f"{folder}{name}.jpg", "width": SIZE[0], "height": SIZE[1]}
        for number, name in enumerate(boxes)
    ]
    annotations = [
        {
            "id": 0,
            "image_id": 3 * number,
            "category_id": ids[label],
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "area": 12.5,
            "iscrowd": 0,
        }
        for number, each in enumerate(boxes.values())
        for label, x1, y1, x2, y2 in each
    ]
    for number, one in enumerate(annotations):
        one["id"] = 5 * number
    categories = [{"id": number, "name": name} for name, number in reversed(ids.items())]
    return {"images": images, "annotations": annotations, "categories": categories, **more}


def dump(path: Path, content: Any) -> Path:
    return text(path, json.dumps(content))


def coco(root: Path, content: dict[str, Any], pictures: str = "images", file: str = "annotations.json") -> Path:
    for image in content["images"]:
        picture(root / pictures / image["file_name"])
    return dump(root / file, content)


def yolo_rows(boxes: list[tuple], names: tuple[str, ...] = ("dog", "cat"), size: tuple[int, int] = SIZE) -> str:
    width, height = size
    return "".join(
        f"{names.index(label)} {(x1 + x2) / 2 / width!r} {(y1 + y2) / 2 / height!r} {(x2 - x1) / width!r} {(y2 - y1) / height!r}\n"
        for label, x1, y1, x2, y2 in boxes
    )


def yolo(root: Path, boxes: Named = BOXES, images: str = "images", labels: str = "labels") -> Path:
    for name, each in boxes.items():
        picture(root / images / f"{name}.jpg")
        text(root / labels / f"{name}.txt", yolo_rows(each))
    return root


def frame(boxes: Named = WHOLE, corners: str = "xmin ymin xmax ymax") -> pd.DataFrame:
    rows = [(f"{name}.jpg", *box) for name, each in boxes.items() for box in each or [(None,) * 5]]
    return pd.DataFrame(rows, columns=["filename", "class", *corners.split()])
