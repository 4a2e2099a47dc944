"""The doctor's checks of the malware scanner: does it answer, what does it know, and what would it let pass unread?"""

from __future__ import annotations

import asyncio
import io
import math
import os
import re
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from open_workshop_storage.core.settings import Settings
from open_workshop_storage.services.operations.findings import PATIENCE_SECONDS, Finding, fault, ok, reason_of, warning
from open_workshop_storage.utils.net.clamd import (
    MOST_BYTES,
    Cause,
    ClamdAddress,
    Clean,
    NotJudged,
    Verdict,
    ask,
    parse_address,
    scan,
)

CONFIGS = (Path("/etc/clamav/clamd.conf"), Path("/etc/clamd.d/scan.conf"), Path("/usr/local/etc/clamd.conf"))
"""Where distributions have the daemon's configuration."""

_SUBJECT = "clamd"
_ADVICE = 'see docs/DEPLOYMENT.md, "Malware"'
_MOST_DAYS = 3
# clamd.conf(5): MaxRecursion is at most 100.
_LAYERS = 110
_MEBIBYTE = 1024**2
_MOST_SCANNED = 2000 * _MEBIBYTE
_UNITS = {"": 1, "k": 1024, "m": _MEBIBYTE, "g": 1024**3}
_OPTION = re.compile(r"(\w+)\s+(.*\S)")
_DEFAULTS = {"MaxFileSize": "100M", "MaxScanSize": "400M", "MaxFiles": "10000", "StreamMaxLength": "100M"}


async def examine_scanner(settings: Settings) -> list[Finding]:
    """Check the scanner that the settings name."""
    if not settings.clamd_address:
        return [ok(_SUBJECT, "CLAMD_ADDRESS is empty: nothing is scanned for malware")]
    address = parse_address(settings.clamd_address)
    try:
        version = await ask(address, "VERSION", PATIENCE_SECONDS)
    except OSError as error:
        return [fault(_SUBJECT, f"no answer ({reason_of(error)}); start it, or correct CLAMD_ADDRESS")]
    return [
        *_signature_findings(version),
        *await _judgement_findings(settings, address),
        *await asyncio.to_thread(lambda: [*_limit_findings(settings, address)]),
    ]


def _signature_findings(version: str) -> Iterator[Finding]:
    """Judge what `VERSION` answers: `ClamAV 1.4.3/27800/Thu Nov 26 09:12:03 2026`, or only the first part of it."""
    program, _, signatures = version.partition("/")
    try:
        made = datetime.strptime(signatures.partition("/")[2], "%a %b %d %H:%M:%S %Y").replace(tzinfo=UTC)
    except ValueError:
        yield warning(_SUBJECT, f"{program} has none of ClamAV's own signatures; see whether freshclam runs")
        return
    days = (datetime.now(UTC) - made).days
    if days > _MOST_DAYS:
        yield warning(_SUBJECT, f"{program}: its signatures are {days} days old; see whether freshclam runs")
    else:
        yield ok(_SUBJECT, f"{program}, signatures of {made:%Y-%m-%d}")


async def _judgement_findings(settings: Settings, address: ClamdAddress) -> list[Finding]:
    """Have the daemon judge a harmless file of the storage root, and one that is over the limits of any daemon."""
    try:
        verdict = await _verdict_on(b"harmless", address, settings.main_dir)
        beyond = await _verdict_on(await asyncio.to_thread(_nested), address, settings.main_dir)
    except OSError as error:
        return [warning(_SUBJECT, f"not tried, since no file can be written to MAIN_DIR ({reason_of(error)})")]
    findings = []
    if verdict != Clean():
        detail = verdict.detail if isinstance(verdict, NotJudged) else "malware"
        findings.append(fault(_SUBJECT, f"cannot judge a harmless file of MAIN_DIR ({detail}); {_ADVICE}"))
    if not (isinstance(beyond, NotJudged) and beyond.cause is Cause.LIMIT):
        text = f"calls clean what is over its limits; set AlertExceedsMax (and ScanArchive) to yes; {_ADVICE}"
        findings.append(fault(_SUBJECT, text))
    return findings


async def _verdict_on(content: bytes, address: ClamdAddress, folder: Path) -> Verdict:
    with await asyncio.to_thread(_written, content, folder) as file:
        return await scan(address, file, PATIENCE_SECONDS)


def _written(content: bytes, folder: Path) -> IO[bytes]:
    # A file with a name, since AppArmor or SELinux may judge the daemon's access by the path.
    file = tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor-")
    file.write(content)
    file.flush()
    return file


def _nested() -> bytes:
    """Return ZIPs within ZIPs, more than any daemon opens."""
    content = b"harmless"
    for _ in range(_LAYERS):
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
            opened.writestr("a.zip", content)
        content = archive.getvalue()
    return content


def _limit_findings(settings: Settings, address: ClamdAddress) -> Iterator[Finding]:
    """Compare the daemon's limits with each other, and with what the settings let in."""
    # An archive counts with its content, hence twice. Both limits on bytes should be the same, as below.
    scanned = min(2 * settings.transfer_max_unpacked_bytes or _MOST_SCANNED, _MOST_SCANNED)
    wanted = {"MaxFileSize": scanned, "MaxScanSize": scanned, "MaxFiles": settings.transfer_max_entries or 200_000}
    if not address.is_local:
        wanted["StreamMaxLength"] = min(settings.transfer_max_bytes or _MOST_SCANNED, _MOST_SCANNED)
    options = _options_of(address)
    if options is None:
        names = ", ".join(wanted)
        yield ok(
            _SUBJECT,
            f"its configuration is not on this host; see that {names} there are what your mods need, and that "
            "MaxFileSize is no less than MaxScanSize",
        )
        return
    limits = {name: options.get(name, _DEFAULTS[name]) for name in wanted}
    file_size, scan_size = limits["MaxFileSize"], limits["MaxScanSize"]
    if (_number(file_size) or MOST_BYTES) < (_number(scan_size) or math.inf):
        yield fault(
            _SUBJECT,
            f"MaxFileSize ({file_size}) is less than MaxScanSize ({scan_size}): of a larger file "
            "in an archive the beginning is judged, and the rest passes unread; set MaxScanSize to no more than "
            "MaxFileSize",
        )
    fate = "passed unread" if settings.scan_failure == "pass" else "refused"
    for name, limit in limits.items():
        if 0 < _number(limit) < wanted[name]:
            enough = wanted[name] if name == "MaxFiles" else f"{-(-wanted[name] // _MEBIBYTE)}M"
            yield warning(_SUBJECT, f"{name} is {limit}, and what is over it is {fate}; raise it, up to {enough}")
    if not 0 < settings.transfer_max_bytes <= MOST_BYTES:
        yield ok(_SUBJECT, f"files of more than 2 GB cannot be judged by ClamAV, and are {fate}")


def _options_of(address: ClamdAddress) -> Mapping[str, str] | None:
    """Return the configuration of the daemon at an address, if it is on this host."""
    for path in CONFIGS:
        with suppress(OSError):
            lines = path.read_text(errors="replace").splitlines()
            options = {match[1]: match[2] for line in lines if (match := _OPTION.fullmatch(line.strip()))}
            socket = os.path.realpath(options.get("LocalSocket", ""))
            if address.is_local and socket == os.path.realpath(address.path):
                return options
            if address.host in ("127.0.0.1", "::1", "localhost") and options.get("TCPSocket") == str(address.port):
                return options
    return None


def _number(text: str) -> int:
    match = re.fullmatch(r"(\d+)([kmg]?)", text.lower())
    return int(match[1]) * _UNITS[match[2]] if match else 0
