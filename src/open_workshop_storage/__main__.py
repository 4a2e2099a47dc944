"""Commands for operators: `open-workshop-storage doctor`, `… status`, `… digests` and `… verify`.

The exit status is 0, or 1 if something does not work.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from redis.exceptions import RedisError
from tqdm import tqdm

from open_workshop_storage.core.errors import ServiceUnavailable
from open_workshop_storage.core.settings import Settings, SettingsError, load_settings
from open_workshop_storage.services.operations.doctor import examine
from open_workshop_storage.services.operations.findings import Finding, Verdict, reason_of
from open_workshop_storage.services.operations.integrity import find_changed, give_digests
from open_workshop_storage.services.operations.status import status_text
from open_workshop_storage.services.storage.opening import open_files
from open_workshop_storage.stores.redis_client import redis_client
from open_workshop_storage.stores.redis_overview import overview

_MOST_JOBS = 1000
_PATIENCE_SECONDS = 10.0
_INTERRUPTED = 130
"""The exit status of a command that was broken off from the keyboard, as shells have it."""


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


async def _report(findings: AsyncIterator[Finding]) -> int:
    worst = 0
    try:
        async for verdict, subject, text in findings:
            # Above the bar, if there is one.
            tqdm.write(f"{verdict:8} {subject}: {text}")
            worst = max(worst, int(verdict is Verdict.FAULT))
    except ServiceUnavailable:
        print("The storage root is missing, or the object store away; the doctor says what to do", file=sys.stderr)
        return 1
    return worst


async def status(settings: Settings) -> int:
    """Print jobs, callbacks and slots of all loaders; return the exit status."""
    if not settings.redis_url:
        print("REDIS_URL is empty: transfers are known to the loader's process only", file=sys.stderr)
        return 1
    redis = redis_client(settings.redis_url)
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            print(status_text(await overview(redis, settings.redis_prefix, _MOST_JOBS)))
    except (RedisError, OSError) as error:
        print(f"Redis cannot be asked ({reason_of(error)}); the doctor says what to do", file=sys.stderr)
        return 1
    finally:
        await redis.aclose()
    return 0


COMMANDS: dict[str, tuple[Callable[[Settings], Coroutine[Any, Any, int]], str]] = {
    "doctor": (doctor, "check the configuration against reality"),
    "digests": (digests, "give a digest to every stored file that has none"),
    "verify": (verify, "read the store, and name every file that is not what it was"),
    "status": (status, "show what runs, waits and failed, and which callbacks are pending"),
}


def main() -> int:
    """Run the command that the arguments name."""
    parser = argparse.ArgumentParser(prog="open-workshop-storage")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (_, description) in COMMANDS.items():
        commands.add_parser(name, help=description, description=description)
    command, _ = COMMANDS[parser.parse_args().command]
    try:
        return asyncio.run(command(load_settings()))
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return _INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
