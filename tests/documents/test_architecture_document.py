"""What docs/ARCHITECTURE.md draws and names is there."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from open_workshop_storage.core.job import NEXT, Inner, Stage

PROJECT = Path(__file__).resolve().parents[2]
DOCUMENT = (PROJECT / "docs" / "ARCHITECTURE.md").read_text()
SOURCES = PROJECT / "src" / "open_workshop_storage"


def test_the_drawn_steps_are_those_that_the_code_allows() -> None:
    (drawing,) = re.findall(r"```mermaid\nstateDiagram-v2\n(.*?)```", DOCUMENT, re.DOTALL)
    drawn = re.findall(r"^ *(\S+) --> (\w+|\[\*\])", drawing, re.MULTILINE)
    steps = {("[*]" if before is None else before.value, after.value) for before in NEXT for after in NEXT[before]}
    # The cleanup removes the records of jobs that have ended.
    assert set(drawn) == steps | {(state.value, "[*]") for state in (Stage.PACKED, Inner.MOVED, Stage.ERROR)}
    assert len(drawn) == len(set(drawn))


def test_the_drawn_states_are_those_of_a_job() -> None:
    assert {state for state in NEXT if state is not None} == {*Stage, *Inner}


def test_the_named_modules_exist() -> None:
    modules = {path.name for path in SOURCES.rglob("*.py")}
    named = set(re.findall(r"\b(\w+\.py)\b", DOCUMENT))
    assert named and named <= modules, named - modules


def test_each_rule_lies_in_modules_that_exist() -> None:
    (table,) = re.findall(r"^\| rule \| module \|\n\|---\|---\|\n((?:\|.*\n)+)", DOCUMENT, re.MULTILINE)
    rules = [row.rpartition("| `") for row in table.splitlines()]
    assert len(rules) > 90 and all(rule for rule, *_ in rules)
    for _, _, modules in rules:
        for module in re.findall(r"[\w/]+\.py", modules):
            assert (SOURCES / module).exists(), module


def test_the_directions_of_imports_are_those_that_lint_checks() -> None:
    contracts = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    rooms, topics = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    between, inside = re.findall(r"`(\w+ → [^`]+)`", DOCUMENT)
    assert between.split(" → ") == [*rooms[rooms.index("api") : -1], "utils"]
    assert rooms[-1] == "utils | client"
    assert [set(layer.split(", ")) for layer in inside.split(" → ")] == [
        set(layer.split(" | ")) for layer in topics[1:]
    ]
