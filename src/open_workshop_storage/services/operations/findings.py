"""What the doctor's checks report, and the check of Python and locale, which services also make at their start."""

from __future__ import annotations

import sys
import tarfile
from collections.abc import Iterator
from enum import StrEnum
from functools import partial
from typing import NamedTuple

PATIENCE_SECONDS = 5.0
"""How long a check waits for an answer."""

_MOST_SKEW_SECONDS = 10.0


class Severity(StrEnum):
    """The result of a check."""

    OK = "ok"
    WARNING = "warning"
    FAULT = "FAULT"


class Finding(NamedTuple):
    """One result of a check.

    Attributes:
        subject: What was checked.
        text: Its state, and what to do about a fault.
    """

    severity: Severity
    subject: str
    text: str


ok = partial(Finding, Severity.OK)
warning = partial(Finding, Severity.WARNING)
"""Takes a subject and a text; the services work all the same."""
fault = partial(Finding, Severity.FAULT)
"""Takes a subject and a text; something does not work."""


def reason_of(error: Exception) -> str:
    """Return an error's text, or its type if it has none."""
    return str(error) or type(error).__name__


def clock_findings(subject: str, ahead_seconds: float) -> list[Finding]:
    """Judge how far another host's clock is ahead of this one's."""
    if abs(ahead_seconds) <= _MOST_SKEW_SECONDS:
        return []
    text = f"its clock is {ahead_seconds:+.0f} s off this one; tokens may count as expired: let both follow NTP"
    return [warning(subject, text)]


def environment_findings() -> Iterator[Finding]:
    """Yield each weakness of this process's Python and locale."""
    # The correction of CVE-2024-6232 brought this name, in distributions' older releases too.
    if not hasattr(tarfile, "_header_length_prefix_re"):
        version = ".".join(map(str, sys.version_info[:3]))
        text = (
            f"{version} has CVE-2024-6232: a small tar keeps its reader busy for hours, until that is ended; "
            "take 3.11.10, 3.12.6 or 3.13 or later"
        )
        yield warning("Python", text)
    encoding = sys.getfilesystemencoding()
    if encoding != "utf-8":
        yield warning("locale", f"file names are {encoding} here, and others fail; set PYTHONUTF8=1, as the units do")
