"""Measures all, prints the table and writes `benchmarks/RESULTS.md`."""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks import distributor
from benchmarks.download_profile import profile_of_a_download
from benchmarks.report import machine, table
from benchmarks.stage import stage

RESULTS = Path(__file__).with_name("RESULTS.md")


def main() -> None:
    """Run every measure; takes some minutes, on an otherwise idle machine."""
    where = machine()
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as name:
        with stage(Path(name)) as servers:
            rows = [
                row
                for measure in (
                    distributor.small_files,
                    distributor.large_files,
                    distributor.blurhashes,
                    distributor.memory,
                )
                for row in measure(servers)
            ]
        profile = profile_of_a_download(Path(name))
    text = f"# Results\n\n{where}\n\n{table(rows)}\n\n## Python's share of a small download\n\n{profile}\n"
    RESULTS.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
