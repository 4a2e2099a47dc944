"""All files below a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator


def paths_below(folder: str) -> Iterator[str]:
    """Yield the paths of all that is no folder below one, relative to it. Blocks.

    Symbolic links to folders are not followed.

    Raises:
        OSError: A folder that is there cannot be read.
    """
    for parent, folders, names in os.walk(folder, onerror=_raise_unless_gone):
        folders.sort()
        for name in sorted(names):
            yield os.path.relpath(os.path.join(parent, name), folder)


def _raise_unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error
