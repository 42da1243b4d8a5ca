"""Texts: every layout becomes the same kind of `Table`, and what is wrong with texts is named before training."""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from datasets import Dataset, DatasetDict
from hypothesis import given
from hypothesis import strategies as st

from acclimate.cli.evaluate import evaluate
from acclimate.core.errors import UserError
from acclimate.core.recipe import Options, Recipe
from acclimate.data import gate
from acclimate.data.near import alike
from acclimate.data.read import read
from acclimate.data.table import Table
from acclimate.data.text_checks import check_texts, empty_rows

QUESTIONS = ["Who wrote Hamlet ?", 'What is a "byte" ?', "Where is Bonn,\nGermany ?"]
LABELS = ["HUM", "DESC", "LOC"]


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def said(source, **options) -> str:
    with pytest.raises(UserError) as caught:
        read(source, **options)
    return str(caught.value)


def rows(table: Table) -> list[tuple]:
    columns = [name for name in ("target", "split") if name in table]
    samples = [table.raw(i) for i in range(len(table))]
    return list(zip(samples, *(table.column(name).to_pylist() for name in columns), strict=True))


# layouts


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.jsonl", "t.parquet"])
def test_tables_of_texts(tmp_path, name):
    frame, path = pd.DataFrame({"id": [1, 2, 3], "Text": QUESTIONS, "label": LABELS, "split": "train"}), tmp_path / name
    if name.endswith("sv"):
        frame.to_csv(path, index=False, sep="\t" if name == "t.tsv" else ",")
    elif name == "t.jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_parquet(path)
    table = read(path)
    assert table.form == "text" and table.label == "label"
    assert rows(table) == list(zip(QUESTIONS, LABELS, ["train"] * 3, strict=True))
    assert table.name(0) == "row 1 'Who wrote Hamlet ?'"
    alone = read(path, labels=False)
    assert [text for text, *_ in rows(alone)] == QUESTIONS and "target" not in alone


def test_texts_in_memory():
    frame = pd.DataFrame({"text": QUESTIONS, "label": LABELS})
    part = Dataset.from_pandas(frame)
    for source in (frame, part, list(zip(QUESTIONS, LABELS, strict=True))):
        assert rows(read(source)) == list(zip(QUESTIONS, LABELS, strict=True))
    assert rows(read(DatasetDict(train=part, test=part)))[3] == (QUESTIONS[0], "HUM", "test")
    assert rows(read(QUESTIONS, labels=False)) == [(text,) for text in QUESTIONS]
    assert read([("one text", ["a", "b"])]).column("target").to_pylist() == [["a", "b"]]


def test_a_list_holds_samples_of_one_kind(tmp_path):
    assert rows(read([(("a man", "a person"), "yes"), (("a man", "a cat"), "no")]))[1] == (("a man", "a cat"), "no")
    message = said([("a text", "x"), ("b.jpg", "y"), ("more text", "x")])
    assert "holds 2 texts (the first: 'a text') and 1 pictures (the first: 'b.jpg')" in message
    assert read([(str(write(tmp_path / "picture", b"x")), "a")]).form == "path"


def test_class_folders_of_text_files(tmp_path):
    for split in ("train", "test"):
        write(tmp_path / f"data/{split}/neg/1.txt", f"bad {split}\n")
        write(tmp_path / f"data/{split}/pos/1.txt", "\ufeffgood")
    write(tmp_path / "data/README.txt", "about")
    table = read(tmp_path / "data")
    assert rows(table)[:2] == [("bad train\n", "neg", "train"), ("good", "pos", "train")]
    assert table.form == "text" and table.reader == "text-folders" and table.name(3) == "test/pos/1.txt"
    write(tmp_path / "flat/2.txt", "two")
    write(tmp_path / "flat/1.txt", "caf\u00e9".encode("latin-1"))
    assert rows(read(tmp_path / "flat", labels=False, encoding="latin-1")) == [("caf\u00e9",), ("two",)]
    assert "1.txt: line 1, byte 4 (0xe9, after 'caf'): is not UTF-8" in said(tmp_path / "flat", labels=False)
    assert "holds 2 texts but no class folders" in said(tmp_path / "flat")


