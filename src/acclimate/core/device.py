"""The machine: which device, how many threads, memory that the allocator keeps, and a description for the record."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import platform
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from threadpoolctl import ThreadpoolController

from acclimate.core.errors import fail, near

DEVICES = ("auto", "cpu", "cuda", "mps")
PACKAGES = (
    "acclimate",
    "torch",
    "torchvision",
    "timm",
    "transformers",
    "numpy",
    "scipy",
    "scikit-learn",
    "pyarrow",
    "pillow",
)
MEMORY_FILES = ("memory.max", "memory.limit_in_bytes")
FLAGS = (
    "avx2",
    "f16c",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "amx_tile",
    "amx_bf16",
    "asimd",
    "bf16",
    "i8mm",
    "sve",
)
"""Processor flags that decide which arithmetic is fast."""


def choose_device(name: str = "auto") -> torch.device:
    """The device to run on; "auto" takes an accelerator where there is one; `UserError` for one that is absent."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(device for device, usable in there.items() if usable))
    if name not in DEVICES:
        raise fail(f"device {name!r}", "is not a known device", near(name, DEVICES))
    if not there[name]:
        usable = ", ".join(device for device in there if there[device])
        raise fail(f"device {name!r}", "is not on this machine or not in this build of torch", f"usable here: {usable}")
    return torch.device(name)


def cores() -> int:
    """Processors that this process may use: its affinity, within the CPU quota of its control group; at least 1."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(allowed, round(_quota())))


def set_threads(count: int | None = None) -> int:
    """Give torch `count` threads (default: $OMP_NUM_THREADS, else `cores()`) and return that number."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    threads = count or (int(given) if given.isdigit() and int(given) else cores())
    if threads != torch.get_num_threads():
        torch.set_num_threads(threads)
    return threads


def background(threads: int) -> ThreadPoolExecutor:
    """Threads that work beside the one that computes, in which torch uses no further ones.

    Each would else start a team of OpenMP of its own. As soon as there are more threads of teams than cores, GNU's library lets all of
    them sleep at the end of every operation instead of waiting a moment for the next: a training step took half as long again.
    """
    return ThreadPoolExecutor(threads, initializer=_alone)


def _alone() -> None:
    torch.get_num_threads()  # the first use in a thread sets the number to that of the process
    _openmp().limit(limits=1)


@functools.cache
def _openmp() -> ThreadpoolController:
    """The libraries of OpenMP; what they are told holds for the thread that tells it."""
    return ThreadpoolController().select(user_api="openmp")


def keep_memory() -> bool:
    """Tell glibc to keep freed memory instead of handing it back to the system; False where there is no glibc.

    A training step frees and asks for the same tens of megabytes a hundred times; each time the system would hand out
    pages filled with zeros, which took up to a third of a step. Later calls change nothing.
    """
    trim_threshold, top_pad, mmap_threshold, mmap_max = -1, -2, -3, -4
    try:
        libc = ctypes.CDLL(None)
        libc.gnu_get_libc_version  # noqa: B018  (other C libraries may have a mallopt of another meaning)
        done = libc.mallopt(trim_threshold, 2**31 - 1) and libc.mallopt(top_pad, 64 << 20)
        # Old versions refuse a threshold above 32 MB; there, no block at all is mapped apart.
        return bool(done and (libc.mallopt(mmap_threshold, 1 << 30) or libc.mallopt(mmap_max, 0)))
    except (OSError, AttributeError, TypeError):
        return False


def give_back_memory() -> None:
    """Hand what is free back to the system: between parts of the work, since what one has used the next may never need."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def machine_key() -> str:
    """Names what measured speeds depend on: processor, instruction set, threads, torch."""
    capability = torch.backends.cpu.get_cpu_capability()
    flags = " ".join(flag for flag in FLAGS if flag in _cpu()["flags"])
    accelerator = torch.cuda.get_device_name() if torch.cuda.is_available() else "no accelerator"
    threads = f"{torch.get_num_threads()} threads"
    return " | ".join([_cpu()["model"], f"{capability} {flags}", threads, accelerator, f"torch {torch.__version__}"])


def describe() -> dict[str, Any]:
    """What a reader needs to judge the speed and repeat the figures of a run, as JSON."""
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": _cpu()["model"],
        "flags": [flag for flag in FLAGS if flag in _cpu()["flags"]],
        "cores": cores(),
        "threads": torch.get_num_threads(),
        "memory_bytes": memory(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
    }


def memory() -> int:
    """Bytes of memory for this process: the machine's, within the limits of its control groups; 0 where unknown."""
    limits = [_number(folder / name) for name in MEMORY_FILES for folder in _groups("memory")]
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return int(min((limit for limit in limits if limit > 0), default=0))


def _quota() -> float:
    """Processors' worth of time that the control groups of this process allow: at most the processors there are."""
    quotas = [float(os.cpu_count() or 1)]
    for folder in _groups("cpu"):
        words = _words(folder / "cpu.max") or _words(folder / "cpu.cfs_quota_us") + _words(folder / "cpu.cfs_period_us")
        if len(words) == 2 and words[0].isdigit() and int(words[1]):
            quotas.append(int(words[0]) / int(words[1]))
    return min(quotas)


def _groups(controller: str) -> list[Path]:
    """The control groups that this process is in for a controller, outermost first, whichever version is mounted."""
    folders = []
    for line in _lines(Path("/proc/self/cgroup")):
        number, controllers, group = line.split(":", 2)
        root = Path("/sys/fs/cgroup") if number == "0" else Path("/sys/fs/cgroup") / controllers
        if number == "0" or controller in controllers.split(","):
            parts = Path(group.lstrip("/")).parts
            folders += [root.joinpath(*parts[:depth]) for depth in range(len(parts) + 1)]
    return folders


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def _words(path: Path) -> list[str]:
    return " ".join(_lines(path)).split()


def _number(path: Path) -> float:
    words = _words(path)
    return float(words[0]) if words and words[0].isdigit() else 0.0


@functools.cache
def _cpu() -> dict[str, Any]:
    fields: dict[str, str] = {}
    for line in _lines(Path("/proc/cpuinfo")):
        name, _, value = line.partition(":")
        fields[name.strip()] = value.strip()
    family = ".".join(fields[name] for name in ("cpu family", "model", "stepping") if name in fields)
    model = fields.get("model name") or fields.get("CPU part") or platform.processor() or platform.machine()
    return {
        "model": f"{model} {family}".strip(),
        "flags": set((fields.get("flags") or fields.get("Features") or "").split()),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
