"""`acclimate predict` of texts: lines, tables and folders in, rows out, in the same order, however many and however wild."""

from __future__ import annotations

import csv
import io
import itertools
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from texts import samples, write_csv

from acclimate.core.errors import UserError
from acclimate.core.run import Run
from acclimate.data.readers.reader import Columns
from acclimate.verbs.fit import fit
from acclimate.verbs.predict import AHEAD, BATCH, TOGETHER, load, samples_of

PATIENCE = 120.0
TEXTS = [text for text, _ in samples(4, skip=40)]


@pytest.fixture(scope="module")
def run(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run fitted on a column with an unusual name."""
    folder = tmp_path_factory.mktemp("single")
    write_csv(folder / "data.csv", samples(24), "utt", "kind")
    return fit(
        folder / "data.csv", label="kind", text="utt", strategy="probe", model=str(tiny_bert), out=folder / "run"
    ).path


@pytest.fixture(scope="module")
def pairs(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    rows = [(text, name, name) for text, name in samples(24)]
    write_csv(folder / "data.csv", rows, "premise", "hypothesis", "label")
    return fit(folder / "data.csv", strategy="probe", model=str(tiny_bert), out=folder / "run").path


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def labels(run: Path, texts: Any) -> list[str]:
    return [answer["label"] for answer in load(run).predict(texts)]


def test_lines_on_stdin(cli: Any, run: Path) -> None:
    out, err, _ = cli(f"predict {run} -", "".join(f"{text}\n" for text in TEXTS).encode())
    rows = rows_of(out)
    assert list(rows[0]) == ["text", "label", "confidence", "error"]
    assert [row["text"] for row in rows] == TEXTS and [row["label"] for row in rows] == labels(run, TEXTS)
    assert err == "" and all(row["error"] == "" for row in rows)


@pytest.mark.parametrize("end", ["\n", "\r\n", ""])
def test_every_line_is_a_row_also_where_it_says_nothing(end: str, cli: Any, run: Path, tmp_path: Path) -> None:
    lines = [TEXTS[0], "", "  ", 'a "quoted", comma\tand tab', "mid\rdle", TEXTS[1]]
    (tmp_path / "lines.txt").write_bytes((end or "\n").join(lines).encode() + end.encode())
    out, err, _ = cli(f"predict {run} {tmp_path / 'lines.txt'}")
    rows = rows_of(out)
    assert [row["text"] for row in rows] == lines
    assert [row["error"] for row in rows] == ["", "is empty", "holds only spaces", "", "", ""]
    assert "2 of 6 samples could not be read" in err
    out, _, _ = cli(f"predict {run} - --json", (end or "\n").join(lines).encode() + end.encode())
    assert [json.loads(line)["text"] for line in out.splitlines()] == lines


def test_bytes_that_are_no_text_become_rows(cli: Any, run: Path) -> None:
    out, _, _ = cli(f"predict {run} -", b"\xef\xbb\xbfsnow\ncaf\xe9 snow\nrain\0fall\n\xf0\x9f\x91\xa9 \xe4\xbb\x8a\n")
    rows = rows_of(out.replace("\0", "?"))
    assert [row["text"] for row in rows] == ["snow", "", "rain?fall", "👩 今"]
    assert [row["error"] for row in rows] == ["", "is not UTF-8 (byte 4): name its encoding with --encoding", "", ""]


def test_where_no_sample_can_be_read_the_exit_code_says_so(cli: Any, run: Path) -> None:
    _, err, code = cli(f"predict {run} -", "né\nthé\n".encode("latin-1"))
    assert code == 1
    assert err.startswith("2 of 2 samples could not be read") and "--encoding" in err
    _, err, code = cli(f"predict {run} -", "né\nthe\n".encode("latin-1"))
    assert code == 0
    assert err.startswith("1 of 2 samples could not be read")


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_an_encoding_that_is_named(encoding: str, cli: Any, run: Path, tmp_path: Path) -> None:
    texts = ["café Größe", "snow on the hills"]
    (tmp_path / "lines.txt").write_bytes("\r\n".join(texts).encode(encoding))
    out, _, _ = cli(f"predict {run} {tmp_path / 'lines.txt'} --encoding {encoding}")
    assert [row["text"] for row in rows_of(out)] == texts
    (tmp_path / "t.csv").write_bytes(("utt\n" + "\n".join(texts)).encode(encoding))
    out, _, _ = cli(f"predict {run} {tmp_path / 't.csv'} --encoding {encoding}")
    assert [row["text"] for row in rows_of(out)] == texts


def write_table(path: Path, frame: pd.DataFrame) -> Path:
    if path.suffix in (".csv", ".tsv"):
        frame.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",", quoting=csv.QUOTE_ALL)
    elif path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_json(path, orient="records", lines=path.suffix == ".jsonl", force_ascii=False)
    return path


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.jsonl", "t.json", "t.parquet"])
@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_tables_by_the_column_of_the_fit(name: str, ending: str, cli: Any, run: Path, tmp_path: Path) -> None:
    texts = [TEXTS[0], 'a "quoted", one\nin two lines', "b\rc", TEXTS[1]]
    frame = pd.DataFrame({"id": [1, 2, 3, 4], "text": ["x y z"] * 4, "utt": texts, "kind": ["weather"] * 4})
    table, out = write_table(tmp_path / name, frame), tmp_path / f"out.{ending}"
    assert cli(f"predict {run} {table} --out {out} --probabilities")[0] == ""
    if ending == "csv":
        rows = rows_of(out.read_bytes().decode())
    elif ending == "jsonl":
        rows = [json.loads(line) for line in out.read_text().splitlines()]
    else:
        rows = pq.read_table(out).to_pylist()
    assert [row["text"] for row in rows] == texts
    assert [row["label"] for row in rows] == labels(run, texts)
    if ending == "csv":
        assert pa.csv.read_csv(out, parse_options=pa.csv.ParseOptions(newlines_in_values=True)).num_rows == 4


def test_other_columns_are_found_or_named(cli: Any, run: Path, tmp_path: Path) -> None:
    frame = pd.DataFrame({"review": TEXTS, "note": [f"{text} again" for text in TEXTS], "label": "a"})
    table = write_table(tmp_path / "t.csv", frame)
    assert [row["text"] for row in rows_of(cli(f"predict {run} {table}")[0])] == TEXTS
    named = rows_of(cli(f"predict {run} {table} --text note")[0])
    assert [row["text"] for row in named] == list(frame.note)


def test_a_bad_cell_becomes_a_row(cli: Any, run: Path, tmp_path: Path) -> None:
    lines = [
        '{"utt": "snow on the hills"}',
        '{"utt": null}',
        '{"other": 1}',
        '{"utt": 5}',
        "[1]",
        '{"utt": "a \\ud800 b"}',
    ]
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    out, _, code = cli(f"predict {run} {tmp_path / 't.jsonl'}")
    rows = rows_of(out)
    assert code == 0 and [row["error"] for row in rows] == ["", *["is empty"] * 4, ""]
    assert rows[-1]["text"] == "a ? b"
    (tmp_path / "t.csv").write_text("utt,kind\nsnow,a\n,b\nrain,c\n")
    assert [row["error"] for row in rows_of(cli(f"predict {run} {tmp_path / 't.csv'}")[0])] == ["", "is empty", ""]


def test_a_folder_of_text_files(cli: Any, run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "deeper").mkdir(parents=True)
    for name, content in {
        "10.txt": TEXTS[0],
        "2.txt": f"{TEXTS[1]}\nand more",
        "deeper/a.txt": TEXTS[2],
        ".x.txt": "no",
    }.items():
        (folder / name).write_text(content)
    (folder / "bad.txt").write_bytes(b"caf\xe9")
    (folder / "empty.txt").write_bytes(b"")
    (folder / "picture.png").write_bytes(b"\x89PNG")
    rows = rows_of(cli(f"predict {run} {folder}")[0])
    assert list(rows[0]) == ["file", "text", "label", "confidence", "error"]
    told = [(Path(row["file"]).name, row["error"]) for row in rows]
    assert told == [
        ("2.txt", ""),
        ("10.txt", ""),
        ("bad.txt", "is not UTF-8 (byte 4): name its encoding with --encoding"),
        ("a.txt", ""),
        ("empty.txt", "is empty"),
        ("picture.png", "is no .txt file: in folders these are read, and tables are named one by one"),
    ]
    assert rows[0]["label"] == labels(run, [f"{TEXTS[1]}\nand more"])[0]


def test_several_paths_say_where_each_row_is_from(cli: Any, run: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(f"{TEXTS[0]}\n{TEXTS[1]}\n")
    write_csv(tmp_path / "b.csv", [(TEXTS[2],)], "utt")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    line = f"predict {run} {tmp_path / 'a.txt'} not/there.txt - {tmp_path / 'b.csv'} {tmp_path / 'picture.png'}"
    rows = rows_of(cli(line, TEXTS[3].encode())[0])
    assert [Path(row["file"]).name for row in rows] == ["a.txt", "a.txt", "there.txt", "-", "b.csv", "picture.png"]
    assert [row["text"] for row in rows] == [TEXTS[0], TEXTS[1], "", TEXTS[3], TEXTS[2], ""]
    assert rows[2]["error"] == "no such file or directory" and "neither lines of text" in rows[5]["error"]
    by_glob = rows_of(cli(f"predict {run} '{tmp_path}/*.txt'")[0])
    assert [row["text"] for row in by_glob] == TEXTS[:2] and "file" in by_glob[0]


# --- pairs


def test_pairs_by_their_columns_and_by_tabs(cli: Any, pairs: Path, tmp_path: Path) -> None:
    both = list(zip(TEXTS[:4], TEXTS[4:8], strict=True))
    write_csv(tmp_path / "t.csv", [(str(i), b, a) for i, (a, b) in enumerate(both)], "id", "hypothesis", "premise")
    rows = rows_of(cli(f"predict {pairs} {tmp_path / 't.csv'}")[0])
    assert list(rows[0]) == ["text_1", "text_2", "label", "confidence", "error"]
    assert [(row["text_1"], row["text_2"]) for row in rows] == both
    assert [row["label"] for row in rows] == labels(pairs, both)
    lines = rows_of(
        cli(f"predict {pairs} -", "".join(f"{a}\t{b}\n" for a, b in both).encode() + b"one alone\na\t\n")[0]
    )
    assert lines[:4] == rows
    assert [row["error"] for row in lines[4:]] == [
        "is no pair of texts with a tab between them",
        "its second text is empty",
    ]


# --- much


def test_texts_are_streamed(run: Path) -> None:
    """Of 100,000 lines never more than a bounded number is read ahead of what was answered."""
    asked = itertools.count()

    def lines() -> Any:
        for i in range(100_000):
            next(asked)
            yield f"{TEXTS[i % len(TEXTS)]} {i}\n".encode()

    from acclimate.verbs.predict import rows

    model = load(run)
    stream = rows(model, samples_of(model, ["-"], lines()).samples)
    for answered in range(1, 6 * BATCH):
        assert next(stream)["text"].endswith(f" {answered - 1}")
        assert int(repr(asked)[6:-1]) - answered <= BATCH * TOGETHER * (AHEAD + 1)
    stream.close()


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_a_table_is_read_in_pieces(ending: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first row of a large table comes before the last was parsed: a row that cannot be parsed is met where it stands."""
    frame = pd.DataFrame({"utt": [f"snow {i}" for i in range(20_000)], "other": "x" * 100})
    table = write_table(tmp_path / f"t.{ending}", frame)
    monkeypatch.setattr("acclimate.data.readers.formats.BLOCK", 1 << 16)
    if ending != "parquet":
        with table.open("a") as file:
            file.write("{\n" if ending == "jsonl" else "a,b,c\n")
    from acclimate.core.errors import UserError

    found = samples_of(load(run), [str(table)], columns=Columns(labels=False))
    texts = (sample.content for sample in found.samples)
    before = pa.total_allocated_bytes()
    assert list(itertools.islice(texts, 19_000)) == list(frame.utt[:19_000])
    assert pa.total_allocated_bytes() - before < 1 << 20
    if ending == "parquet":
        assert list(texts) == list(frame.utt[19_000:])
    else:
        with pytest.raises(UserError, match="cannot be read as"):
            list(texts)


def test_a_pipe_is_answered_as_it_comes_and_may_be_closed(run: Path) -> None:
    command = f"{shlex.quote(sys.executable)} -m acclimate predict {run} - | head -n 2"
    done = subprocess.run(
        command, shell=True, input="snow on the hills\n" * 3000, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.stdout.splitlines()[0] == "text,label,confidence,error"
    assert done.stderr == ""


# --- mistakes

PICTURES = "holds pictures, and the model reads texts"
MISTAKES = {
    "predict RUN nothing.txt": [("nothing.txt: is not there", "")],
    "predict RUN empty.txt": [("empty.txt: holds no samples", "name files, folders or patterns that hold some")],
    "predict RUN empty.csv": [("empty.csv: has no rows", "give a table with one row per sample")],
    "predict RUN numbers.jsonl": [("column text of numbers.jsonl: holds int64, no texts", "--text")],
    "predict RUN two.csv": [("columns of two.csv: may all hold texts: first, other", "name it with --text")],
    "predict RUN two.csv --text thrid": [("--text thrid: is not a column of two.csv", "known: first, other")],
    "predict RUN paths.csv": [(f"paths.csv: {PICTURES}", "name the column of texts with --text")],
    "predict RUN - --text utt": [("--text utt: has no effect on lines of text", "leave it out")],
    "predict RUN lines.txt --quoting none": [("--quoting none: has no effect on lines of text", "leave it out")],
    "predict RUN two.csv --quoting some --encoding utf-9": [
        ("--encoding utf-9: is no encoding", "utf-8"),
        ("--quoting 'some': is not one of its values", "known: auto, none, double"),
    ],
    "predict PAIRS two.csv --text first": [
        ("two.csv: first: the model was fitted on pairs of texts", "--text COLUMN --text COLUMN")
    ],
    "predict RUN both.csv --text first --text other": [("two.csv: first, other", "")],
    "predict RUN broken.csv": [("broken.csv: row 2: cannot be read as CSV", "correct the row")],
    "predict RUN broken.parquet": [("broken.parquet: cannot be read as PARQUET", "check that it is whole")],
}


@pytest.mark.parametrize("command", MISTAKES)
def test_a_mistake_is_told(
    command: str, cli: Any, run: Path, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, content in {
        "empty.txt": "",
        "lines.txt": "snow\n",
        "empty.csv": "utt\n",
        "numbers.jsonl": '{"text": 1}\n{"text": 2}\n',
        "two.csv": "first,other\nsnow on hills,rain at sea\n",
        "both.csv": "first,other\nsnow on hills,rain at sea\n",
        "paths.csv": "image,label\na.png,1\nb.png,2\n",
        "broken.csv": "utt,kind\nsnow,a\nrain,b,c\n",
        "broken.parquet": "PAR1 nothing",
    }.items():
        (tmp_path / name).write_text(content)
    before = sorted(path.name for path in tmp_path.iterdir())
    out, err, code = cli(command.replace("RUN", str(run)).replace("PAIRS", str(pairs)))
    assert (out, code) == ("", 2)
    told = err.removesuffix("\n").split("\nerror: ")
    assert len(told) == len(MISTAKES[command])
    for (value, remedy), said in zip(MISTAKES[command], told, strict=True):
        assert (
            value.replace("two.csv: first, other", "both.csv: first, other") in said and remedy in said.split("\n")[1]
        )
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_any_iterable_of_samples_gives_a_list(run: Path) -> None:
    model = load(run)
    wanted = model.predict(TEXTS)
    assert [answer["label"] for answer in wanted] == labels(run, TEXTS)
    for several in (pd.Series(TEXTS), np.array(TEXTS), (text for text in TEXTS), iter(TEXTS)):
        assert model.predict(several) == wanted
    assert model.predict(TEXTS[0])["label"] == wanted[0]["label"]
    assert model.predict(pd.DataFrame({"utt": TEXTS})) == wanted, "by the column that the fit read"
    with pytest.raises(UserError, match="has no column 'utt', which the fit read"):
        model.predict(pd.DataFrame({"words": TEXTS}))


def test_as_many_texts_a_sample_as_the_run_was_fitted_on(
    run: Path, pairs: Path, tiny_bert: Path, tmp_path: Path
) -> None:
    listed = [((text, name), name) for text, name in samples(24)]
    fit(listed, strategy="probe", model=str(tiny_bert), out=tmp_path / "run")
    pair = (TEXTS[0], TEXTS[1])
    assert load(run).predict(pair) == {"error": "is a pair of texts, where the model was fitted on single ones"}
    for one in (pairs, tmp_path / "run"):
        assert load(one).predict(TEXTS[0]) == {"error": "is one text, where the model was fitted on pairs"}
        assert "label" in load(one).predict(pair)


def test_what_is_no_run() -> None:
    with pytest.raises(UserError, match="run None: is no path"):
        load(None)  # type: ignore[arg-type]


def test_what_the_samples_came_from_is_recorded(run: Path, pairs: Path) -> None:
    assert Run(run).read_json("model.json")["columns"] == ["utt"]
    assert Run(pairs).read_json("model.json")["columns"] == ["premise", "hypothesis"]
