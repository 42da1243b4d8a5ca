"""A run shows itself in a notebook, and a fit there shows how far it is."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY

from acclimate.core.run import Run
from acclimate.tracking.notebook import in_notebook, watched
from acclimate.verbs.fit import fit

FIT = "fit({data!r}, out={out!r}, model={model!r}, size=32, strategy='last:1', epochs=2, fresh=True)"
VOID = {"circle", "polyline"}


class Page(HTMLParser):
    """Keeps the text of each element that has any, by its name; raises where elements do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.attributes += attrs

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in VOID
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.setdefault(self.open[-1], []).append(data)


@pytest.fixture(scope="module")
def run(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("shown") / "run"
    done = fit(digits, out=out, model=TINY, size=32, strategy="last:1", epochs=3)
    assert isinstance(done, Run)
    return done


def test_a_run_shows_its_figures(run: Run) -> None:
    page = Page(run._repr_html_())
    expected = [
        cell
        for one in run.metrics()["metrics"].values()
        for cell in (f"{one['value']:.3f}", f"{one['low']:.3f} to {one['high']:.3f}", f"{one['n']}")
    ]
    assert page.texts["td"] == expected
    assert page.texts["th"][4:] == [name.replace("_", " ") for name in run.metrics()["metrics"]]


def test_a_run_shows_how_validation_went(run: Run) -> None:
    page = Page(run._repr_html_())
    values = [event["value"] for event in run.events() if event["event"] == "epoch"]
    probe = next(event["value"] for event in run.events() if event["event"] == "outcome")
    assert page.texts["title"] == [
        f"probe: {probe:.3f}",
        f"from conv_head on: {', '.join(f'{value:.3f}' for value in values)}",
    ]
    heights = [float(value or 0) for name, value in page.attributes if name == "cy"]
    assert len(heights) == 4
    by_height = sorted(zip(heights, [probe, *values], strict=True))
    assert [value for _, value in by_height] == sorted([probe, *values], reverse=True)


def test_it_needs_nothing_from_elsewhere(run: Run) -> None:
    shown = run._repr_html_()
    assert not re.search(r"<script|<style|src=|href=|url\(|https?:|#[0-9a-f]{3}", shown)
    assert "currentColor" in shown


def copied(run: Run, folder: Path, **changed: Any) -> Run:
    new = Run(folder)
    for name in ("log.jsonl", "model.json", "recipe.yaml"):
        new.write(name, run.file(name).read_bytes())
    new.write_json("metrics.json", run.metrics() | changed)
    return new


def test_a_verdict_comes_first_and_names_are_shown_letter_by_letter(run: Run, tmp_path: Path) -> None:
    hostile = "<img src=x onerror=alert(1)>"
    page = Page(copied(run, tmp_path / hostile, verdict=f"better than {hostile}")._repr_html_())
    assert page.texts["strong"] == [hostile, f"better than {hostile}"]
    assert "img" not in page.texts


def test_values_that_say_nothing_are_not_drawn(run: Run, tmp_path: Path) -> None:
    new = copied(run, tmp_path / "run")
    told = run.metrics()
    assert "<svg" in new._repr_html_()
    new.write_json("metrics.json", {**told, "phases": [{**one, "value": None} for one in told["phases"]]})
    assert "<svg" not in new._repr_html_()


def test_an_unfinished_run_says_so(tmp_path: Path) -> None:
    page = Page(Run(tmp_path / "none")._repr_html_())
    assert page.texts["p"] == [" ", ": not finished"]


def test_outside_a_notebook_nobody_looks_on() -> None:
    @watched
    def verb(watcher: Any = None) -> Any:
        return watcher

    assert not in_notebook()
    assert verb() is None


def test_a_fit_in_a_notebook_shows_how_far_it_is(digits: Path, tmp_path: Path) -> None:
    """In a real kernel: what a front end is sent while the cell runs, and what stays in the notebook."""
    pytest.importorskip("ipykernel")
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    drawn: list[str] = []

    class Client(nbclient.NotebookClient):  # type: ignore[name-defined, misc]
        def process_message(self, msg: dict[str, Any], cell: Any, cell_index: int) -> Any:
            if msg["msg_type"] == "update_display_data":
                drawn.append(msg["content"]["data"]["text/html"])
            return super().process_message(msg, cell, cell_index)

    line = FIT.format(data=str(digits), out=str(tmp_path / "run"), model=TINY)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(f"from acclimate import fit\n{line}")])
    Client(notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = notebook.cells[0].outputs
    assert any('<progress value="0" max="6"' in one and "from conv_head on: 0 of 6" in one for one in drawn)
    assert drawn[-1] == ""
    said = "".join(one["text"] for one in outputs if one.output_type == "stream")
    assert "82 train, 14 val, 32 test, 4 classes" in said and "from conv_head on: " in said
    (shown,) = [one["data"]["text/html"] for one in outputs if one.output_type == "execute_result"]
    assert shown == Run(tmp_path / "run")._repr_html_()
    (bar,) = [one["data"]["text/html"] for one in outputs if one.output_type == "display_data"]
    assert bar == ""
