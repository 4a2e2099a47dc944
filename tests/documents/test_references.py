"""What the code says of documents, against their headings."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
# `docs/API.md, "Callback"`, or several headings joined by "and"; a line may break anywhere.
REFERENCE = re.compile(r'\b(docs/[A-Z]+\.md),\s+((?:"[^"]+"(?:\s+and\s+)?)+)')


def headings(document: str) -> set[str]:
    """Return the headings of a document in Markdown."""
    return set(re.findall(r"^#+ (.+)$", (PROJECT / document).read_text(), re.MULTILINE))


def test_each_heading_that_the_code_names_is_there() -> None:
    files = subprocess.run(["git", "ls-files", "*.py"], cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    named = [
        (name, document, " ".join(heading.split()))
        for name in files.split()
        if name != "tests/documents/test_references.py"
        for document, several in REFERENCE.findall((PROJECT / name).read_text())
        for heading in re.findall(r'"([^"]+)"', several)
    ]
    assert named
    assert [reference for reference in named if reference[2] not in headings(reference[1])] == []
