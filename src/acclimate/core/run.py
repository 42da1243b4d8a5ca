"""`Run`: the folder a fit leaves behind; every file appears whole or not at all, and the log is one JSON object a line."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from acclimate.core.errors import fail
from acclimate.core.names import Names

LOG = "log.jsonl"
CHECKPOINT = "checkpoint/last.safetensors"
SHOWN = Names("view of a run", {"html": "acclimate.report.glance:html"})
"""How a run shows itself."""


def write_whole(path: Path, content: bytes | str, durable: bool = True) -> None:
    """Write a file under a temporary name, flush it to the disk, then rename it: a reader sees the old file or the new one.

    Without `durable` it is not flushed, which costs milliseconds: for what can be had again and has a sum that is checked.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        error.filename = error.filename or str(path)  # a full disk is noticed by calls that name no file
        temporary.unlink(missing_ok=True)
        raise
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        _flush_folder(path.parent)


def _flush_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class Run:
    """A run folder. Readable without the library: recipe.yaml, model.safetensors, model.json, metrics.json, log.jsonl."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.began = time.monotonic()
        """When the run would have begun if it had never been interrupted."""
        self.given: dict[str, Any] = {}
        """Decisions of another run that this one repeats."""

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return str(SHOWN["html"](self))

    def file(self, name: str) -> Path:
        return self.path / name

    @property
    def exists(self) -> bool:
        return self.file("recipe.yaml").is_file()

    @property
    def finished(self) -> bool:
        return self.file("metrics.json").is_file()

    def write(self, name: str, content: bytes | str) -> None:
        write_whole(self.file(name), content)

    def write_json(self, name: str, content: Any) -> None:
        self.write(name, json.dumps(content, indent=1, ensure_ascii=False) + "\n")

    def read_json(self, name: str) -> Any:
        return json.loads(self.file(name).read_text())

    def metrics(self) -> dict[str, Any]:
        """What metrics.json says. Raises FileNotFoundError while the run is not finished, `UserError` where it is damaged."""
        try:
            found = self.read_json("metrics.json")
        except ValueError:
            found = None
        if not isinstance(found, dict) or "metrics" not in found:
            remedy = "remove it, and --resume writes it again"
            raise fail(f"{str(self.file('metrics.json'))!r}", "is damaged", remedy)
        return found

    # --- the clock: it stands still while no process works on the run

    def start(self, began: float) -> None:
        """The clock of a process that works on the run since `began` (time.monotonic()); what earlier ones used counts."""
        self.began = began - max((event.get("at", 0.0) for event in self.events()), default=0.0)

    def elapsed(self) -> float:
        """Seconds of work on the run so far."""
        return time.monotonic() - self.began

    # --- the log: a line is an event; what decides the run is flushed to the disk before it takes effect

    def log(self, event: str, durable: bool = False, **content: Any) -> None:
        line = json.dumps({"event": event, "at": round(self.elapsed(), 3), **content}, ensure_ascii=False) + "\n"
        try:
            with self.file(LOG).open("a", encoding="utf-8") as file:
                file.write(line)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
        except OSError as error:
            error.filename = error.filename or str(self.file(LOG))
            raise

    def events(self) -> list[dict[str, Any]]:
        """Every whole line of the log; a line torn by a crash is left out."""
        if not self.file(LOG).exists():
            return []
        text = self.file(LOG).read_text(encoding="utf-8", errors="replace")
        lines = [line for line in text.splitlines(keepends=True) if line.endswith("\n")]
        try:
            return [json.loads(line) for line in lines]
        except ValueError:
            raise fail(f"log {str(self.file(LOG))!r}", "is damaged", "restore the file, or begin anew") from None

    def log_size(self) -> int:
        return self.file(LOG).stat().st_size if self.file(LOG).exists() else 0

    def cut_log(self, size: int) -> None:
        """Forget what was logged after the log had `size` bytes."""
        if self.log_size() > size:
            os.truncate(self.file(LOG), size)

    def forget(self, event: str, **content: Any) -> None:
        """Take the lines of an event with this content out of the log."""
        events, wanted = self.events(), {"event": event, **content}
        kept = [one for one in events if any(one.get(name) != value for name, value in wanted.items())]
        if len(kept) < len(events):
            self.write(LOG, "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in kept))

    def mend_log(self) -> None:
        """Drop a last line that a crash tore."""
        if not self.file(LOG).exists():
            return
        content = self.file(LOG).read_bytes()
        if content and not content.endswith(b"\n"):
            self.cut_log(content.rfind(b"\n") + 1)

    def recorded(self, name: str, measure: Callable[[], Any]) -> Any:
        """A value that depends on the clock or the machine: measured once (or `given`), then read from the log by every resume.

        The value must survive JSON.
        """
        known = self.decisions()
        if name not in known:
            known[name] = self.given[name] if name in self.given else measure()
            self.log("decision", durable=True, name=name, value=known[name])
        return known[name]

    def decide(self, name: str, value: Any) -> Any:
        """`recorded`, of a value that is known."""
        return self.recorded(name, lambda: value)

    def decisions(self) -> dict[str, Any]:
        """What `recorded` has recorded, by name."""
        return {event["name"]: event["value"] for event in self.events() if event["event"] == "decision"}

    def _make(self) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except FileNotFoundError:  # no folder can be made there, as under /proc
            raise fail(f"run folder {str(self.path)!r}", "cannot be made there", "give another --out") from None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for this process. Raises `UserError` where another process holds it."""
        if os.name != "posix":
            yield
            return
        import fcntl

        self._make()
        with self.file(".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise fail(
                    f"run folder {str(self.path)!r}",
                    "is in use by another process",
                    "wait for it, or give another --out",
                ) from None
            yield


def next_folder(parent: Path, stem: str) -> Path:
    """The first of stem-1, stem-2, ... that is free."""
    return parent / f"{stem}-{max([number for number, _ in numbered(parent, stem)], default=0) + 1}"


def numbered(parent: Path, stem: str) -> list[tuple[int, Path]]:
    """The folders stem-N of `parent`, by number."""
    pattern = re.compile(re.escape(stem) + r"-(\d+)")
    if not parent.is_dir():
        return []
    found = [(int(match[1]), path) for path in parent.iterdir() if (match := pattern.fullmatch(path.name))]
    return sorted(found)
