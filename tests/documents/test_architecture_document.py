"""What docs/ARCHITECTURE.md draws and names is there."""

from __future__ import annotations

import re
from pathlib import Path

from open_workshop_storage.core.job import Stage

PROJECT = Path(__file__).resolve().parents[2]
DOCUMENT = (PROJECT / "docs" / "ARCHITECTURE.md").read_text()
SOURCES = PROJECT / "src" / "open_workshop_storage"


def test_the_drawn_states_are_those_of_a_job() -> None:
    (drawing,) = re.findall(r"```mermaid\nstateDiagram-v2\n(.*?)```", DOCUMENT, re.DOTALL)
    drawn = set(re.findall(r"^ *(\w+) -->|--> (\w+)", drawing, re.MULTILINE))
    assert {state for pair in drawn for state in pair if state} == {*Stage, "moved"}


def test_the_named_modules_exist() -> None:
    modules = {path.name for path in SOURCES.rglob("*.py")}
    named = set(re.findall(r"\b(\w+\.py)\b", DOCUMENT))
    assert named and named <= modules, named - modules
