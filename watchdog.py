"""Restarts a service that has stopped answering. Needs nothing but Python's standard library.

The health address is asked every so often. A check succeeds if the whole answer arrives in time and its status is
200; all else is a failure, a redirect too. When checks have failed without a break for long enough, the restart
command runs, and failures count afresh.

Settings are environment variables, see docs/CONFIGURATION.md. SIGTERM and SIGINT end the watchdog with status 0, also
in the middle of a check, or of a restart, whose command is then killed. Faulty settings end it with status 1.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import re
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from urllib.parse import SplitResult, urlsplit

DEFAULT_SECONDS = {
    "WATCHDOG_CHECK_INTERVAL_SECONDS": 20.0,
    "WATCHDOG_RESTART_AFTER_SECONDS": 300.0,
    "WATCHDOG_REQUEST_TIMEOUT_SECONDS": 5.0,
}

LEAST_RESTART_SECONDS = 10.0
"""A restart command may run for as long as it takes to decide on one, and never has to end sooner than this."""

log = logging.getLogger("watchdog")


class SettingsError(Exception):
    """The environment will not do; the text names every faulty variable."""


class CheckFailed(Exception):
    """The service is not well; the text says why."""


@dataclass(frozen=True)
class Settings:
    """What the environment says.

    Attributes:
        health_url: The address that answers 200 while the service is well.
        restart_command: The shell command that restarts the service.
        check_interval: Seconds from the start of one check to the start of the next.
        restart_after: Seconds of failure without a break after which the service is restarted.
        request_timeout: Seconds that a check may take, up to the last byte of the answer.
    """

    health_url: SplitResult
    restart_command: str
    check_interval: float
    restart_after: float
    request_timeout: float


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Read and judge the settings.

    Raises:
        SettingsError: At least one is missing or will not do.
    """
    faults = []

    url_text = environment.get("WATCHDOG_HEALTH_URL", "")
    if not _is_health_url(url_text):
        faults.append("WATCHDOG_HEALTH_URL should be an http:// or https:// address, without a user name in it")

    restart_command = environment.get("WATCHDOG_RESTART_COMMAND", "")
    if not restart_command.strip():
        faults.append("WATCHDOG_RESTART_COMMAND should be the shell command that restarts the service")

    seconds = []
    for name, default in DEFAULT_SECONDS.items():
        try:
            seconds.append(float(environment.get(name, default)))
        except ValueError:
            seconds.append(math.nan)
        if not 0 < seconds[-1] < math.inf:
            faults.append(f"{name} should be a number of seconds above 0")

    if faults:
        raise SettingsError("Configuration error:\n" + "\n".join(f"  {fault}" for fault in faults))
    return Settings(urlsplit(url_text), restart_command, *seconds)


def _is_health_url(text: str) -> bool:
    try:
        url = urlsplit(text)
        # Reading the port judges it, and encoding the name judges that.
        is_address = bool((url.hostname or "").encode("idna")) and url.port != 0
    except ValueError:
        return False
    return is_address and url.scheme in ("http", "https") and url.username is None and not re.search("[^!-~]", text)


async def check(settings: Settings) -> None:
    """Ask the health address once.

    Raises:
        CheckFailed: The answer is not 200, not complete, or not there.
    """
    try:
        async with asyncio.timeout(settings.request_timeout):
            status = await _fetch_status(settings.health_url)
    except TimeoutError:
        raise CheckFailed(f"no complete answer within {settings.request_timeout:g} s") from None
    except OSError as error:
        raise CheckFailed(f"no connection: {error.strerror or error}") from None
    except (EOFError, ValueError, asyncio.LimitOverrunError):
        raise CheckFailed("the answer is incomplete, or no HTTP") from None
    if status != 200:
        raise CheckFailed(f"the answer has status {status}")


async def _fetch_status(url: SplitResult) -> int:
    """Return the status of an answer that was read to its end.

    Raises:
        OSError: There is no connection, or it broke.
        EOFError, ValueError, LimitOverrunError: The answer ended early, or is no HTTP.
    """
    secure = url.scheme == "https"
    port = url.port or (443 if secure else 80)
    reader, writer = await asyncio.open_connection(url.hostname, port, ssl=secure or None)
    try:
        target = url._replace(scheme="", netloc="", path=url.path or "/", fragment="").geturl()
        # Answers to HTTP/1.0 are never chunked.
        writer.write(f"GET {target} HTTP/1.0\r\nHost: {url.netloc}\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        status = re.match(rb"HTTP/1\.[01] ([0-9]{3})\b", head)
        if status is None:
            raise ValueError
        length = re.search(rb"\r\ncontent-length:[ \t]*([0-9]+)[ \t]*\r\n", head, re.IGNORECASE)
        await (reader.readexactly(int(length[1])) if length else reader.read())
        return int(status[1])
    finally:
        writer.transport.abort()


async def restart(settings: Settings) -> None:
    """Run the restart command to its end, or kill it with its children when it takes too long."""
    limit = max(settings.restart_after, LEAST_RESTART_SECONDS)
    try:
        process = await asyncio.create_subprocess_shell(
            settings.restart_command, stdin=asyncio.subprocess.DEVNULL, start_new_session=True
        )
    except OSError as error:
        log.error("The restart command cannot be started: %s", error.strerror)
        return
    try:
        async with asyncio.timeout(limit):
            status = await process.wait()
        log.log(logging.ERROR if status else logging.INFO, "The restart command ended with status %d", status)
    except TimeoutError:
        log.error("The restart command has not ended within %g s", limit)
    finally:
        # A command that ended may leave what it started running: the service, for one.
        if process.returncode is None:
            log.info("Killing the restart command")
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


async def watch(settings: Settings) -> None:
    """Check, and restart when it is time to, until cancelled."""
    is_well = False
    failing_since: float | None = None
    while True:
        next_check = monotonic() + settings.check_interval
        try:
            await check(settings)
        except CheckFailed as failure:
            is_well = False
            now = monotonic()
            failing_since = now if failing_since is None else failing_since
            restart_at = failing_since + settings.restart_after
            if now < restart_at:
                log.warning("Check failed: %s. Restart in %.0f s if this goes on", failure, restart_at - now)
                next_check = min(next_check, restart_at)
            else:
                log.error("Check failed: %s. So it has for %.0f s: restarting", failure, now - failing_since)
                await restart(settings)
                failing_since = None
                next_check = monotonic() + settings.check_interval
        else:
            if not is_well:
                log.info("The service is well")
            is_well = True
            failing_since = None
        await asyncio.sleep(next_check - monotonic())


async def run(settings: Settings) -> None:
    """Watch until SIGTERM or SIGINT."""
    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(watch(settings))

        def end(number: int) -> None:
            log.info("Ending on %s", signal.Signals(number).name)
            watching.cancel()

        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, end, number)
        log.info(
            "Checking %s every %g s; after %g s of failure: %s",
            settings.health_url.geturl(),
            settings.check_interval,
            settings.restart_after,
            settings.restart_command,
        )


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        asyncio.run(run(read_settings(os.environ)))
    except SettingsError as error:
        sys.exit(str(error))
