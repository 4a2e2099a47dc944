"""File systems of a test's own."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


class MountRefusedError(Exception):
    """This user may not mount anything: it is not root, or in a container."""


@contextmanager
def mounted(folder: Path, *arguments: str | Path) -> Iterator[None]:
    """Mount a file system until the block ends.

    Args:
        folder: Where to; is made.
        arguments: What to mount, and how, as mount(8) takes it.

    Raises:
        MountRefusedError: The machine does not let us.
    """
    folder.mkdir()
    mounting = subprocess.run(["mount", *arguments, folder], stderr=subprocess.PIPE, text=True)
    if mounting.returncode:
        raise MountRefusedError(mounting.stderr.strip())
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


@contextmanager
def skipping_if_refused() -> Iterator[None]:
    """Skip the test if it may mount nothing here."""
    try:
        yield
    except MountRefusedError as error:
        pytest.skip(f"nothing can be mounted here: {error}")
