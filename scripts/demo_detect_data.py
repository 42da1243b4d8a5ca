"""Writes tiles of photographs of forests from the air, with a box around each crown, as Pascal VOC: those that a package carries."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

from PIL import Image

from acclimate.models.packages import wheel

PACKAGE, VERSION = "deepforest", "2.1.0"
FOLDER = "deepforest/data"
LEARNED, JUDGED = "2019_YELL_2_528000_4978000_image_crop2", "2019_YELL_2_541000_4977000_image_crop"
"""The photograph that is learned from, whose lowest tiles validate, and another one that judges."""
SIDE = 300
"""Pixels of a tile."""
SEEN = 0.5
"""Share of a crown that a tile must show."""

Box = tuple[float, float, float, float]


def boxes(path: Path) -> list[Box]:
    """xyxy of every crown."""
    found = ElementTree.parse(path).getroot().findall("object/bndbox")
    return [tuple(float(one.findtext(side, "")) for side in ("xmin", "ymin", "xmax", "ymax")) for one in found]  # type: ignore[misc]


def within(box: Box, left: int, top: int) -> Box | None:
    """The part of a box in a tile, in the tile's pixels; None where the tile shows too little of it."""
    x1, y1, x2, y2 = box
    part = (max(x1 - left, 0), max(y1 - top, 0), min(x2 - left, SIDE), min(y2 - top, SIDE))
    area = max(0.0, part[2] - part[0]) * max(0.0, part[3] - part[1])
    return part if area > 0 and area >= SEEN * (x2 - x1) * (y2 - y1) else None


def annotation(name: str, found: list[Box]) -> ElementTree.ElementTree:
    root = ElementTree.Element("annotation")
    ElementTree.SubElement(root, "filename").text = name
    for box in found:
        one = ElementTree.SubElement(root, "object")
        ElementTree.SubElement(one, "name").text = "tree"
        corners = ElementTree.SubElement(one, "bndbox")
        for side, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True):
            ElementTree.SubElement(corners, side).text = f"{value:.1f}"
    return ElementTree.ElementTree(root)


def write(folder: Path, photograph: Path, annotated: Path) -> tuple[int, int]:
    """(tiles, crowns) of a photograph, written under train, val or test."""
    image, crowns = Image.open(photograph).convert("RGB"), boxes(annotated)
    tiles = boxed = 0
    tops = range(0, image.height - SIDE + 1, SIDE)
    for top in tops:
        split = "test" if photograph.stem == JUDGED else "val" if top == tops[-1] else "train"
        home = folder / split
        home.mkdir(parents=True, exist_ok=True)
        for left in range(0, image.width - SIDE + 1, SIDE):
            found = [part for box in crowns if (part := within(box, left, top))]
            name = f"{photograph.stem}_{top}_{left}"
            image.crop((left, top, left + SIDE, top + SIDE)).save(home / f"{name}.jpg", quality=95)
            annotation(f"{name}.jpg", found).write(home / f"{name}.xml")
            tiles, boxed = tiles + 1, boxed + len(found)
    return tiles, boxed


def main() -> None:
    folder = Path(sys.argv[1])
    if folder.exists():
        return
    part = folder.with_name(f"{folder.name}.part")
    files = [f"{FOLDER}/{name}.{kind}" for name in (LEARNED, JUDGED) for kind in ("png", "xml")]
    with tempfile.TemporaryDirectory() as place:
        found = wheel.fetch(PACKAGE, VERSION, files, Path(place))
        counts = [write(part, found[files[i]], found[files[i + 1]]) for i in (0, 2)]
    part.rename(folder)
    tiles, crowns = (sum(one[i] for one in counts) for i in (0, 1))
    print(f"{folder}: {tiles} tiles of two photographs, {crowns} crowns of trees")


if __name__ == "__main__":
    main()
