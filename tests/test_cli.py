"""The command line: what it prints and where, what predict reads and writes, and how a run is stopped."""

from __future__ import annotations

import io
import itertools
import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from conftest import TINY

from acclimate.cli.main import main
from acclimate.core.run import Run
from acclimate.verbs.fit import fit
from acclimate.verbs.predict import AHEAD, BATCH, TOGETHER, load, samples_of

MODEL = f"--model {TINY} --size 32"
PATIENCE = 120.0
"""Seconds after which a process is taken to hang."""


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Any:
    """`cli(line, stdin)`: what a command line that ends well printed, as (stdout, stderr)."""

    def call(line: str, stdin: str = "") -> tuple[str, str]:
        monkeypatch.setattr(sys, "argv", ["acclimate", *shlex.split(line)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        with pytest.raises(SystemExit) as left:
            main()
        out, err = (text.decode() for text in capfdbinary.readouterr())
        assert left.value.code == 0, err
        return out, err

    return call


@pytest.fixture(scope="module")
def folder(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of digits, and one of several labels a sample."""
    folder = tmp_path_factory.mktemp("cli")
    fit(digits, strategy="probe", model=TINY, size=32, out=folder / "run")
    parity = ["even", "odd"]
    lines = [
        json.dumps({"image": str(file), "labels": [file.parent.name, parity[int(file.parent.name) % 2]]})
        for file in sorted((digits / "train").glob("*/*.png"))
    ]
    (folder / "several.jsonl").write_text("\n".join(lines))
    fit(folder / "several.jsonl", strategy="probe", model=TINY, size=32, out=folder / "several")
    return folder


# --- fit and evaluate


@pytest.mark.parametrize("quiet", ["", "--quiet"])
def test_json_is_one_object_on_stdout(quiet: str, cli: Any, digits: Path, tmp_path: Path) -> None:
    out, err = cli(f"fit {digits} {MODEL} --strategy last:1 --epochs 2 --out {tmp_path / 'run'} --json {quiet}")
    result = json.loads(out)
    assert out.count("\n") == 1
    assert {"run", "task", "model", "strategy", "seconds", "split", "metrics"} <= result.keys()
    assert result["run"] == str(tmp_path / "run")
    assert (result["task"], result["model"], result["strategy"]) == ("image_classification", TINY, "last:1")
    assert result["split"] == "test" and result["seconds"] > 0
    assert {"accuracy", "balanced_accuracy", "macro_f1"} <= result["metrics"].keys()
    for metric in result["metrics"].values():
        assert metric.keys() == {"value", "low", "high", "n"}
        assert metric["low"] <= metric["value"] <= metric["high"] and metric["n"] == 32
    assert (err == "") == bool(quiet)


def test_quiet_prints_the_result_alone(cli: Any, digits: Path, tmp_path: Path) -> None:
    out, err = cli(f"fit {digits} {MODEL} --strategy probe --out {tmp_path / 'run'} --quiet")
    assert err == ""
    accuracy = Run(tmp_path / "run").metrics()["metrics"]["accuracy"]
    assert f"accuracy           {accuracy['value']:.3f}  [{accuracy['low']:.3f}, {accuracy['high']:.3f}]" in out
    assert str(tmp_path / "run") in out


def test_what_goes_on_is_told_on_stderr(cli: Any, digits: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(digits, data)
    (data / "train/0/.hidden.png").write_bytes(b"")
    (data / "train/0/broken.png").write_bytes(b"")
    first = next((data / "train/1").iterdir())
    shutil.copy(first, data / "test/1")
    out, err = cli(f"fit {data} {MODEL} --strategy last:1 --epochs 2 --out {tmp_path / 'run'}")
    said = " ".join(err.split())
    assert "hidden files and folders ignored: 1" in said
    assert "samples that cannot be read: 1 of 130; set aside (train/0/broken.png: is empty (0 bytes))" in said
    assert (
        "samples that are the same or nearly the same in several splits (figures on them are too good): 1; 1 of test is in train too; "
        f"kept, --leaks drop takes them out of training, and what test holds out of val (train/1/{first.name}" in said
    )
    assert re.search(r"1 +head +closed form +[\d,]+ +- +all ", err)
    assert "probe: " in err and "from conv_head on: " in err
    assert "accuracy" in out and "accuracy" not in err


def test_a_dry_run_prints_the_plan_and_writes_nothing(
    cli: Any, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    out, _ = cli(f"fit {digits} {MODEL} --dry-run --minutes 9")
    assert "test, 4 classes, input" in " ".join(out.split()) and "samples from" not in out
    assert "what will train" in out and "probe, on cached features: " in out and "all layers, " in out
    plan = json.loads(cli(f"fit {digits} {MODEL} --dry-run --minutes 9 --json --quiet")[0])
    assert [phase["name"] for phase in plan["phases"]] == ["probe", "from blocks.2 on", "all layers"]
    assert all(phase["parameters"] > 0 and phase["memory"] > 0 and phase["seconds"] > 0 for phase in plan["phases"])
    assert list(tmp_path.iterdir()) == []


def test_evaluate_prints_the_figures_of_the_fit(cli: Any, folder: Path, digits: Path) -> None:
    out, _ = cli(f"evaluate {folder / 'run'} {digits} --json")
    result = json.loads(out)
    assert result["split"] == "test"
    assert result["metrics"] == Run(folder / "run").metrics()["metrics"]
    assert json.loads(cli(f"evaluate {folder / 'run'} {digits} --split val --json")[0])["split"] == "val"
    assert "on the test data, 32 samples" in cli(f"evaluate {folder / 'run'} {digits}")[0]


@pytest.mark.parametrize("width", [40, 80, 120])
def test_the_plan_fits_any_terminal(width: int, digits: Path) -> None:
    from rich.console import Console

    from acclimate.cli.terminal import print_plan

    plan = fit(digits, dry_run=True, model=TINY, size=32, strategy="gradual")
    console = Console(file=io.StringIO(), width=width)
    print_plan(plan, console)
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    figures = [
        re.fullmatch(r"\d  (head|\w+[\w.]* … head) +.+ [\d,]+ +[\d-]+ +\w+ +.+ MB +.+ s", line) for line in lines
    ]
    assert sum(map(bool, figures)) == (len(plan.phases) if width >= 80 else 0)


def test_without_a_terminal_long_work_says_how_far_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from acclimate.cli import terminal

    clock = iter(range(0, 10_000, 20))
    monkeypatch.setattr(terminal.time, "monotonic", lambda: float(next(clock)))
    with terminal.Terminal() as watcher:
        for done in range(4):
            watcher.work("reading the target", done, 9)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("reading the target: ") and lines[0].endswith(" of 9")
    assert 1 <= len(lines) < 4


# --- predict


def table(text: str) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(text), dtype={"label": str})


def test_predict_reads_files_folders_patterns_and_names_on_stdin_in_order(cli: Any, folder: Path, digits: Path) -> None:
    zero, one, two = (sorted((digits / "test" / name).iterdir()) for name in "012")
    line = f"predict {folder / 'run'} {two[1]} {digits / 'test/0'} '{digits / 'test/1'}/*.png' -"
    rows = table(cli(line, stdin=f"{two[0]}\n\nnot/there.png\n")[0])
    by_number = {name: sorted(files, key=lambda file: int(file.stem)) for name, files in (("0", zero), ("1", one))}
    assert list(rows.path) == [
        str(path) for path in (two[1], *by_number["0"], *by_number["1"], two[0], "not/there.png")
    ]
    assert list(rows.columns) == ["path", "label", "confidence", "error"]
    assert rows.error.isna()[:-1].all() and rows.label.notna()[:-1].all()
    assert rows.iloc[-1].error == "no such file or directory" and rows.iloc[-1][["label", "confidence"]].isna().all()
    right = load(folder / "run").predict([str(path) for path in rows.path[:-1]])
    assert list(rows.label[:-1]) == [answer["label"] for answer in right]


def bad_files(folder: Path) -> list[Path]:
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.png").write_text("not a picture")
    return [folder / "empty.png", folder / "text.png"]


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_every_format_holds_the_same_rows(ending: str, cli: Any, folder: Path, digits: Path, tmp_path: Path) -> None:
    samples = [bad_files(tmp_path)[0], *sorted((digits / "test/3").iterdir()), bad_files(tmp_path)[1]]
    out = tmp_path / f"out.{ending}"
    assert cli(f"predict {folder / 'run'} {shlex.join(map(str, samples))} --out {out} --probabilities")[0] == ""
    rows = {
        "csv": lambda: pd.read_csv(out, dtype={"label": str}),
        "jsonl": lambda: pd.read_json(out, lines=True, dtype={"label": str}),
        "parquet": lambda: pq.read_table(out).to_pandas(),
    }[ending]()
    assert list(rows.path) == list(map(str, samples))
    assert list(rows.error.isna()) == [False, *[True] * 8, False]
    assert "empty" in rows.error.iloc[0] and "not a picture" in rows.error.iloc[-1]
    answers = load(folder / "run").predict(list(map(str, samples)))
    for (_, row), answer in zip(rows.iterrows(), answers, strict=True):
        if "error" in answer:
            assert row.error == answer["error"]
            continue
        told = row.probabilities if ending == "jsonl" else {name: row[f"p:{name}"] for name in "0123"}
        assert row.label == answer["label"] and row.confidence == pytest.approx(answer["confidence"], abs=1e-6)
        assert told == pytest.approx(answer["probabilities"], abs=1e-6)
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_several_labels_stand_in_one_field(cli: Any, folder: Path, digits: Path, tmp_path: Path) -> None:
    rows = table(cli(f"predict {folder / 'several'} {digits / 'train/3'}")[0])
    assert list(rows.columns) == ["path", "labels", "confidence", "error"]
    lists = [
        json.loads(line) for line in cli(f"predict {folder / 'several'} {digits / 'train/3'} --json")[0].splitlines()
    ]
    assert ["|".join(row["labels"]) for row in lists] == list(rows.labels.fillna(""))
    assert ["3", "odd"] in [row["labels"] for row in lists]


def test_a_prediction_that_fails_leaves_the_old_file(
    cli: Any, folder: Path, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.csv"
    cli(f"predict {folder / 'run'} {digits / 'test/0'} --out {out}")
    before = out.read_bytes()

    def broken(*_: Any) -> Iterator[dict[str, Any]]:
        yield {"path": "a", "label": "0", "confidence": 1.0}
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("acclimate.verbs.predict.rows", broken)
        patch.setattr(
            sys, "argv", ["acclimate", "predict", f"{folder / 'run'}", f"{digits / 'test'}", "--out", str(out)]
        )
        with pytest.raises(SystemExit) as left:
            main()
    assert left.value.code == 130
    assert out.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]


def test_predictions_are_streamed(folder: Path, digits: Path) -> None:
    """Of 100,000 names never more than a bounded number is read ahead of what was answered."""
    files = list(map(str, sorted((digits / "test").glob("*/*.png"))[:4]))
    asked = itertools.count()

    def names() -> Iterator[str]:
        for name in itertools.islice(itertools.cycle(files), 100_000):
            next(asked)
            yield name

    stream = load(folder / "run").stream(names())
    for answered in range(1, 20 * BATCH):
        next(stream)
        read = int(repr(asked)[6:-1])
        assert read - answered <= BATCH * TOGETHER * (AHEAD + 1)
    stream.close()


def test_a_pipe_is_read_as_it_comes(folder: Path) -> None:
    """Names on stdin are answered before the last one is there."""
    reads = itertools.count()
    source = (f"{next(reads)}.png\n".encode() for _ in range(100_000))
    samples = samples_of(load(folder / "run"), ["-"], source).samples
    assert [next(samples).content, next(samples).content] == ["0.png", "1.png"]
    assert next(reads) <= 3


def test_a_closed_pipe_ends_predict_without_a_word(folder: Path, digits: Path) -> None:
    names = "\n".join([str(next((digits / "test/0").iterdir()))] * 2000)
    command = f"{shlex.quote(sys.executable)} -m acclimate predict {folder / 'run'} - | head -n 2"
    done = subprocess.run(command, shell=True, input=names, capture_output=True, text=True, timeout=PATIENCE)
    assert done.stdout.splitlines()[0] == "path,label,confidence,error"
    assert done.stderr == ""


# --- the cache


def test_the_cache_is_shown_and_cleared(
    cli: Any, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCLIMATE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ACCLIMATE_CACHE_GB", "2")
    fit(digits, strategy="probe", model=TINY, size=32, out=tmp_path / "run")
    held = sum(file.stat().st_size for file in (tmp_path / "cache/chunks").rglob("*") if file.is_file())
    shown = json.loads(cli("cache --json")[0])
    assert shown["folder"] == str(tmp_path / "cache") and shown["limit"] == 2e9 and shown["removed"] == 0
    assert shown["bytes"] == held > 0 and shown["chunks"] > 0
    assert re.fullmatch(
        rf"{re.escape(str(tmp_path / 'cache'))}: \d+ chunks, [\d.]+ MB of at most 2.0 GB\n", cli("cache")[0]
    )
    assert json.loads(cli("cache --clear --json")[0]) == {**shown, "chunks": 0, "bytes": 0, "removed": held}
    assert fit(digits, strategy="probe", model=TINY, size=32, out=tmp_path / "again").finished


# --- whole processes, and how they stop


@pytest.mark.parametrize("content", ["text,label\n", "text,label\na,b\nc,d,e\n"] * 2)
def test_a_table_that_is_refused_leaves_no_thread_that_aborts_the_process(tmp_path: Path, content: str) -> None:
    """Arrow's threads let go of what they would call in Python while Python ends: two of three processes aborted then."""
    (tmp_path / "data.csv").write_text(content)
    command = [sys.executable, "-m", "acclimate", "fit", "data.csv", "--dry-run"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stderr.splitlines()[0].split(":")[0]) == (2, "error")


def test_sigterm_saves_and_prints_the_line_that_goes_on(digits: Path, tmp_path: Path) -> None:
    line = f"fit {digits} {MODEL} --strategy full --epochs 3000 --batch-size 16 --fresh"
    words = [*shlex.split(line), "--out", str(tmp_path / "my run")]
    process = subprocess.Popen(
        [sys.executable, "-m", "acclimate", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    run, end = Run(tmp_path / "my run"), time.monotonic() + PATIENCE
    while not any(event["event"] == "epoch" for event in run.events()) and time.monotonic() < end:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + signal.SIGTERM
    assert out == ""
    *_, told, again = err.splitlines()
    assert told == f"stopped; the run is saved in {tmp_path / 'my run'}. Go on with:"
    assert shlex.split(again) == ["acclimate", *words, "--resume"]
    assert run.file("checkpoint/last.safetensors").exists() and not run.finished
