"""Checks whether services can work with a configuration, and says what to do (`open-workshop-storage doctor`)."""

from __future__ import annotations

import asyncio
import re
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from resource import RLIMIT_NOFILE, getrlimit

import httpx

from open_workshop_storage.core.settings import Settings
from open_workshop_storage.services.archives.seven_zip import SevenZip
from open_workshop_storage.services.operations.findings import (
    PATIENCE_SECONDS,
    Finding,
    clock_findings,
    environment_findings,
    fault,
    ok,
    reason_of,
    warning,
)
from open_workshop_storage.services.operations.redis_checks import examine_redis
from open_workshop_storage.services.operations.scanner_checks import examine_scanner
from open_workshop_storage.services.storage.opening import open_files
from open_workshop_storage.services.storage.workspaces import Workspaces
from open_workshop_storage.utils.archives.faults import ArchiveFault
from open_workshop_storage.utils.http.dates import parse_date
from open_workshop_storage.utils.processes import granian
from open_workshop_storage.utils.processes.confinement import unconfined

# Statuses that proxies answer in place of a service that is down.
_PROXY_ERRORS = frozenset({502, 503, 504})
_LEAST_BCRYPT_COST = 10
_LEAST_DIFFERENT_CHARACTERS = 12
_LEAST_OPEN_FILES = 4096
_FORMATS = frozenset({"zip", "7z", "rar", "rar5", "tar", "gzip", "bzip2", "xz", "zstd"})
_RAR_CODEC = re.compile(r".*[0-9A-F] Rar5$")
_RAR_PACKAGES = "install 7zip-rar (in Debian 12: p7zip-rar) from Debian's non-free section"
_FORMAT = re.compile(r" *\d+ +[A-Z.]{4}[A-Za-z0-9.+_ ]*? {2,}(\w+) ")


async def examine(settings: Settings) -> AsyncIterator[Finding]:
    """Check everything, and yield findings as they come.

    It writes nothing but a key in Redis, which expires, and files for the scanner, which are removed at once.
    """
    for finding in environment_findings():
        yield finding
    checks: list[Callable[[Settings], Awaitable[list[Finding]]]] = [
        _secrets,
        _storage,
        _seven_zip,
        _confinement,
        examine_redis,
        examine_scanner,
        _neighbours,
        _limits,
        _servers,
    ]
    for check in checks:
        for finding in await check(settings):
            yield finding


async def _secrets(settings: Settings) -> list[Finding]:
    findings = []
    if len(set(settings.transfer_jwt_secret)) < _LEAST_DIFFERENT_CHARACTERS:
        findings.append(warning("TRANSFER_JWT_SECRET", "can be guessed; make one with token_gen.py"))
    hashes = {name: getattr(settings, name) for name in ("upload_file", "delete_file", "storage_manage_token")}
    for name, value in hashes.items():
        if int(value[4:6]) < _LEAST_BCRYPT_COST:
            findings.append(warning(name, f"has a bcrypt cost below {_LEAST_BCRYPT_COST}; make one with token_gen.py"))
    return findings or [ok("secrets", "strong enough")]


async def _storage(settings: Settings) -> list[Finding]:
    workspaces = Workspaces(settings.main_dir, settings.storage_reserve_bytes)
    async with open_files(settings) as files:
        complaints = await files.complaints()
    subject = "S3_BUCKET" if settings.s3_bucket else "MAIN_DIR"
    findings = [(fault if is_fault else warning)(subject, text) for is_fault, text in complaints]
    if settings.s3_bucket and not findings:
        findings.append(ok(subject, f"{settings.s3_bucket}, where objects can be written, copied and deleted"))
    free_bytes = await workspaces.free_bytes()
    if free_bytes is None:
        return findings
    free = f"{free_bytes / 1e9:.1f} GB"
    if not await workspaces.has_space():
        text = f"{free} free, less than STORAGE_RESERVE_BYTES; transfers are refused: make room, or lower it"
        findings.append(fault("disk", text))
    elif not complaints:
        findings.append(ok("storage", f"{settings.main_dir}, {free} free"))
    return findings


async def _seven_zip(settings: Settings) -> list[Finding]:
    lines: list[str] = []
    command = SevenZip(PATIENCE_SECONDS, PATIENCE_SECONDS)
    try:
        await command.run("i", on_line=lines.append)
    except ArchiveFault as error:
        is_there = await asyncio.to_thread(shutil.which, "7z")
        advice = "see why it cannot run" if is_there else "install 7zip (in Debian 12: p7zip-full)"
        return [fault("7z", f"{error}; {advice}")]
    named = re.search(r"7-Zip.*? (\d+\.\d+)", "\n".join(lines))
    version = named[1] if named else "of no known version"
    found = {match[1].lower() for line in lines if (match := _FORMAT.match(line))}
    missing = sorted(_FORMATS - found)
    if missing:
        return [warning("7z", f"{version} cannot read {', '.join(missing)}; such archives are refused")]
    if not any(map(_RAR_CODEC.match, lines)):
        return [warning("7z", f"{version} has no codec for RAR, and compressed ones are refused; {_RAR_PACKAGES}")]
    return [ok("7z", f"{version}, reads {', '.join(sorted(_FORMATS))}")]


async def _confinement(settings: Settings) -> list[Finding]:
    problems = await asyncio.to_thread(unconfined)
    advice = 'see docs/DEPLOYMENT.md, "Confinement"'
    warnings = [warning("confinement", f"child processes keep access to {problem}; {advice}") for problem in problems]
    return warnings or [ok("confinement", "child processes are kept from files, network and signals")]


async def _neighbours(settings: Settings) -> list[Finding]:
    urls = {"MANAGER_URL": settings.manager_url, "ACCESS_SERVICE_URL": settings.access_service_url}
    if settings.manager_transfer_callback_url:
        urls["MANAGER_TRANSFER_CALLBACK_URL"] = settings.manager_transfer_callback_url
    findings = []
    async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE_SECONDS) as http:
        for name, url in urls.items():
            asked_at = time.time()
            try:
                answer = await http.head(url)
            except httpx.HTTPError as error:
                text = f"no answer ({reason_of(error)}); start the service, or correct the URL"
                findings.append(fault(name, text))
                continue
            if (date := parse_date(answer.headers.get("date"))) is not None:
                findings += clock_findings(name, date - asked_at)
            is_away = answer.status_code in _PROXY_ERRORS
            text = f"answers with status {answer.status_code}; see whether the service runs"
            findings.append(warning(name, text) if is_away else ok(name, "answers"))
    return findings


async def _limits(settings: Settings) -> list[Finding]:
    most = getrlimit(RLIMIT_NOFILE)[0]
    if most < _LEAST_OPEN_FILES:
        return [warning("open files", f"at most {most} for this user; raise LimitNOFILE for many downloads at once")]
    return [ok("open files", f"{most} allowed")]


async def _servers(settings: Settings) -> list[Finding]:
    found = await asyncio.to_thread(lambda: dict(granian.servers()))
    if not found:
        return [ok("granian", "no service of this user runs here; start each with --http 1")]
    text = "was started without --http 1, and keeps connections that send nothing; add the option to its command"
    warnings = [
        warning("granian", f"process {pid} {text}") for pid, is_http1_only in found.items() if not is_http1_only
    ]
    return warnings or [ok("granian", f"{len(found)} processes, all with --http 1")]
