"""Keeps `7z` commands of services under test from going on, so that a stage lasts as long as a test wants."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

_SCRIPT = """#!/bin/sh
# The first argument is the command's letter.
while [ -e "$(dirname "$0")/hold-$1" ]; do sleep 0.05; done
exec {real} "$@"
"""


class SevenZipGate:
    """Stands before the real `7z`.

    Attributes:
        environment: Variables that make a service use it.
    """

    def __init__(self, folder: Path) -> None:
        real = shutil.which("7z")
        assert real is not None
        self._folder = folder
        folder.mkdir()
        self._script = folder / "7z"
        self._script.write_text(_SCRIPT.format(real=real))
        self._script.chmod(0o755)
        self.environment = {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}

    def hold(self, letter: str) -> None:
        """Hold each command of this letter that comes from now on: `t`, `x`, `a` …"""
        (self._folder / f"hold-{letter}").touch()

    def release(self, letter: str = "*") -> None:
        """Let all commands of a letter go on, or all there are."""
        for file in self._folder.glob(f"hold-{letter}"):
            file.unlink()

    def held(self, letter: str) -> list[int]:
        """Return the ids of the processes that wait with a command of this letter."""
        start = b"\0".join([b"/bin/sh", bytes(self._script), letter.encode(), b""])
        return [int(path.parent.name) for path in Path("/proc").glob("[0-9]*/cmdline") if _read(path).startswith(start)]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
