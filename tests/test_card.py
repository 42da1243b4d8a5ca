"""The model card says what the run's files say, in a form that the hub reads, whatever the data are called."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import TINY
from huggingface_hub import ModelCard
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from acclimate.core.run import Run
from acclimate.report import card
from acclimate.tasks import TASKS
from acclimate.verbs.fit import fit

HOSTILE = (
    "<script>alert(1)</script>",
    "[click](https://evil.example) ![x](https://evil.example/x.png)",
    "a | b\n\n# heading\n---\nlicense: none",
    "```\n<b>&amp;",
)


@pytest.fixture(scope="module")
def run(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Fitted on pictures whose classes and folder have names to be afraid of."""
    folder = tmp_path_factory.mktemp("card")
    rows = [
        {"image": str(file), "label": HOSTILE[int(file.parent.name)], "split": file.parent.parent.name}
        for file in sorted(digits.glob("*/*/*.png"))
    ]
    data = folder / "a: [b] --- # <i>c.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return fit(data, out=folder / "run: *1*", model=TINY, size=32, strategy="probe", fresh=True)  # type: ignore[return-value]


@pytest.fixture
def copied(run: Run, tmp_path: Path) -> Run:
    """The run, to be changed."""
    shutil.copytree(run.path, tmp_path / "run")
    return Run(tmp_path / "run")


def shown(run: Run) -> str:
    """The card as a page."""
    return MarkdownIt("gfm-like", {"html": True, "linkify": False}).render(
        ModelCard(card.text(run, run.metrics())).text
    )


def test_a_fit_leaves_its_card(run: Run) -> None:
    assert run.file("README.md").read_text() == card.text(run, run.metrics())


def test_the_hub_reads_the_figures(run: Run) -> None:
    data = ModelCard.load(run.file("README.md")).data
    metrics = run.metrics()["metrics"]
    assert data.pipeline_tag == "image-classification"
    assert data.library_name == "acclimate"
    assert data.metrics == list(metrics)
    assert data.model_name == "run: *1*"
    assert {one.metric_type: one.metric_value for one in data.eval_results} == {
        name: metric["value"] for name, metric in metrics.items()
    }
    (dataset,) = {(one.dataset_name, one.dataset_split, one.task_type) for one in data.eval_results}
    assert dataset == ("a: [b] --- # <i>c.jsonl", "test", "image-classification")


def test_a_person_reads_the_figures_with_their_intervals(run: Run) -> None:
    rows = re.findall(r"<tr>\s*<td>(.*?)</td>\s*<td>(.*?)</td>\s*<td>(.*?)</td>\s*<td>(.*?)</td>\s*</tr>", shown(run))
    assert rows == [
        (name.replace("_", " "), f"{one['value']:.3f}", f"{one['low']:.3f} to {one['high']:.3f}", f"{one['n']}")
        for name, one in run.metrics()["metrics"].items()
    ]


def test_names_from_the_data_mean_nothing(run: Run) -> None:
    page = shown(run)
    assert "<script" not in page and "<a " not in page and "<img" not in page and "<i>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert re.findall(r"<h\d>(.*?)</h\d>", page) == [
        "run: *1*",
        "Figures",
        "How to use",
        "Trained on",
        "Limits",
        "Recipe",
    ]


@given(st.text(min_size=1))
def test_any_words_are_shown_letter_by_letter(words: str) -> None:
    kept = " ".join(words.split())
    (_, inline, _) = MarkdownIt("gfm-like", {"linkify": False}).parse(f"Classes: {card.plain(words)}.")
    told = "".join(child.content for child in inline.children or ())
    assert told == f"Classes: {kept}.".replace("\0", "\N{REPLACEMENT CHARACTER}")
    assert {child.type for child in inline.children or ()} <= {"text", "text_special"}


def test_it_names_no_folder_of_the_machine(digits: Path, run: Run, tmp_path: Path) -> None:
    again = fit(digits, out=tmp_path / "again", model=str(run.path), strategy="probe")
    assert isinstance(again, Run)
    text = again.file("README.md").read_text()
    assert str(tmp_path.parent) not in text and str(digits.parent) not in text and str(run.path.parent) not in text
    assert "run: *1*" in yaml.safe_load(text.partition("```yaml\n")[2].partition("\n```")[0])["asked"]["model"]


@pytest.mark.parametrize(
    ("weights", "base"),
    [("hub org/name.b-1", "org/name.b-1"), ("timm/x.in1k", "timm/x.in1k"), ("folder /a/b", None), ("random", None)],
)
def test_a_model_of_the_hub_is_named_as_its_base(weights: str, base: str | None, copied: Run) -> None:
    change(copied, weights=weights)
    assert ModelCard(card.text(copied, copied.metrics())).data.base_model == base


@pytest.mark.parametrize(
    ("stated", "told"),
    [
        ("Apache-2.0", {"license": "apache-2.0"}),
        ("Apache-2.0 / MIT", {"license": "mit"}),
        ("not stated", {}),
        ("https://example.org/LICENSE", {"license": "other", "license_link": "https://example.org/LICENSE"}),
        ("for research: only", {"license": "other", "license_name": "for research: only"}),
    ],
)
def test_licences_are_named_as_the_hub_names_them(stated: str, told: dict[str, str], copied: Run) -> None:
    change(copied, licence=stated)
    data = ModelCard(card.text(copied, copied.metrics())).data.to_dict()
    assert {name: value for name, value in data.items() if name.startswith("license")} == told


def change(run: Run, **fields: Any) -> None:
    manifest = run.read_json("model.json")
    manifest["model"] |= fields
    run.write_json("model.json", manifest)


def test_verdict_baselines_and_limits_are_told(copied: Run) -> None:
    gain = {"value": 0.02, "low": -0.01, "high": 0.05, "n": 32}
    baseline = {
        "name": "TF-IDF <x>",
        "metrics": {"accuracy": {"value": 0.5, "low": 0.4, "high": 0.6, "n": 32}},
        "better by": gain,
    }
    result = copied.metrics() | {
        "verdict": "NOT told better than <its> baseline",
        "baselines": [baseline],
        "split": "val",
    }
    copied.write_json("metrics.json", result)
    copied.log("begin", findings=[{"what": "byte-identical samples in several splits: 3", "done": "kept"}])
    page = shown(copied)
    assert "<strong>NOT told better than &lt;its&gt; baseline</strong>" in page
    assert "<td>TF-IDF &lt;x&gt;</td>" in page and "<td>-0.010 to 0.050</td>" in page
    assert "No test data were given" in page
    assert "byte-identical samples in several splits: 3; kept" in page
    assert "32 samples, which is few" in page


@pytest.mark.parametrize("name", TASKS)
def test_every_task_says_how_the_hub_calls_it(name: str) -> None:
    assert re.fullmatch(r"[a-z]+(-[a-z]+)+", TASKS[name].hub_tag)
    compile(f"model.predict({TASKS[name].example})", "card", "eval")
