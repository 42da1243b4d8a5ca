"""The gate: every sample is read once before the first step; what is wrong is named, and set aside or refused."""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from acclimate.core.errors import Problems, fail
from acclimate.data.table import SPLITS, Raw, Table

UNREADABLE_AT_MOST = 0.05
LISTED, SHOWN = 20, 3
"""Samples that a finding names, and those of them that a line shows."""
NAMED = 5
"""Samples of one set that are named."""
ENOUGH_ROWS = 20
"""Of fewer rows, each may well have a class of its own."""
JOINTS = (";", "|", ",")
"""What may stand between several labels in one field."""
DROPPED = "out of training, and what test holds out of val"
"""Where samples in several splits are taken from."""
AHEAD = 8
"""Samples read ahead by each worker; bounds the memory of a scan."""


@dataclass(frozen=True)
class Finding:
    """What is wrong with some samples and what was done about it."""

    rule: str
    """A short name that does not change: "unreadable"."""
    severity: Literal["note", "set aside", "error"]
    what: str
    """The finding as a sentence for people."""
    samples: list[str]
    """The first 20 samples, or pairs of samples, by name."""
    count: int
    done: str

    @property
    def line(self) -> str:
        """In one line, with the first few samples."""
        named = ", ".join(self.samples[:SHOWN]) + (", ..." if self.count > SHOWN else "")
        return f"{self.what}; {self.done}{f' ({named})' if named else ''}"


@dataclass(frozen=True)
class Scanned:
    """One sample after reading; `error` is the reason why it could not be read."""

    index: int
    hash: bytes
    """16 bytes of BLAKE2b of the sample as stored; zeros where it could not be read."""
    error: str | None


def scan(table: Table, *, workers: int = 1) -> Iterator[Scanned]:
    """Read and hash every sample, in table order, with a bounded number of samples in memory. `workers`: threads."""
    pool = ThreadPoolExecutor(workers, thread_name_prefix="scan")
    waiting: deque[Future[Scanned]] = deque()
    try:
        for index in range(len(table)):
            waiting.append(pool.submit(scan_one, table, index))
            if len(waiting) >= workers * AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def scan_one(table: Table, index: int) -> Scanned:
    raw, error = read_one(table, index)
    digest = bytes(16) if raw is None else hashlib.blake2b(content(raw), digest_size=16).digest()
    return Scanned(index, digest, error)


def content(raw: Raw) -> bytes:
    """What a hash is made of."""
    if isinstance(raw, bytes):
        return raw
    return (raw if isinstance(raw, str) else "\x1f".join(raw)).encode()


def read_one(table: Table, index: int) -> tuple[Raw | None, str | None]:
    """(the sample as stored, None), or (None, why it cannot be had)."""
    if not table.column("sample")[index].is_valid:
        return None, "names no file" if table.form == "path" else "holds nothing"
    try:
        raw = table.raw(index)
    except FileNotFoundError:
        return None, "is not there"
    except OSError as error:
        return None, f"cannot be read: {error.strerror or error}"
    return (raw, None) if raw else (None, "is empty (0 bytes)")


def digests(hashes: Iterable[bytes]) -> np.ndarray:
    """uint64 [n, 2] of the hashes of a scan."""
    return np.frombuffer(b"".join(hashes), dtype=">u8").astype(np.uint64).reshape(-1, 2)


def check(table: Table, hashes: np.ndarray, errors: Mapping[int, str]) -> tuple[np.ndarray, list[Finding]]:
    """`check_samples`, then `check_classes` on what is kept."""
    keep, findings = check_samples(table, hashes, errors)
    return keep, findings + check_classes(table.take(np.flatnonzero(keep)))


