"""Benchmarks: every one can be loaded with what the project is now, and says how it is used."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
SHARED = ("common", "rows", "text_sides")
"""What they have in common; no commands."""


@pytest.mark.parametrize("name", sorted(one.stem for one in BENCHMARKS.glob("*.py") if one.stem not in SHARED))
def test_a_benchmark_says_how_it_is_used(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit, match="0"):
        runpy.run_path(str(BENCHMARKS / f"{name}.py"), run_name="__main__")
    assert f"python benchmarks/{name}.py" in capsys.readouterr().out
