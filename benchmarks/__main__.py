"""Measures all groups and writes `benchmarks/RESULTS.md`, or only the groups that are named, and writes nothing."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks import (
    blurhashes,
    contents,
    fetches,
    growth,
    jobs,
    large_files,
    objects,
    photos,
    progress,
    repacking,
    resumable,
    scanning,
    slow_readers,
    small_files,
    uploads,
)
from benchmarks.report import Findings, machine, report

RESULTS = Path(__file__).with_name("RESULTS.md")

GROUPS: dict[str, Callable[[Path], Findings]] = {
    "small-files": small_files.measure,
    "large-files": large_files.measure,
    "contents": contents.measure,
    "blurhashes": blurhashes.measure,
    "photos": photos.measure,
    "slow-readers": slow_readers.measure,
    "uploads": uploads.measure,
    "repacking": repacking.measure,
    "scanning": scanning.measure,
    "fetches": fetches.measure,
    "progress": progress.measure,
    "jobs": jobs.measure,
    "resumable": resumable.measure,
    "objects": objects.measure,
    "growth": growth.measure,
}
"""What is measured, by the name that the command line knows it by.

A group is a function that takes an empty folder, starts what it needs there, and ends it again.
"""


def main() -> None:
    """Run the measures; all of them take some minutes, on an otherwise idle machine."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("groups", nargs="*", metavar="group", help=f"one of {', '.join(GROUPS)}; all if none is named")
    named = parser.parse_args().groups
    if unknown := set(named) - set(GROUPS):
        parser.error(f"no such group: {', '.join(sorted(unknown))}")
    where = machine()
    findings = [_findings(name) for name in named or GROUPS]
    text = report(where, findings)
    if not named:
        RESULTS.write_text(text)
    print(text)


def _findings(name: str) -> Findings:
    with tempfile.TemporaryDirectory(prefix=f"benchmark-{name}-") as folder:
        return GROUPS[name](Path(folder))


if __name__ == "__main__":
    main()