def test_a_folder_of_pictures_and_more_texts_is_refused(tmp_path):
    for name in ("a/1.jpg", "b/1.txt", "b/2.txt"):
        write(tmp_path / name, b"x")
    assert "holds 1 pictures and 2 text files; it is not known which are the samples" in said(tmp_path)
    write(tmp_path / "a/2.jpg", b"x")
    assert read(tmp_path).form == "path"


def test_the_lines_of_a_text_file_are_samples_without_labels(tmp_path):
    path = write(tmp_path / "t.txt", "one\r\n\ntwo \u2028 lines\nlast")
    assert rows(read(path, labels=False)) == [("one",), ("",), ("two \u2028 lines",), ("last",)]
    assert "is one text file, which names no labels" in said(path)
    assert "is empty" in said(write(path, ""), labels=False)


# columns


@pytest.mark.parametrize(
    ("header", "options", "sample"),
    [
        ("text,review,label", {}, "a b"),
        ("review,sentence,label", {}, "c d"),
        ("premise,hypothesis,label", {}, ("a b", "c d")),
        ("question1,question2,label", {"labels": False}, ("a b", "c d")),
        ("one,two,label", {"text": ("two", "one")}, ("c d", "a b")),
        ("one,two,label", {"text": "two"}, "c d"),
    ],
)
def test_columns_of_texts_are_recognised_or_named(tmp_path, header, options, sample):
    table = read(write(tmp_path / "t.csv", f"{header}\na b,c d,x\n"), **options)
    assert table.raw(0) == sample


def test_the_only_column_of_words_is_the_text(tmp_path):
    table = read(write(tmp_path / "t.csv", "id,code,said,kind\n1,x7,some words,a\n2,x8,word,b\n"), label="kind")
    assert table.raw(1) == "word" and table.rows.column_names == ["sample", "target", "id", "code", "row"]
    assert read(write(tmp_path / "c.csv", "a,b\n\u4e0d\u9519\u7684\u9152\u5e97\u3002,good\n")).label == "b"


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("one,two,label\na b,c d,x\n", {}, "may all hold texts: one, two\n  name it with --text; columns: one, two"),
        ("a,label\nx,y\n", {}, "holds no column of picture paths or bytes, and none of texts"),
        (
            "How far ?,NUM\nWho was it ?,HUM\nHow many ?,NUM\n",
            {},
            "'How far ?', 'NUM': is the first line and looks like a row, not like the names of the columns: NUM is a label",
        ),
        ("text,label\na,y\n", {"text": "txt"}, "--text txt: is not a column of"),
        ("text,label\na,y\n", {"text": "label", "label": "label"}, "--text label and --label label: name the same"),
        ("text,label\na,y\n", {"text": ("text", "text")}, "--text text --text text: is no pair of columns"),
        ("text,label\na,y\n", {"text": "text", "image": "text"}, "name two kinds of samples"),
        ("text,label\na,b\nc,d,e\n", {}, "row 2: cannot be read as CSV: it has 3 fields, the header 2: 'c,d,e'"),
        ("text,label\na,y\n", {"encoding": "utf-9"}, "--encoding utf-9: is no encoding\n  did you mean"),
        ("text,label\na,y\n", {"encoding": "klingon"}, "is no encoding\n  known: utf-8, utf-16, latin-1,"),
        (
            "text,label\na,yy\n",
            {"encoding": "utf-16"},
            "whole and of that kind, and that it is encoded as --encoding utf-16",
        ),
        ("text,label\na,y\n", {"encoding": "base64"}, "--encoding base64: is no encoding"),
    ],
)
def test_tables_of_texts_that_lack_something(tmp_path, content, options, message):
    assert message in said(write(tmp_path / "t.csv", content), **options)


@pytest.mark.parametrize("header", ["text,category", "sentence,label", "text,id"])
def test_every_table_of_a_split_has_the_columns_of_the_others(tmp_path, header):
    write(tmp_path / "train.csv", "text,label\na b,x\nc d,y\n")
    write(tmp_path / "test.csv", f"{header}\ne f,x\n")
    lacking = next(name for name in ("text", "label") if name not in header)
    message = said(tmp_path)
    assert (
        f"test.csv: has no column {lacking}, which the others have; its columns: {', '.join(header.split(','))}"
        in message
    )
    assert "take the file out of the folder" in message
    write(tmp_path / "test.csv", "label,id,text\nx,1,e f\n")
    assert rows(read(tmp_path))[2] == ("e f", "x", "test")


