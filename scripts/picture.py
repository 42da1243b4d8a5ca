"""Draws docs/fit.svg, the picture of the README: what a terminal shows of a real fit. Usage: picture.py DATA [more options of fit]."""

from __future__ import annotations

import io
import re
import shlex
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console

from acclimate.cli.terminal import Terminal, print_metrics
from acclimate.verbs.fit import fit

WIDTH = 104
PLACE = Path(__file__).parents[1] / "docs" / "fit.svg"


def main() -> None:
    data, *words = sys.argv[1:]
    options: dict[str, Any] = dict(zip((word.strip("-") for word in words[::2]), words[1::2], strict=True))
    screen = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, highlight=False)
    screen.print(f"$ acclimate fit {shlex.join([Path(data).name, *words])}", style="bold", markup=False)
    watcher = Terminal()
    watcher.console, watcher.progress.disable = screen, True
    with tempfile.TemporaryDirectory() as place:
        done = fit(data, out=Path(place) / "run", watcher=watcher, **options)
        print_metrics({**done.metrics(), "run": f"runs/{Path(data).name}-1"}, screen)
    picture = screen.export_svg(title="acclimate")
    PLACE.write_text(re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL))  # no font from elsewhere
    print(f"{PLACE}: {len(picture):,} bytes")


if __name__ == "__main__":
    main()
