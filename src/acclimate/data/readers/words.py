"""The words that data on disk use: names of splits, suffixes, names to ignore; and the natural order of names."""

from __future__ import annotations

import re

SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}


def dotted(words: str) -> frozenset[str]:
    return frozenset(f".{word}" for word in words.split())


IMAGE_SUFFIXES = dotted(
    "jpg jpeg jpe jfif png apng gif bmp dib webp tif tiff avif avifs heic heif jp2 j2k jpx ppm pgm pbm pnm tga pcx ico"
)
OTHER_SUFFIXES = dotted(
    "txt md rst rtf pdf doc docx xls xlsx ods odt ppt pptx json jsonl ndjson csv tsv parquet arrow feather xml html "
    "htm svg css js yaml yml toml ini cfg conf log py pyc ipynb sh bat c h cpp m r zip tar gz tgz bz2 xz zst 7z rar "
    "npy npz mat pkl pickle pt pth onnx safetensors h5 hdf5 db sqlite lmdb tfrecord mp4 avi mov mkv webm wav mp3 flac "
    "ogg lnk url bak tmp part crdownload lock sha256 md5"
)
"""Suffixes that say: not a picture. A file of any other name in a class folder is taken for one."""

SYSTEM_NAMES = frozenset({"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "$recycle.bin"})


def split_of(word: str) -> str | None:
    """train, val or test for a word that means one of them, in any case; else None."""
    return SPLIT_WORDS.get(word.strip().casefold())


def is_hidden(name: str) -> bool:
    """Names that start with a dot, and what operating systems leave behind."""
    return name.startswith(".") or name.casefold() in SYSTEM_NAMES


def suffix(name: str) -> str:
    """ ".jpg" of "a/b.JPG"; empty where there is none."""
    stem, dot, last = name.rpartition("/")[2].rpartition(".")
    return f".{last.lower()}" if dot and stem else ""


def has_image_suffix(name: str) -> bool:
    return suffix(name) in IMAGE_SUFFIXES


def is_text_file(name: str) -> bool:
    return suffix(name) == ".txt"


def may_be_picture(name: str) -> bool:
    """False where the suffix says that it is something else; a file without a suffix may be one."""
    return suffix(name) not in OTHER_SUFFIXES


def natural_key(name: str) -> tuple:
    """Sorts names as a person would: 0, 1, 2, 10; "img2" before "img10"; the case of letters only breaks ties."""
    parts = re.split(r"([0-9]+)", name)
    return tuple(int(part) if i % 2 else part.casefold() for i, part in enumerate(parts)), name