def test_a_column_may_be_called_like_one_of_its_labels(tmp_path):
    path = write(tmp_path / "t.csv", "text,spam\na b,spam\nc d,ham\n")
    assert "say --label spam" in said(path)
    assert rows(read(path, label="spam")) == [("a b", "spam"), ("c d", "ham")]


def test_rows_of_json_lines_are_counted_from_one(tmp_path, monkeypatch):
    good = '{"text": "a b", "label": "x"}\n'
    assert said(write(tmp_path / "t.jsonl", good + '{"text": "c"\n' + good)).partition("\n")[0].endswith("in row 2")
    monkeypatch.setattr("acclimate.data.readers.formats.BLOCK", 100)
    message = said(write(tmp_path / "t.jsonl", good * 20 + '{"text": "c d" "e"}\n'))
    assert message.partition("\n")[0].endswith("in row 21")
    assert len(read(write(tmp_path / "t.jsonl", good * 20))) == 20


def test_a_row_is_called_by_its_place_in_its_own_table(tmp_path):
    write(tmp_path / "d/train.csv", "text,label\nwho is it ?,HUM\n,HUM\nwhat is it ?,DESC\n")
    write(tmp_path / "d/test.csv", 'text,label\n"where\n is it ?",LOC\n')
    table = read(tmp_path / "d")
    assert table.name(3) == "test.csv row 1 'where is it ?'"
    assert table.take(np.array([0, 2])).name(1) == "train.csv row 3 'what is it ?'", "also after rows were taken out"
    assert read(tmp_path / "d/train.csv").take(np.array([2])).name(0) == "row 3 'what is it ?'"


def test_a_second_column_of_texts_is_not_passed_over_in_silence(tmp_path):
    content = "question,answer,id,label\nwho is it ?,it is him,a1,HUM\nwhat is it ?,a big thing,a2,DESC\n"
    source = write(tmp_path / "t.csv", content)
    note = "'answer' holds texts too and is not read; --text question --text answer makes pairs"
    assert note in read(source).notes
    assert not any("too" in one for one in read(source, text=("question",)).notes)
    labels = write(tmp_path / "l.csv", "text,target\nwho is it ?,a person\nwhat is it ?,a thing\n")
    assert read(labels).notes == (), "nor are labels of two words taken for texts"


def test_options_of_text_files_have_no_effect_elsewhere(tmp_path):
    pq.write_table(pa.table({"text": ["a"], "label": ["b"]}), tmp_path / "t.parquet")
    assert "--encoding ascii: has no effect on .parquet files" in said(tmp_path / "t.parquet", encoding="ascii")
    assert "--quoting none: has no effect" in said(write(tmp_path / "t.jsonl", "{}"), quoting="none")
    assert "--text a --text b: has no effect on a list of pairs" in said([("a", "b")], text=("a", "b"))
    pq.write_table(pa.table({"text": [1], "label": ["b"]}), tmp_path / "t.parquet")
    assert "column text of" in (message := said(tmp_path / "t.parquet")) and "holds int64, no texts" in message


# quoting, encoding, odd bytes


@pytest.mark.parametrize(
    ("name", "content", "texts", "noted"),
    [
        (
            "t.tsv",
            'text\tlabel\n"Hi" he said\tx\n5" wide\tx\n"open\ty\n',
            ['"Hi" he said', '5" wide', '"open'],
            "without",
        ),
        ("t.tsv", 'text\tlabel\n"a\nb"\tx\n"say ""hi"""\ty\n', ["a\nb", 'say "hi"'], "with"),
        ("t.csv", 'text,label\n"a, ""b""\r\nc",x\n5" wide,y\n', ['a, "b"\r\nc', '5" wide'], None),
        ("t.csv", 'text,label\n"Hi" he said,x\n"open,y\n', ['"Hi" he said', '"open'], "without"),
        ("t.tsv", "text\tlabel\n`` a ''\tx\n", ["`` a ''"], None),
    ],
)
def test_quoting_is_seen_and_said(tmp_path, name, content, texts, noted):
    table = read(write(tmp_path / name, content))
    assert [text for text, _ in rows(table)] == texts
    assert [f"{noted} quoting" in note for note in table.notes] == ([True] if noted else [])


