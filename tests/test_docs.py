"""Documentation cannot drift: every name in a table is real, and every command and option has help."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pytest

from acclimate.alignments import ALIGNMENTS
from acclimate.cli import COMMANDS
from acclimate.core.names import Names
from acclimate.core.recipe import Options, flag
from acclimate.data.readers import READERS
from acclimate.engine.phase import Outcome
from acclimate.models.sources import SOURCES
from acclimate.objectives import ADAPTING, OBJECTIVES
from acclimate.strategies import STRATEGIES
from acclimate.strategies.strategy import Context, StageInfo
from acclimate.tasks import TASKS
from acclimate.tracking import TRACKERS

ROOT = Path(__file__).parents[1]
TABLES: tuple[Names, ...] = (COMMANDS, STRATEGIES, SOURCES, READERS, TASKS, OBJECTIVES, ALIGNMENTS, ADAPTING, TRACKERS)
ENTRIES = [pytest.param(table, name, id=f"{table.kind} {name}") for table in TABLES for name in table]


def commands(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    """The command and its subcommands, by full name."""
    yield name, command
    if isinstance(command, click.Group):
        for inner in command.list_commands(click.Context(command)):
            found = command.get_command(click.Context(command), inner)
            assert found is not None
            yield from commands(found, f"{name} {inner}")


EVERY = dict(item for name in COMMANDS for item in commands(COMMANDS[name], name))


@pytest.mark.parametrize(("table", "name"), ENTRIES)
def test_table_entries_exist_in_a_file_of_their_own(table: Names, name: str) -> None:
    assert table[name] is not None
    others = [place.split(":")[0] for other, place in table.places.items() if other != name]
    assert table.places[name].split(":")[0] not in others


@pytest.mark.parametrize("command", EVERY.values(), ids=EVERY)
def test_commands_and_options_have_help(command: click.Command) -> None:
    assert inspect.cleandoc(command.help or "")
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name


def test_every_option_of_a_fit_can_be_said_on_the_command_line() -> None:
    said = {option for parameter in COMMANDS["fit"].params for option in parameter.opts}
    assert {flag(name) for name in Options.model_fields} <= said


@pytest.mark.parametrize("name", STRATEGIES)
def test_strategies_are_called_what_their_table_calls_them(name: str) -> None:
    assert STRATEGIES[name].name == name
    assert STRATEGIES[name].summary


def test_every_table_of_names_is_in_the_guide_for_contributors() -> None:
    guide = (ROOT / "CONTRIBUTING.md").read_text()
    assert [
        name
        for name in ("COMMANDS", "STRATEGIES", "SOURCES", "READERS", "TASKS", "OBJECTIVES", "TRACKERS")
        if f"`{name}`" not in guide
    ] == []


def test_the_strategy_in_the_guide_for_contributors_works() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    names: dict[str, object] = {}
    exec(code, names)
    stages = tuple(StageInfo(name, parameters=10, share=0.5, bytes=8) for name in ("stem", "body"))
    plan = names["TWO_STEP"].plan(Context(stages, samples=100, validation=20, options=Options()))  # type: ignore[attr-defined]
    made = [plan.send(None)]
    noise = np.linspace(-0.1, 0.1, 8)
    made.append(plan.send(Outcome(0, made[0].name, 0.5, 1.0, 0, np.zeros(8), np.ones(8))))
    best = Outcome(1, made[1].name, 0.9, 1.0, 1, 0.9 + noise, 0.1 + noise)
    with pytest.raises(StopIteration) as end:
        plan.send(best)
    assert [phase.solve for phase in made] == [True, False]
    assert end.value.value is best


def files_named(text: str) -> set[str]:
    """Places in the source that a document names, of the form floor/file.py."""
    return set(re.findall(r"`((?:[a-z_]+/)+[a-z_]+\.py)`", text))


@pytest.mark.parametrize("document", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_files_that_documents_name_are_there(document: str) -> None:
    named = files_named((ROOT / document).read_text())
    assert named
    assert [name for name in named if not (ROOT / "src" / "acclimate" / name).is_file()] == []


def test_nouns_live_where_the_architecture_says() -> None:
    rows = re.findall(r"^\| (`[A-Z].*?) \|.*\| (.*?) \|$", (ROOT / "docs/architecture.md").read_text(), re.MULTILINE)
    assert len(rows) > 15
    for nouns, places in rows:
        source = "".join((ROOT / "src" / "acclimate" / name).read_text() for name in files_named(places))
        for noun in re.findall(r"`(\w+)`", nouns):
            assert re.search(rf"^(class {noun}\b|{noun} = )", source, re.MULTILINE), f"{noun} in {places}"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_in_the_readme(command: str) -> None:
    assert f"acclimate {command}" in (ROOT / "README.md").read_text()


def test_options_that_the_readme_names_are_there() -> None:
    options = {said for command in EVERY.values() for parameter in command.params for said in parameter.opts}
    # benchmarks have options of their own
    ours = re.sub(r"`python benchmarks/[^`]*`", "", (ROOT / "README.md").read_text())
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", ours))
    assert named - options - {"--help", "--version"} == set()


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_is_in_the_readme(name: str) -> None:
    assert re.search(rf"^\| `{name}(:N)?`", (ROOT / "README.md").read_text(), re.MULTILINE)
