"""Tiny pictures with boxes for tests: bright squares on dark noise, their class by colour."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from PIL import Image

COLOURS = {"red": (230, 40, 40), "green": (40, 220, 60), "blue": (60, 80, 240)}
Box = tuple[str, int, int, int, int]


def picture(random: np.random.Generator, boxes: list[Box], size: tuple[int, int] = (96, 64)) -> Image.Image:
    """Noise of (width, height) with a filled rectangle for every box (class, x1, y1, x2, y2)."""
    pixels = random.integers(0, 70, (size[1], size[0], 3), dtype=np.uint8)
    for name, x1, y1, x2, y2 in boxes:
        pixels[y1:y2, x1:x2] = np.array(COLOURS[name]) + random.integers(-25, 25, (y2 - y1, x2 - x1, 3))
    return Image.fromarray(pixels)


def boxes_of(random: np.random.Generator, classes: list[str], most: int, size: tuple[int, int] = (96, 64)) -> list[Box]:
    """One to `most` boxes that do not touch."""
    found: list[Box] = []
    for _ in range(50):
        if len(found) == most or (found and random.random() < 0.2):
            break
        width, height = random.integers(14, 34, 2)
        x, y = random.integers(0, size[0] - width), random.integers(0, size[1] - height)
        box = (str(random.choice(classes)), int(x), int(y), int(x + width), int(y + height))
        if all(box[1] >= o[3] + 2 or box[3] + 2 <= o[1] or box[2] >= o[4] + 2 or box[4] + 2 <= o[2] for o in found):
            found.append(box)
    return found


def write_voc(
    folder: Path,
    counts: dict[str, int],
    classes: tuple[str, ...] = ("blue", "red"),
    most: int = 2,
    seed: int = 0,
    empty: int = 0,
) -> Path:
    """A Pascal VOC folder with so many pictures of each split; the first `empty` of each hold nothing."""
    random = np.random.default_rng(seed)
    for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    for split, count in counts.items():
        stems = [f"{split}_{number:03d}" for number in range(count)]
        (folder / "ImageSets/Main" / f"{split}.txt").write_text("\n".join(stems) + "\n")
        for number, stem in enumerate(stems):
            boxes = [] if number < empty else boxes_of(random, list(classes), most)
            picture(random, boxes).save(folder / "JPEGImages" / f"{stem}.png")
            annotation(folder / "Annotations" / f"{stem}.xml", f"{stem}.png", boxes)
    return folder


def annotation(path: Path, filename: str, boxes: list[Box], size: tuple[int, int] = (96, 64)) -> None:
    """A VOC annotation, its corners from 0."""
    root = ElementTree.Element("annotation")
    ElementTree.SubElement(root, "filename").text = filename
    sides = ElementTree.SubElement(root, "size")
    for name, value in zip(("width", "height", "depth"), (*size, 3), strict=True):
        ElementTree.SubElement(sides, name).text = str(value)
    for label, *corners in boxes:
        one = ElementTree.SubElement(root, "object")
        ElementTree.SubElement(one, "name").text = label
        box = ElementTree.SubElement(one, "bndbox")
        for name, value in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True):
            ElementTree.SubElement(box, name).text = str(value)
    ElementTree.ElementTree(root).write(path)
