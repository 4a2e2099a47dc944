"""docs/SECURITY.md against the tests that it names."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
TEXT = (PROJECT / "docs" / "SECURITY.md").read_text()
NAMED = re.findall(r"`(tests/[^`]+)`", TEXT)
ROWS = [line for line in TEXT.splitlines() if re.match(r"\| (?!threat \|)", line)]


@cache
def names_in(path: str) -> set[str]:
    tree = ast.parse((PROJECT / path).read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_threat_names_the_tests_that_show_what_stops_it() -> None:
    assert len(ROWS) > 5
    for row in ROWS:
        assert re.fullmatch(r"\| [^|]+ \| [^|]+ \| (`tests/[^`|]+::test_\w+` ?)+\|", row), row


def test_every_test_that_is_named_exists() -> None:
    for name in NAMED:
        path, _, function = name.partition("::")
        assert function in names_in(path), name