def check_samples(
    table: Table,
    hashes: np.ndarray,
    errors: Mapping[int, str],
    same: np.ndarray | None = None,
    leaks: Literal["keep", "drop"] = "keep",
) -> tuple[np.ndarray, list[Finding]]:
    """(bool [n]: the samples to keep, what was found), whatever the targets are.

    `hashes`: uint64 [n, 2]. `errors`: row -> why it cannot be used. Samples that cannot be used or have no target are
    set aside. `same`: int64 [n], equal numbers for samples that count as one (`near.alike`); by default byte-identical
    ones. Those in several splits or with several targets are named, and with `same` those repeated within training;
    "drop" takes what `leaking` names out of its split.

    Raises `UserError` where more than 5 % of the samples cannot be used, and for labels that are identifiers.
    """
    keep = np.ones(len(table), dtype=bool)
    keep[list(errors)] = False
    findings = [*unreadable(table, errors), *unlabelled(table, keep)]
    refuse_identifiers(table, keep)
    kind = "texts" if table.form == "text" else "samples"
    alike = f"byte-identical {kind}" if same is None else f"{kind} that are the same or nearly the same"
    number = identical(hashes) if same is None else same
    sets = twins(number, keep)
    shared = shared_samples(table, number, keep, sets, alike, leaks)
    repeated = repeated_samples(table, number, keep, alike) if same is not None else []
    if leaks == "drop" and shared:
        rows = np.flatnonzero(keep)
        keep[rows[leaking(table.take(rows), number[rows])]] = False
    findings += [*lost_classes(table, keep), *split_groups(table), *shared, *repeated]
    if "target" in table:
        if not are_names(table):  # boxes of a copy in another size are others
            alike, sets = f"byte-identical {kind}", twins(identical(hashes), keep)
        contradicting = differing(table, "target", sets)
        what = f"{alike} with different labels (one of them is wrong)"
        findings += pairs(table, "same sample, different labels", what, contradicting)
    return keep, findings


def unreadable(table: Table, errors: Mapping[int, str]) -> list[Finding]:
    if not errors:
        return []
    named = [f"{table.name(index)}: {reason}" for index, reason in sorted(errors.items())]
    what = f"samples that cannot be read: {len(errors)} of {len(table)}"
    if len(errors) > UNREADABLE_AT_MOST * len(table):
        raise fail(
            f"{table.source}: {what}",
            f"more than {UNREADABLE_AT_MOST:.0%}, which is no accident: " + "; ".join(named[:5]),
            "mend or remove them, or "
            + ("name another column with --text" if table.form == "text" else "check that paths lead to pictures"),
        )
    return [Finding("unreadable", "set aside", what, named[:LISTED], len(errors), "set aside")]


def unlabelled(table: Table, keep: np.ndarray) -> list[Finding]:
    """Clears `keep` where there is no target."""
    if "target" not in table:
        return []
    rows = np.flatnonzero(table.column("target").is_null().to_numpy(zero_copy_only=False) & keep)
    keep[rows] = False
    if not len(rows):
        return []
    if not keep.any():
        found = f"fill in {table.label}, the column of labels, or name another with --label"
        remedy = "name the column of labels with --label" if table.label is None else found
        raise fail(f"{table.source}: {len(rows)} samples", "have no label", remedy)
    names = [table.name(int(row)) for row in rows[:LISTED]]
    return [Finding("no label", "set aside", f"samples without a label: {len(rows)}", names, len(rows), "set aside")]


def refuse_identifiers(table: Table, keep: np.ndarray) -> None:
    """Raises `UserError` for a label column in which most rows have a class of their own."""
    rows = int(keep.sum())
    if table.label is None or rows < ENOUGH_ROWS or not pa.types.is_string(table.column("target").type):
        return
    values = table.column("target").filter(pa.array(keep)).value_counts()
    counts = pc.struct_field(values, "counts").to_numpy(zero_copy_only=False)
    once = int((counts == 1).sum())
    if once > rows / 2:
        first = ", ".join(repr(value["values"].as_py()) for value in values[:3])
        raise fail(
            f"column {table.label} of {table.source}: {first}, ...",
            f"looks like an identifier, not a label: {once:,} of {rows:,} rows have a value of their own",
            "name the column of labels with --label",
        )


def are_names(table: Table) -> bool:
    """Whether targets are names of classes, or lists of them."""
    kind = table.column("target").type
    return pa.types.is_string(getattr(kind, "value_type", kind))


def lost_classes(table: Table, keep: np.ndarray) -> list[Finding]:
    """Classes, where targets are names, of which no sample can be used."""
    if "target" not in table or keep.all():
        return []
    if not are_names(table):
        return []
    kept = table.column("target").filter(pa.array(keep))
    lost = sorted(names_in(table.column("target")) - names_in(kept))
    what = f"classes of which no sample can be used: {len(lost)}"
    return [Finding("lost class", "set aside", what, lost[:LISTED], len(lost), "left out")] if lost else []


