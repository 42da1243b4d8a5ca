"""acclimate shift: whether two data sets differ, whether it matters, and which labels would tell most."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import click

from acclimate.cli.fit import option

if TYPE_CHECKING:
    from acclimate.verbs.shift import Shift

SHOWN = 8
"""Lines of each kind."""


@click.command()
@click.argument("source", metavar="A")
@click.argument("target", metavar="B")
@click.option("--out", metavar="FOLDER", help="write shift.json, a picture of both sides and ask.csv here")
@click.option("--ask", type=int, metavar="N", help="choose the N samples of B whose labels would tell most, as a table")
@option("model")
@option("weights")
@option("size")
@option("format")
@option("image")
@option("text")
@option("label")
@option("split")
@option("separator")
@option("quoting")
@option("encoding")
@option("val")
@option("seed")
@option("device")
@option("precision")
@click.option("--json", "as_json", is_flag=True, help="print one JSON object on stdout")
def shift(source: str, target: str, as_json: bool, **asked: Any) -> int:
    """Compare the labelled data A with samples B from elsewhere: is there a shift, how much accuracy does it cost, and why?
    Labels of B are not read."""
    from acclimate.cli.terminal import Terminal
    from acclimate.verbs.shift import shift as verb

    with Terminal() as watcher:
        found = verb(source, target, watcher=watcher, **{k: value for k, value in asked.items() if value is not None})
    if as_json:
        click.echo(json.dumps(found.json(), ensure_ascii=False))
    else:
        for line in lines(found):
            click.echo(line)
        if asked["out"] is not None:
            click.echo(f"written to {asked['out']}")
    return 0


def lines(found: Shift) -> list[str]:
    """What a person reads."""
    gate, (a, b) = found.found.gate, found.names
    n = len(gate.places[0])
    told = f"a classifier of its own tells them apart on {gate.told.accuracy['value']:.0%} of 2 x {n} samples"
    out = [f"{a} and {b}, as {found.model} sees them", f"{VERDICTS[found.verdict]}. {_why(found)}"]
    out += [
        "",
        f"is there a shift?   {told}: AUC {gate.told.auc.value:.2f}, p {gate.told.auc.p:.2g}",
        f"                    mean discrepancy (MMD^2) {gate.mean.value:.3f}, p {gate.mean.p:.2g}; p of both {gate.p:.2g}",
        f"                    A-distance {_interval(gate.told.distance)} of 2",
    ]
    out += [*_matters(found), *_which(found), *_differs(found)]
    if found.asked:
        out += ["", f"worth a label       {len(found.asked)} samples of {b}, in ask.csv: fill in the column of labels"]
    for finding in found.findings:
        out.append(f"note: {finding.what}; {finding.done}")
    return out


VERDICTS = {
    "no_shift": "No shift",
    "shift_no_drop": "A shift, but no drop of accuracy is expected",
    "drop_expected": "A drop of accuracy is expected",
}


def _why(found: Shift) -> str:
    gate, expected = found.found.gate, found.found.expected
    if found.verdict == "no_shift":
        return "Nothing tells the two apart."
    assert expected is not None
    if found.verdict == "drop_expected":
        return f"{_lower(found)} than the {expected.source['value']:.0%} on held-out samples of {found.names[0]}."
    return f"The two are told apart (AUC {gate.told.auc.value:.2f}), and the classifier is as sure of the one as of the other."


def _lower(found: Shift) -> str:
    expected = found.found.expected
    assert expected is not None
    least = math.floor(100 * (expected.json()["at least lower by"] or 0))
    return f"At least {least} points lower" if least else f"About {100 * expected.drop:.0f} points lower"


def _matters(found: Shift) -> list[str]:
    expected = found.found.expected
    if expected is None:
        return []
    said = expected.json()
    if said["range"] is None:
        on = f"{_lower(found).lower()}: estimates are unsure where it is so much"
    else:
        on = f"{expected.low:.0%} to {expected.high:.0%}"
    return [
        "",
        f"does it matter?     accuracy of a probe on {found.names[0]} {_interval(expected.source)}; on {found.names[1]} {on}",
    ]


def _which(found: Shift) -> list[str]:
    shares, kind = found.found.shares, found.found.kind
    if found.verdict == "no_shift" or shares is None:
        return []
    said = {
        "shares": "class shares differ, and what a class looks like does not",
        "looks": "the samples look different, whatever the class shares; those cannot be told from here",
        "unknown": "cannot tell whether class shares or looks differ",
    }[kind]
    if kind == "shares" and not shares.reliable:
        said += "; roughly, for a second estimate does not bear it out"
    out = ["", f"which kind?         {said}"]
    if kind == "shares":
        each = sorted(
            zip(found.classes, shares.before, shares.likeliest, strict=True), key=lambda one: -abs(one[2] - one[1])
        )
        out += [f"                      {name}: {before:.0%} -> {after:.0%}" for name, before, after in each[:SHOWN]]
    return out


def _differs(found: Shift) -> list[str]:
    if found.verdict == "no_shift":
        return []
    out = [
        "",
        f"what differs?       {found.differences[0].trait.told if found.differences else 'nothing that can be put in plain words'}",
    ]
    out += [f"                    {one.trait.told}" for one in found.differences[1:SHOWN]]
    ours, theirs = ("; ".join(name[:40] for name in side[:3]) for side in found.unlike)
    return [
        *out,
        f"                    least like {found.names[1]}: {ours}",
        f"                    least like {found.names[0]}: {theirs}",
    ]


def _interval(metric: Any) -> str:
    return f"{metric['value']:.2f} [{metric['low']:.2f}, {metric['high']:.2f}]"
