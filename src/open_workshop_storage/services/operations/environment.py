"""Checks the Python that runs the services, for the doctor and for the log of a start."""

from __future__ import annotations

import sys
import tarfile
from collections.abc import Iterator


def environment_warnings() -> Iterator[tuple[str, str]]:
    """Yield each weakness of this process's Python and locale: its subject, and what to do about it."""
    # The correction of CVE-2024-6232 brought this name, in distributions' older releases too.
    if not hasattr(tarfile, "_header_length_prefix_re"):
        version = ".".join(map(str, sys.version_info[:3]))
        text = (
            f"{version} has CVE-2024-6232: a small tar keeps its reader busy for hours, until that is ended; "
            "take 3.11.10, 3.12.6 or 3.13 or later"
        )
        yield "Python", text
    encoding = sys.getfilesystemencoding()
    if encoding != "utf-8":
        yield "locale", f"file names are {encoding} here, and others fail; set PYTHONUTF8=1, as the units do"