def test_quoting_can_be_forced_and_is_looked_for_in_the_whole_file(tmp_path):
    path = write(tmp_path / "t.tsv", "text\tlabel\n" + "no marks\tx\n" * 200_000 + '"Oh\ty\n"No" she said\ty\n')
    assert read(path).raw(200_000) == '"Oh'
    path = write(tmp_path / "t.tsv", 'text\tlabel\n"all"\tx\n')
    assert read(path).raw(0) == "all" and read(path, quoting="none").raw(0) == '"all"'
    assert read(path, quoting="none").notes == ()


@given(st.lists(st.tuples(st.text(min_size=1), st.sampled_from("xy")), min_size=1, max_size=8), st.sampled_from(",\t;"))
def test_what_a_csv_writer_quotes_is_read_back_unchanged(tmp_path_factory, samples, delimiter):
    file = io.StringIO()
    writer = csv.writer(file, delimiter=delimiter, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerows([("text", "label"), *samples])
    path = write(tmp_path_factory.mktemp("csv") / ("t.tsv" if delimiter == "\t" else "t.csv"), file.getvalue())
    assert rows(read(path, quoting="double")) == rows(read(path)) == samples


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", 'text,label\n{}"a lost mark, here,x\nb c,y\nd e",x\nf g,y\n'),
        ("t.tsv", 'label\ttext\n{}x\t"a lost mark\ny\tb c\nx\td e"\ny\tf g\n'),
        ("t.csv", 'id,text,label,by\n{}1,"a lost mark,x,me\n2,b c,y,me\n3,d e",x,me\n4,f g,y,me\n'),
    ],
)
def test_rows_that_a_lost_quotation_mark_swallowed_are_named(tmp_path, name, content):
    header, mark = content.partition("\n")[0], "\t" if name == "t.tsv" else ","
    fields = {"text": '"Well, said\nhe,\nx or y"', "label": "x", "id": "0", "by": "me"}
    sound = mark.join(fields[column] for column in header.split(mark)) + "\n"
    table = read(write(tmp_path / name, content.format(sound * 40)), quoting="double")
    (note,) = table.notes
    assert f"{name}: rows whose text holds lines that look like rows: 1 (row 41); kept" in note
    assert "close it, or say --quoting none" in note
    assert read(write(tmp_path / name, f"{header}\n{sound * 40}"), quoting="double").notes == ()
    write(tmp_path / "splits" / name.replace("t.", "train."), content.format(sound))
    assert "train." in (said := read(tmp_path / "splits", quoting="double").notes[0]) and "(row 2)" in said


def test_another_encoding_names_its_line_and_byte(tmp_path):
    path = write(tmp_path / "t.csv", "text,label\nplain,x\na caf\u00e9,y\n".encode("latin-1"))
    message = said(path)
    assert "t.csv: line 3, byte 6 (0xe9, after 'a caf'): is not UTF-8" in message and "--encoding latin-1" in message
    assert read(path, encoding="latin-1").raw(1) == "a caf\u00e9"
    assert "--encoding utf-8" in said(write(tmp_path / "u.csv", "text,label\nplain,x\n"), encoding="utf-16")
    wide = write(tmp_path / "w.jsonl", '{"text": "caf\u00e9", "label": "x"}\n'.encode("utf-16"))
    assert "--encoding utf-16" in said(wide)
    assert read(wide, encoding="utf-16").raw(0) == "caf\u00e9"


def test_a_file_that_is_no_text_says_what_it_begins_like(tmp_path):
    path = tmp_path / "t.csv"
    pq.write_table(pa.table({"text": ["caf\u00e9", "tea"], "label": ["x", "y"]}), path)
    assert f"{path}: is no text: it begins like Parquet\n  name it .parquet" in said(path)
    path.write_bytes(gzip.compress(b"text,label\nplain,x\n"))
    assert "begins like gzip\n  unpack it" in said(path)


def test_a_parquet_file_of_other_bytes_is_refused(tmp_path):
    ends = pa.py_buffer(b"\0\0\0\0\1\0\0\0")
    column = pa.Array.from_buffers(pa.string(), 1, [None, ends, pa.py_buffer(b"\xff")])
    pq.write_table(pa.table({"text": column, "label": ["x"]}), tmp_path / "t.parquet")
    assert "cannot be read as PARQUET: Column 0" in said(tmp_path / "t.parquet")