def split_groups(table: Table) -> list[Finding]:
    """Groups that the given splits tear apart."""
    if "split" not in table or "group" not in table:
        return []
    counted = table.rows.group_by("group").aggregate([("split", "count_distinct")])
    torn = counted.filter(pc.and_(pc.greater(counted["split_count_distinct"], 1), pc.is_valid(counted["group"])))
    names = sorted(map(str, torn["group"].to_pylist()))
    what = f"groups with samples in several splits (figures on them are too good): {len(names)}"
    return [Finding("group in several splits", "note", what, names[:LISTED], len(names), "kept")] if names else []


def identical(hashes: np.ndarray) -> np.ndarray:
    """int64 [n]: equal numbers for equal hashes (uint64 [n, 2])."""
    order = np.lexsort((hashes[:, 1], hashes[:, 0]))
    new = (hashes[order[1:]] != hashes[order[:-1]]).any(axis=1)
    number = np.zeros(len(hashes), dtype=np.int64)
    number[order[1:]] = np.cumsum(new)
    return number


def leaking(table: Table, same: np.ndarray) -> np.ndarray:
    """int64 [m]: training rows of which val or test holds the same (equal numbers), and val rows of which test does.

    Rows of no split count as training.
    """
    if "split" not in table:
        return np.zeros(0, dtype=np.int64)
    train, val, test = by_split(table)
    from_train = train & np.isin(same, same[val | test])
    return np.flatnonzero(from_train | (val & np.isin(same, same[test])))


def by_split(table: Table) -> list[np.ndarray]:
    """bool [n] for each of train, val and test; rows of no split count as training."""
    split = pc.fill_null(table.column("split"), "train").to_numpy(zero_copy_only=False)
    return [split == name for name in SPLITS]


def shared_samples(
    table: Table, number: np.ndarray, keep: np.ndarray, sets: list[np.ndarray], alike: str, leaks: str
) -> list[Finding]:
    """Samples that several splits hold, with how many for each two splits."""
    across = differing(table, "split", sets) if "split" in table else []
    if not across:
        return []
    rows = dict(zip(SPLITS, (number[part & keep] for part in by_split(table)), strict=True))
    counts = [
        f"{count:,} of {held} {'is' if count == 1 else 'are'} in {other} too"
        for held, other in (("val", "train"), ("test", "train"), ("test", "val"))
        if (count := int(np.isin(rows[held], rows[other]).sum()))
    ]
    what = f"{alike} in several splits (figures on them are too good): {len(across)}; " + ", ".join(counts)
    done = f"taken {DROPPED}" if leaks == "drop" else f"kept, --leaks drop takes them {DROPPED}"
    severity: Literal["note", "set aside"] = "set aside" if leaks == "drop" else "note"
    names = [chain(table, rows) for rows in across[:LISTED]]
    return [Finding("same sample in several splits", severity, what, names, len(across), done)]


def repeated_samples(table: Table, number: np.ndarray, keep: np.ndarray, alike: str) -> list[Finding]:
    """Samples that stand in training more than once."""
    training = keep & by_split(table)[0] if "split" in table else keep
    sets = twins(number, training)
    count = sum(len(rows) - 1 for rows in sets)
    within = " within training" if "split" in table else ""
    what = f"{alike}{within}: {count:,} repeat another"
    names = [chain(table, rows) for rows in sets[:LISTED]]
    return [Finding("repeated sample", "note", what, names, count, "kept")] if sets else []


def twins(number: np.ndarray, keep: np.ndarray) -> list[np.ndarray]:
    """The rows of each set of samples of one number, two or more, in table order; rows not kept are left out."""
    rows = np.flatnonzero(keep)
    rows = rows[np.argsort(number[rows], kind="stable")]
    new = np.flatnonzero(number[rows[1:]] != number[rows[:-1]]) + 1
    found = [part for part in np.split(rows, new) if len(part) > 1]
    return sorted(found, key=lambda part: int(part[0]))


