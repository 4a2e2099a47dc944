"""Commands for operators: `open-workshop-storage doctor`, `… status`, `… jobs` and others.

The exit status is 0, or 1 if something does not work.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from tqdm import tqdm

from open_workshop_storage.core.errors import CallbackMissing, ServiceUnavailable, StorageError
from open_workshop_storage.core.settings import Settings, SettingsError, load_settings
from open_workshop_storage.core.store import JobStore
from open_workshop_storage.services.operations.doctor import examine
from open_workshop_storage.services.operations.findings import Finding, Severity, reason_of
from open_workshop_storage.services.operations.status import MOST_JOBS, Status, status_of, storage_status
from open_workshop_storage.services.operations.status_text import jobs_text, status_text
from open_workshop_storage.services.operations.whole_store import find_changed, give_digests, scan_store
from open_workshop_storage.services.storage.opening import open_files
from open_workshop_storage.services.storage.workspaces import Workspaces
from open_workshop_storage.services.transfers.attempts import cancel_transfer
from open_workshop_storage.stores.redis import redis_job_store
from open_workshop_storage.stores.redis_client import redis_client

_INTERRUPTED = 130
"""The exit status of a command that was broken off from the keyboard, as shells have it."""


class CommandFailed(Exception):
    """A command cannot do its work; the text says why."""


async def doctor(settings: Settings) -> int:
    """Print the results of all checks; return the exit status."""
    return await _report(examine(settings))


async def digests(settings: Settings) -> int:
    """Give a digest to every stored file that has none, and print those that stay without; return the exit status."""
    async with open_files(settings) as files:
        return await _report(give_digests(files))


async def verify(settings: Settings) -> int:
    """Read every stored file that has a digest, and print those that changed; return the exit status."""
    async with open_files(settings) as files:
        return await _report(find_changed(files))


async def scan(settings: Settings) -> int:
    """Have every stored file scanned for malware, and print what is not clean; return the exit status."""
    async with open_files(settings) as files:
        return await _report(scan_store(settings, files))


async def _report(findings: AsyncIterator[Finding]) -> int:
    worst = 0
    try:
        async for severity, subject, text in findings:
            # Above the bar of progress.
            tqdm.write(f"{severity:8} {subject}: {text}")
            worst = max(worst, int(severity is Severity.FAULT))
    except ServiceUnavailable as error:
        text = "The storage root is missing, or the object store away; the doctor says what to do"
        raise CommandFailed(text) from error
    return worst


async def status(settings: Settings, as_json: bool) -> None:
    """Print what all loaders do."""
    now = await _read_status(settings)
    print(now.model_dump_json(indent=2) if as_json else status_text(now))


async def jobs(settings: Settings) -> None:
    """Print the jobs of all loaders."""
    print(jobs_text(await _read_status(settings)))


async def redeliver(settings: Settings, jti: str) -> None:
    """Have a callback delivered now."""
    async with _open_store(settings) as store:
        due_seconds = await store.outbox.hurry(jti)
        if due_seconds is None:
            raise CallbackMissing
    print(f"A loader delivers it {f'in {due_seconds:.0f} s' if due_seconds else 'now'}; its log tells more")


async def cancel(settings: Settings, job: str) -> None:
    """End a transfer."""
    async with _open_store(settings) as store:
        await cancel_transfer(store, job)
    print("Cancelled; its client and the Manager are told")


async def _read_status(settings: Settings) -> Status:
    async with _open_store(settings) as store, open_files(settings) as files:
        storage = await storage_status(settings, files, Workspaces(settings.main_dir))
        return status_of(await store.overview(MOST_JOBS), settings, storage)


@asynccontextmanager
async def _open_store(settings: Settings) -> AsyncIterator[JobStore]:
    """Open the store of all loaders.

    Raises:
        CommandFailed: This process cannot reach it, or it refuses what the block asks for.
    """
    if not settings.redis_url:
        raise CommandFailed("REDIS_URL is empty: transfers are known to the loader's process only")
    async with redis_client(settings.redis_url) as redis:
        try:
            yield redis_job_store(settings, redis)
        except ServiceUnavailable as error:
            cause = error.__cause__
            text = (
                f"Redis cannot be asked ({reason_of(cause)})" if isinstance(cause, Exception) else "No loader answers"
            )
            raise CommandFailed(f"{text}; the doctor says what to do") from error
        except StorageError as error:
            raise CommandFailed(error.message) from error


COMMANDS: dict[str, tuple[Callable[..., Coroutine[Any, Any, int | None]], str]] = {
    "doctor": (doctor, "check the configuration against reality"),
    "digests": (digests, "give a digest to every stored file that has none"),
    "verify": (verify, "read the store, and name every file that is not what it was"),
    "scan": (scan, "have the store scanned for malware, and name every file that is not clean"),
    "status": (status, "show what runs, waits and failed, which callbacks are pending, and what workers there are"),
    "jobs": (jobs, "show what runs, waits and failed, and why"),
    "redeliver": (redeliver, "deliver a callback that waits now"),
    "cancel": (cancel, "end a transfer that has not ended"),
}


def main() -> int:
    """Run the command that the arguments name."""
    parser = argparse.ArgumentParser(prog="open-workshop-storage")
    commands = parser.add_subparsers(dest="command", required=True)
    parsers = {
        name: commands.add_parser(name, help=description, description=description)
        for name, (_, description) in COMMANDS.items()
    }
    parsers["status"].add_argument("--json", action="store_true", dest="as_json", help="as GET /loader/status has it")
    parsers["redeliver"].add_argument("jti", help="the callback's name, as status shows it")
    parsers["cancel"].add_argument("job", help="the transfer's name")
    arguments = vars(parser.parse_args())
    command, _ = COMMANDS[arguments.pop("command")]
    try:
        return asyncio.run(command(load_settings(), **arguments)) or 0
    except (SettingsError, CommandFailed) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return _INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