def test_nul_bytes_and_dates_stay_as_they_are(tmp_path):
    table = read(write(tmp_path / "t.csv", b"text,label\na\x00b,x\n"))
    assert table.raw(0) == "a\x00b"
    lines = b'{"text": "a\x00b", "label": "x"}\n{"text": "c", "label": "y"}\n'
    assert read(write(tmp_path / "t.jsonl", lines)).raw(0) == "a\x00b"
    assert read(write(tmp_path / "t.jsonl", '{"text": "2024-01-01", "label": "x"}\n')).raw(0) == "2024-01-01"


# near texts

LONG = "The film is slow at first, but it ends so well that I would see it again tomorrow."


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("What are the Twin Cities ?", "what are the twin cities", True),
        ("\uff21\uff22\uff23 caf\u00e9", "abc cafe\u0301!", True),
        (LONG, LONG.replace("film", "films"), True),
        (LONG, LONG.replace("slow at first", "lovely throughout"), False),
        ("What is the capital of France ?", "What is the capital of Greece ?", False),
        ("code letter B", "code letter F", False),
        ("!!!", "???", False),
    ],
)
def test_what_counts_as_nearly_the_same_text(one, other, same):
    numbers = alike(pa.chunked_array([[one, "between", other]]))
    assert (numbers[0] == numbers[2]) is np.bool_(same) and numbers[1] not in numbers[[0, 2]]


def test_nothing_is_like_null_and_pairs_are_compared_in_their_order():
    assert len(set(alike(pa.chunked_array([[None, None, "a", "a"]])).tolist())) == 3
    pairs = pa.chunked_array([pa.array([["a", "b c"], ["A", "b  c!"], ["b c", "a"], ["a b", "c"]])])
    first, second, turned, moved = alike(pairs)
    assert first == second and len({first, turned, moved}) == 3
    of_one_premise = pa.chunked_array([pa.array([[LONG * 3, "It ends well."], [LONG * 3, "It ends badly."]])])
    assert len(set(alike(of_one_premise).tolist())) == 2


def test_short_texts_of_one_pattern_are_not_chained_together():
    texts = [f"What is the capital of country {i} ?" for i in range(3000)]
    assert len(np.unique(alike(pa.chunked_array([texts])))) > 2500


@given(st.lists(st.none() | st.text(max_size=60), max_size=12), st.randoms())
def test_numbers_do_not_depend_on_the_order_of_the_texts(texts, random):
    order = random.sample(range(len(texts)), len(texts))
    one = alike(pa.chunked_array([pa.array(texts, pa.string())]))[order]
    other = alike(pa.chunked_array([pa.array([texts[i] for i in order], pa.string())]))
    assert np.array_equal(one[:, None] == one, other[:, None] == other)


# the gate


def table_of(texts: list, targets: list, splits: list | None = None, label: str | None = None) -> Table:
    content = {"sample": texts, "target": targets} | ({"split": splits} if splits else {})
    return Table(pa.table(content), "text", "questions", "test", label=label)


def checked(table: Table, leaks: str = "keep") -> tuple[np.ndarray, list[gate.Finding]]:
    hashes = gate.digests(one.hash for one in gate.scan(table))
    return gate.check_samples(table, hashes, empty_rows(table), alike(table.column("sample")), leaks)


SHARED = table_of(
    ["one two", "One two!", "three", "four", "ONE TWO", "four", "three", "five"],
    ["a", "a", "b", "a", "b", "a", "b", "a"],
    ["train", "train", "train", "val", "val", "test", "test", "test"],
)


def test_texts_that_splits_share_are_counted_for_each_two_splits():
    keep, findings = checked(SHARED)
    assert keep.all()
    across, repeated, contradicting = findings
    assert across.rule == "same sample in several splits" and across.count == 3
    assert "1 of val is in train too, 1 of test is in train too, 1 of test is in val too" in across.what
    assert "--leaks drop" in across.done
    assert repeated.rule == "repeated sample" and repeated.count == 1
    assert contradicting.samples == ["row 1 'one two' = row 2 'One two!' = row 5 'ONE TWO'"]


