"""Commands for operators: `open-workshop-storage doctor` and `… status`.

The exit status is 0, or 1 if something does not work.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from redis.exceptions import RedisError

from open_workshop_storage.core.settings import Settings, SettingsError, load_settings
from open_workshop_storage.services.operations.doctor import examine
from open_workshop_storage.services.operations.findings import Verdict, reason_of
from open_workshop_storage.services.operations.status import status_text
from open_workshop_storage.stores.redis_client import redis_client
from open_workshop_storage.stores.redis_overview import overview

_MOST_JOBS = 1000
_PATIENCE_SECONDS = 10.0


async def doctor(settings: Settings) -> int:
    """Print the results of all checks; return the exit status."""
    worst = 0
    async for verdict, subject, text in examine(settings):
        print(f"{verdict:8} {subject}: {text}")
        worst = max(worst, int(verdict is Verdict.FAULT))
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


if __name__ == "__main__":
    sys.exit(main())
