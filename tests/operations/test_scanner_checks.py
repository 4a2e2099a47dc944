"""What the doctor says of the malware scanner."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from open_workshop_storage.services.operations import scanner_checks
from open_workshop_storage.services.operations.findings import Severity
from open_workshop_storage.services.operations.scanner_checks import examine_scanner
from tests.support.clamd import Clamd, running_clamd
from tests.support.configs import Secrets
from tests.support.in_process import make_settings

pytestmark = pytest.mark.anyio

MEBIBYTE = 1024**2


async def findings(root: Path, address: str, **changes: object) -> list[tuple[Severity, str]]:
    settings = make_settings(root, Secrets(), clamd_address=address, **changes)
    return [(severity, text) for severity, _, text in await examine_scanner(settings)]


def those(severity: Severity, found: list[tuple[Severity, str]]) -> str:
    return "\n".join(text for each, text in found if each is severity)


async def test_without_a_scanner_that_is_told(tmp_path: Path) -> None:
    assert "nothing is scanned" in those(Severity.OK, await findings(tmp_path, ""))


async def test_one_that_does_not_answer_is_a_fault(tmp_path: Path) -> None:
    assert "no answer" in those(Severity.FAULT, await findings(tmp_path, f"unix:{tmp_path}/nothing"))


async def test_one_that_tells_what_is_over_its_limits_is_well_and_leaves_no_file(clamd: Clamd, tmp_path: Path) -> None:
    for address in (clamd.local, clamd.tcp):
        found = await findings(tmp_path, address)
        assert those(Severity.FAULT, found) == ""
        assert "none of ClamAV's own signatures" in those(Severity.WARNING, found)
        assert "its configuration is not on this host" in those(Severity.OK, found)
    assert not list(tmp_path.glob(".doctor-*"))


async def test_one_that_calls_clean_what_is_over_its_limits_is_a_fault_wherever_it_runs(
    clamd: Clamd, tmp_path: Path
) -> None:
    with running_clamd(tmp_path, "AlertExceedsMax no") as silent:
        for address in (silent.local, silent.tcp):
            assert "set AlertExceedsMax" in those(Severity.FAULT, await findings(tmp_path / "root", address))


async def test_limits_below_those_of_the_settings_are_named_with_what_mends_them(
    clamd: Clamd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scanner_checks, "CONFIGS", (tmp_path / "nothing", clamd.config))
    enough = {
        "transfer_max_bytes": 4 * MEBIBYTE,
        "transfer_max_unpacked_bytes": 2 * MEBIBYTE,
        "transfer_max_entries": 10_000,
    }
    for address in (clamd.local, clamd.tcp):
        assert "Max" not in those(Severity.WARNING, await findings(tmp_path, address, **enough))
    found = await findings(tmp_path, clamd.local)
    assert those(Severity.WARNING, found).splitlines()[1:] == [
        "MaxFileSize is 4194304, and what is over it is refused; raise it, up to 2000M",
        "MaxScanSize is 4194304, and what is over it is refused; raise it, up to 2000M",
        "MaxFiles is 10000, and what is over it is refused; raise it, up to 200000",
    ]
    assert "more than 2 GB" in those(Severity.OK, found)
    warned = those(Severity.WARNING, await findings(tmp_path, clamd.tcp, scan_failure="pass"))
    assert "StreamMaxLength is 4194304, and what is over it is passed unread; raise it, up to 2000M" in warned


@pytest.mark.parametrize(
    ("limits", "is_fault"),
    [
        ("MaxFileSize 25M\nMaxScanSize 100M", True),
        ("", True),
        ("MaxScanSize 0", True),
        ("MaxFileSize 2000M\nMaxScanSize 2000M", False),
        ("MaxFileSize 0\nMaxScanSize 400M", False),
    ],
    ids=["Debian's", "ClamAV's", "no limit for all", "the same", "no limit for one file"],
)
async def test_limits_that_let_the_rest_of_a_file_in_an_archive_pass_are_a_fault(
    limits: str, is_fault: bool, clamd: Clamd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "clamd.conf"
    config.write_text(f"LocalSocket {clamd.local.removeprefix('unix:')}\n{limits}\n")
    monkeypatch.setattr(scanner_checks, "CONFIGS", (config,))
    found = those(Severity.FAULT, await findings(tmp_path, clamd.local))
    assert ("set MaxScanSize to no more than MaxFileSize" in found) is is_fault


@pytest.mark.parametrize(
    ("days", "severity", "text"), [(0, Severity.OK, "signatures of"), (9, Severity.WARNING, "9 days old")]
)
async def test_old_signatures_are_named(days: int, severity: Severity, text: str) -> None:
    made = datetime.now(UTC) - timedelta(days=days, hours=1)
    (found,) = scanner_checks._signature_findings(f"ClamAV 1.4.3/27800/{made:%a %b %d %H:%M:%S %Y}")
    assert found.severity is severity and text in found.text