def test_shared_texts_are_taken_out_of_training_and_val_where_that_is_asked():
    assert gate.leaking(SHARED, alike(SHARED.column("sample"))).tolist() == [0, 1, 2, 3]
    keep, findings = checked(SHARED, "drop")
    assert np.flatnonzero(~keep).tolist() == [0, 1, 2, 3]
    assert findings[0].rule == "same sample in several splits"
    assert findings[0].done == "taken out of training, and what test holds out of val"


def test_empty_texts_are_set_aside():
    table = table_of(["a", " \u200b\n", None, "", *map(str, range(80))], ["x"] * 84)
    assert empty_rows(table) == {1: "holds only spaces", 2: "is empty", 3: "is empty"}
    keep, findings = checked(table)
    assert np.flatnonzero(~keep).tolist() == [1, 2, 3] and findings[0].rule == "unreadable"
    pairs = table_of([["a", "b"], ["", "b"], ["a", " "], None], ["x"] * 4)
    assert empty_rows(pairs) == {
        1: "its first text is empty",
        2: "its second text holds only spaces",
        3: "its first text is empty",
    }


def test_what_is_left_over_in_texts_is_named():
    texts = ["fine & well", "lost \ufffd", "AT&amp;T", "a<br />b", "x < y > z", "a\x00b", "tab\tand\nline", "&#39;"]
    findings = {one.rule: one.samples for one in check_texts(table_of(texts, ["a"] * 8))}
    assert {rule: [int(name.split()[1]) for name in names] for rule, names in findings.items()} == {
        "replacement characters": [2],
        "html": [3, 4, 8],
        "control characters": [6],
    }


def test_a_column_of_numbers_is_no_column_of_texts():
    with pytest.raises(UserError, match="is a column of numbers, not of texts"):
        check_texts(table_of(["12", "-3.5", "", "1,000"], ["a"] * 4))
    assert check_texts(table_of(["12", "twelve"], ["a", "b"])) == []


def test_labels_that_are_identifiers_are_refused():
    texts = [f"text {i}" for i in range(30)]
    with pytest.raises(UserError, match=r"column id of questions: 'u0', 'u1', 'u2'.* looks like an identifier"):
        checked(table_of(texts, [f"u{i}" for i in range(30)], label="id"))
    checked(table_of(texts, [f"u{i}" for i in range(30)]))
    checked(table_of(texts, [f"u{i // 2}" for i in range(30)], label="id"))


def test_classes_that_a_split_lacks_are_named():
    table = table_of(["p", "q", "r"], ["a", "b", "a"], ["train", "train", "val"])
    (finding,) = gate.check_classes(table)
    assert finding.rule == "class missing from a split" and finding.samples == ["b"] and "in val" in finding.what


# options


def test_named_texts_survive_a_recipe():
    assert Options.check({"text": "body"}).text == ("body",)
    options = Options.check({"text": ("a", "b"), "leaks": "drop", "quoting": "none"})
    recipe = Recipe(acclimate="1", data="d", asked=options.asked())
    again = Options.check(Recipe(**__import__("yaml").safe_load(recipe.text())).asked)
    assert again.text == ("a", "b") and again.asked() == recipe.asked
    with pytest.raises(UserError, match="--quoting 'doubel': is not one of its values"):
        Options.check({"quoting": "doubel"})
    with pytest.raises(UserError, match="--text a --text b --text c: is said 3 times, and may be said 2 times at most"):
        Options.check({"text": ("a", "b", "c")})


def test_a_column_of_texts_can_be_said_twice(monkeypatch):
    seen = {}
    monkeypatch.setattr("acclimate.verbs.evaluate.evaluate", lambda run, data, **asked: seen.update(asked) or {})
    CliRunner().invoke(evaluate, ["run", "data", "--text", "a", "--text", "b", "--json"], catch_exceptions=False)
    assert seen.pop("watcher") and seen == {"text": ("a", "b"), "slice": (), "device": "auto"}


def test_a_row_of_text_costs_its_bytes(tmp_path):
    n = 200_000
    path = write(tmp_path / "t.csv", "text,label\n" + "".join(f"text number {i},{i % 3}\n" for i in range(n)))
    before = pa.total_allocated_bytes()
    table = read(path)
    assert table.rows.nbytes / n < 60
    assert (pa.total_allocated_bytes() - before) / n < 200