def differing(table: Table, column: str, sets: list[np.ndarray]) -> list[np.ndarray]:
    """The sets in which not all samples have the same value of the column."""
    values = table.column(column)
    return [rows for rows in sets if len({repr(values[int(row)].as_py()) for row in rows}) > 1]


def pairs(table: Table, rule: str, what: str, sets: list[np.ndarray]) -> list[Finding]:
    named = [chain(table, rows) for rows in sets[:LISTED]]
    return [Finding(rule, "note", f"{what}: {len(sets)}", named, len(sets), "kept")] if sets else []


def chain(table: Table, rows: np.ndarray) -> str:
    """The names of samples that are one, no more than a line of them."""
    return " = ".join([table.name(int(row)) for row in rows[:NAMED]] + ["..."] * (len(rows) > NAMED))


def check_classes(table: Table, fewest: int = 2) -> list[Finding]:
    """What is wrong with targets that name classes (string or list<string>, none null).

    Raises `UserError` for fewer classes than `fewest`, and for classes in val or test that training lacks.
    """
    where = classes_by_split(table)
    problems = Problems()
    every = sorted(set().union(*where.values()))
    if len(every) < fewest:
        only = every[0] if every else "none"
        problems.add(f"{table.source}: {only}", "is the only class", "give samples of two classes or more")
    training = where.pop("train", set())
    if not training and any(where.values()):
        split = " and ".join(name for name, classes in where.items() if classes)
        raise fail(table.source, f"holds no training samples, only {split}", "give samples to train on besides")
    for split, classes in where.items():
        if lacking := sorted(classes - training):
            problems.add(
                f"{table.source}: {', '.join(lacking)} in {split}",
                f"is lacking in training, which has {', '.join(sorted(training))}",
                f"correct the names, add training samples, or take the class out of {split}",
            )
    problems.stop()
    return absent_classes(where, training) + similar_names(every) + joined_names(every)


def classes_by_split(table: Table) -> dict[str, set[str]]:
    """The classes of each split; samples without a split count as training, from which missing splits are cut."""
    target = table.column("target")
    if "split" not in table:
        return {"train": names_in(target)}
    split = pc.fill_null(table.column("split"), "train")
    return {name: names_in(target.filter(pc.equal(split, name))) for name in SPLITS}


def names_in(target: Any) -> set[str]:
    flat = pc.list_flatten(target) if hasattr(target.type, "value_type") else target
    return set(pc.unique(flat).drop_null().to_pylist())


def absent_classes(where: Mapping[str, set[str]], training: set[str]) -> list[Finding]:
    """Classes that a split, judged by which nothing is known of them, does not hold."""
    findings = []
    for split, classes in where.items():
        if classes and (lost := sorted(training - classes)):
            what = f"classes without a sample in {split} (figures say nothing of them): {len(lost)} of {len(training)}"
            findings.append(Finding("class missing from a split", "note", what, lost[:LISTED], len(lost), "kept"))
    return findings


def similar_names(classes: Iterable[str]) -> list[Finding]:
    """Names that differ only in case, in spaces, or in how Unicode spells them: likely one class."""
    alike: dict[str, list[str]] = {}
    for name in classes:
        alike.setdefault(" ".join(unicodedata.normalize("NFKC", name).casefold().split()), []).append(name)
    sets = [" = ".join(map(repr, names)) for names in alike.values() if len(names) > 1]
    what = f"class names that differ only in case or spaces: {len(sets)}"
    return [Finding("similar class names", "note", what, sets[:LISTED], len(sets), "kept apart")] if sets else []


def joined_names(classes: Iterable[str]) -> list[Finding]:
    """Names that look like several labels in one: each of their parts is a class too, or a part of another such name."""
    names, findings = set(classes), []
    for joint in JOINTS:
        parts = {name: {part.strip() for part in name.split(joint)} - {""} for name in names if joint in name}
        known = Counter(part for each in parts.values() for part in each) + Counter(names - parts.keys())
        alike = sorted(name for name, each in parts.items() if all(known[part] > 1 or part in names for part in each))
        if alike:
            what = f"class names that look like several labels joined by {joint!r}: {len(alike)}"
            done = f"each taken as one class; --separator {joint!r} cuts them"
            findings.append(Finding("joined class names", "note", what, alike[:LISTED], len(alike), done))
    return findings
