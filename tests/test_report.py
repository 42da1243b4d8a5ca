"""The page that a run leaves: every figure on it is one of metrics.json, nothing on it is the user's to run, and it stands alone."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY, write_digits
from hypothesis import given
from hypothesis import strategies as st

from acclimate.core.run import Run
from acclimate.report import charts
from acclimate.report.charts import Line
from acclimate.report.page import Drawn, Group, page
from acclimate.verbs.fit import fit

HOSTILE = "<img src=x onerror=alert(1)>&amp;'\""
ALONE = {"area", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source"}
DECIMAL = re.compile(r"\d\.\d{2,}")


class Reader(HTMLParser):
    """Tags, the values of <data>, and the text outside of <data>, of scripts and of the ticks of drawings."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.values: list[str] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "data":
            self.values.append(dict(attrs)["value"] or "")
        if tag not in ALONE:
            self.open.append("tick" if dict(attrs).get("class") == "tick" else tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        last = self.open.pop()
        assert last in (tag, "tick"), f"{tag} closes {last}"

    def handle_data(self, data: str) -> None:
        if not {"data", "script", "style", "tick", "pre"} & set(self.open):
            self.text.append(data)


def numbers(tree: Any) -> Iterator[float]:
    if isinstance(tree, dict | list):
        for one in tree.values() if isinstance(tree, dict) else tree:
            yield from numbers(one)
        yield len(tree)  # how many there are of a thing
    elif isinstance(tree, int | float):
        yield float(tree)


def strings(tree: Any) -> Iterator[str]:
    if isinstance(tree, dict):
        yield from tree
    if isinstance(tree, dict | list):
        for one in tree.values() if isinstance(tree, dict) else tree:
            yield from strings(one)
    elif isinstance(tree, str):
        yield tree


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Of digits in folders with names that a page must not take for its own."""
    data = tmp_path_factory.mktemp("hostile") / "data"
    write_digits(data / "train", 3, 20)
    write_digits(data / "test", 3, 8, first=20)
    for split in ("train", "test"):
        (data / split / "1").rename(data / split / HOSTILE.replace("/", ""))
    wrong = sorted((data / "train" / "0").iterdir())[3]
    wrong.rename(data / "train" / "2" / wrong.name)  # a label that is worth a second look
    victim = next((data / "test" / "2").iterdir())
    victim.rename(victim.with_name("<script>alert(2)<script>.png"))
    made = fit(data, strategy="last:1", epochs=2, model=TINY, size=32, out=data.parent / "run")
    assert isinstance(made, Run)
    return made


def test_every_figure_is_in_metrics_json(run: Run) -> None:
    told = run.metrics()
    reader = Reader(run.file("report.html").read_text())
    known = set(numbers(told))
    assert len(reader.values) > 60
    assert [value for value in reader.values if float(value) not in known] == []
    said = list(strings(told))
    for text in reader.text:
        for found in DECIMAL.findall(text):
            assert any(found in one for one in said), text
    sure = {f"{one['sure']:.0%}" for one in told["shown"] if one["sure"] is not None}
    assert set(re.findall(r"\d+%", "".join(reader.text))) <= sure | {"95%"}


def test_names_do_not_turn_the_page_around() -> None:
    name = "roses\u202eevil\x1b[31m"
    metric = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 4}
    told = minimal(**{"by class": {name: {"recall": metric}, "x" * 300: {"recall": metric}}})
    told["confusion"] = {"classes": [name, "b"], "given": [name, "b"], "counts": [[2, 2], [0, 4]], "there": [4, 4]}
    told["findings"] = [{"what": f"in {name}", "done": "kept", "samples": [name], "count": 1}]
    text = page(told, Drawn())
    assert "roses\ufffdevil" in text and not set("\u202e\x1b") & set(text)
    assert "x" * 61 not in text.replace("x" * 300, "", 1), "whole in the title alone"


def test_the_verdict_comes_first_and_sections_follow(run: Run) -> None:
    text = run.file("report.html").read_text()
    reader = Reader(text)
    headings = [tag for tag, _ in reader.tags if re.fullmatch(r"h\d", tag)]
    assert headings[0] == "h1" and headings.count("h1") == 1
    assert all(int(after[1]) <= int(before[1]) + 1 for before, after in itertools.pairwise(headings))
    assert run.metrics()["verdict"] in "".join(reader.text)
    ids = {attrs["id"] for _, attrs in reader.tags if "id" in attrs}
    links = [(attrs["href"] or "")[1:] for tag, attrs in reader.tags if tag == "a"]
    assert set(links) <= ids
    assert {
        "figures",
        "chosen",
        "classes",
        "confusion",
        "reliability",
        "mistakes",
        "doubtful",
        "cost",
        "use",
        "recipe",
    } <= ids


def test_it_stands_alone_and_runs_nothing_of_the_users(run: Run) -> None:
    reader = Reader(run.file("report.html").read_text())
    for tag, attrs in reader.tags:
        assert not any(name.startswith("on") for name in attrs), (tag, attrs)
        for name in ("src", "href", "action", "data"):
            assert (attrs.get(name) or "#").startswith(("#", "data:image/")), (tag, attrs)
    assert sum(tag == "script" for tag, _ in reader.tags) == 1
    assert all(attrs.get("alt") for tag, attrs in reader.tags if tag == "img")
    assert any(tag == "img" for tag, _ in reader.tags)
    assert "onerror=alert(1)" in "".join(reader.text)
    assert reader.open == []


def test_several_labels_have_their_own_first_figure(tmp_path: Path) -> None:
    pictures = write_digits(tmp_path / "pictures", 3, 20)
    names = [
        {"image": str(file), "labels": [file.parent.name, "even" if int(file.parent.name) % 2 == 0 else "odd"]}
        for file in sorted(pictures.glob("*/*.png"))
    ]
    (tmp_path / "data.jsonl").write_text("\n".join(map(json.dumps, names)))
    run = fit(tmp_path / "data.jsonl", strategy="probe", model=TINY, size=32, out=tmp_path / "run")
    assert isinstance(run, Run)
    told, text = run.metrics(), run.file("report.html").read_text()
    assert told["primary"] == "sample_f1" and "sample f1 " in told["verdict"]
    (majority,) = told["baselines"]
    assert f'value="{majority["metrics"]["sample_f1"]["value"]}"' in text
    assert set(told["by class"]) == {"0", "1", "2", "even", "odd"} and "matrix" not in text.split("</style>")[1]
    assert [value for value in Reader(text).values if float(value) not in set(numbers(told))] == []


def minimal(**more: Any) -> dict[str, Any]:
    metric = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 90}
    told = {"run": "runs/x", "task": "text_classification", "model": "m", "split": "test", "verdict": "accuracy 0.500"}
    told["primary"] = "accuracy"
    return {**told, "metrics": {"accuracy": metric}, **more}


@given(st.text(), st.text())
def test_any_text_is_only_text(name: str, verdict: str) -> None:
    told = minimal(run=name, verdict=verdict, findings=[{"what": name, "done": verdict, "samples": [name], "count": 1}])
    plain = [
        tag
        for tag, _ in Reader(
            page(minimal(findings=[{"what": "", "done": "", "samples": [""], "count": 1}]), Drawn())
        ).tags
    ]
    assert [tag for tag, _ in Reader(page(told, Drawn(), recipe="", title="data", example=name)).tags] == plain


def test_many_classes_make_no_endless_page() -> None:
    classes = [f"class {i}" for i in range(3000)]
    metric = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 9}
    counts = [[int(i == j or (i == 5 and j == 6)) for j in range(40)] for i in range(40)]
    few = classes[:40]
    told = minimal(**{"by class": {name: {"recall": metric} for name in classes} | {"never there": {}}})
    told["confusion"] = {"classes": few, "given": few, "counts": counts, "there": [sum(row) for row in counts]}
    text = page(told, Drawn())
    assert len(text) < 300_000
    assert (
        "class 5</bdi></strong> answered as <strong><bdi>class 6" in text and "matrix" not in text.split("</style>")[1]
    )


def test_groups_without_samples_are_no_sections() -> None:
    group = Group("mistakes", "The worst mistakes", "about", ())
    assert "The worst mistakes" not in page(minimal(), Drawn((group,)))


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)), max_size=6))
def test_drawings_are_whole_whatever_the_numbers(points: list[tuple[float, float]]) -> None:
    drawn = charts.plot([Line("a", points)], "title", "x", "y")
    assert bool(drawn) == bool(points)
    if drawn:
        places = re.findall(r'c[xy]="(-?[\d.]+)"', drawn)
        assert len(places) == 2 * len(points)
        assert all(0 <= float(place) <= charts.WIDTH for place in places)
        assert "nan" not in drawn


@given(st.floats(-1e5, 1e5), st.floats(1e-6, 1e5))
def test_ticks_are_few_and_inside(low: float, width: float) -> None:
    found = charts.ticks(low, low + width)
    assert len(found) <= charts.TICKS + 1
    assert all(low - 1e-9 * width - 1e-9 <= one <= low + width + 1e-6 * width for one in found)


def test_the_page_is_small(run: Run) -> None:
    assert run.file("report.html").stat().st_size < 3_000_000
    assert json.loads(run.file("metrics.json").read_text())["verdict"]
