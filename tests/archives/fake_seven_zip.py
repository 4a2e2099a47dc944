"""A command named `7z` that does what a test wants."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def install(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a shell script in the place of `7z`, for the rest of the test."""
    command = folder / "bin" / "7z"
    command.parent.mkdir()
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}{os.pathsep}{os.environ['PATH']}")
