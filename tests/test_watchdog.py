"""The watchdog as its own process, in front of real servers that die, hang and come back."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import watchdog
from tests.support.processes import is_running
from tests.support.servers import clean_environment, free_port

PATIENCE_SECONDS = 60
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


@dataclass(frozen=True)
class Watchdog:
    """A running watchdog and what it logs."""

    process: subprocess.Popen[bytes]
    log_file: Path

    def log(self) -> str:
        return self.log_file.read_text()

    def wait_for(self, text: str, times: int = 1) -> None:
        """Wait until the log holds a text so many times."""
        wait_until(lambda: self.log().count(text) >= times, lambda: f"{text!r} is not in:\n{self.log()}")

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and return the exit status."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_SECONDS)


def wait_until(condition: Callable[[], bool], complaint: Callable[[], str] = str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, complaint()
        time.sleep(0.02)


@contextmanager
def watching(folder: Path, url: str, command: str, **seconds: float) -> Iterator[Watchdog]:
    """Run the watchdog with short times."""
    times = {"CHECK_INTERVAL": 0.05, "RESTART_AFTER": 0.2, "REQUEST_TIMEOUT": 1} | seconds
    environment = {
        **clean_environment(),
        "WATCHDOG_HEALTH_URL": url,
        "WATCHDOG_RESTART_COMMAND": command,
        **{f"WATCHDOG_{name}_SECONDS": str(value) for name, value in times.items()},
    }
    log_file = folder / "watchdog.log"
    with log_file.open("wb") as output:
        process = subprocess.Popen([sys.executable, watchdog.__file__], env=environment, stderr=output, cwd=folder)
    try:
        yield Watchdog(process, log_file)
    finally:
        process.kill()
        process.wait()


@dataclass
class Service:
    """A web server as a process of its own, which a shell command restarts."""

    folder: Path
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    @property
    def restart_command(self) -> str:
        server = f"{sys.executable} -m http.server --bind 127.0.0.1 --directory {self.folder} {self.port}"
        return f"kill -9 $(cat pid) || true; {server} 2>/dev/null & echo $! > pid; echo >> restarts"

    def pid(self) -> int:
        return int((self.folder / "pid").read_text())

    def restarts(self) -> int:
        return (self.folder / "restarts").read_text().count("\n")

    def start(self) -> None:
        (self.folder / "pid").write_text("")
        subprocess.run(self.restart_command, shell=True, cwd=self.folder, stderr=subprocess.DEVNULL, check=True)
        (self.folder / "restarts").write_text("")


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    service = Service(tmp_path, free_port())
    service.start()
    yield service
    with suppress(ProcessLookupError):
        os.kill(service.pid(), signal.SIGKILL)


@asynccontextmanager
async def answering(answer: Answer) -> AsyncIterator[str]:
    """Serve what a function writes once a request has come, and yield the address."""
    handlers: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handler = asyncio.current_task()
        assert handler is not None
        handlers.add(handler)
        try:
            with suppress(ConnectionError):
                await reader.readuntil(b"\r\n\r\n")
                await answer(writer)
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield "http://127.0.0.1:{1}/health".format(*server.sockets[0].getsockname())
        for handler in handlers:
            handler.cancel()
        await asyncio.wait(handlers)


def settings_for(
    url: str, *, command: str = "true", restart_after: float = 60, request_timeout: float = 30
) -> watchdog.Settings:
    return watchdog.read_settings(
        {
            "WATCHDOG_HEALTH_URL": url,
            "WATCHDOG_RESTART_COMMAND": command,
            "WATCHDOG_RESTART_AFTER_SECONDS": str(restart_after),
            "WATCHDOG_REQUEST_TIMEOUT_SECONDS": str(request_timeout),
        }
    )


@pytest.mark.parametrize("trouble", [signal.SIGKILL, signal.SIGSTOP], ids=["dead", "hanging"])
def test_a_service_that_stopped_answering_is_restarted(service: Service, trouble: signal.Signals) -> None:
    with watching(service.folder, service.url, service.restart_command, REQUEST_TIMEOUT=0.3) as dog:
        dog.wait_for("The service is well")
        assert service.restarts() == 0
        os.kill(service.pid(), trouble)
        dog.wait_for("The service is well", times=2)
        assert service.restarts() >= 1
        assert "The restart command ended with status 0" in dog.log()
        assert dog.end() == 0
    # The service outlives the watchdog that restarted it.
    assert is_running(service.pid())


def test_a_service_that_comes_back_by_itself_is_left_alone(service: Service) -> None:
    with watching(service.folder, service.url, service.restart_command, RESTART_AFTER=3600) as dog:
        dog.wait_for("The service is well")
        os.kill(service.pid(), signal.SIGKILL)
        dog.wait_for("Check failed: no connection: ")
        service.start()
        dog.wait_for("The service is well", times=2)
        assert service.restarts() == 0


@pytest.mark.anyio
async def test_only_failure_without_a_break_counts(tmp_path: Path) -> None:
    answers = 0

    async def every_other(writer: asyncio.StreamWriter) -> None:
        nonlocal answers
        answers += 1
        writer.write(OK if answers % 2 else b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    async with answering(every_other) as url:
        with watching(tmp_path, url, "touch restarted", CHECK_INTERVAL=0.02, RESTART_AFTER=0.1) as dog:
            await asyncio.to_thread(dog.wait_for, "Check failed: the answer has status 503", 15)
            assert not (tmp_path / "restarted").exists()


@pytest.mark.parametrize(
    ("command", "said"),
    [("exit 3", "The restart command ended with status 3"), ("kill -9 $$", "The restart command ended with status -9")],
)
def test_a_failing_restart_command_is_tried_again(tmp_path: Path, command: str, said: str) -> None:
    with watching(tmp_path, f"http://127.0.0.1:{free_port()}/", command) as dog:
        dog.wait_for(said, times=2)
        assert dog.end() == 0


@pytest.mark.anyio
async def test_a_hanging_restart_command_is_killed_with_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(watchdog, "LEAST_RESTART_SECONDS", 0.5)
    monkeypatch.chdir(tmp_path)
    command = "sleep 1000 & echo $! > child; wait"
    await watchdog.restart(settings_for("http://127.0.0.1/", command=command, restart_after=0.1))
    assert "The restart command has not ended within 0.5 s" in caplog.text
    child = int((tmp_path / "child").read_text())
    await asyncio.to_thread(wait_until, lambda: not is_running(child))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_in_the_middle_of_a_restart(tmp_path: Path, number: signal.Signals) -> None:
    command = "sleep 1000 & echo $! > child.new; mv child.new child; wait"
    with watching(tmp_path, f"http://127.0.0.1:{free_port()}/", command, RESTART_AFTER=1e-9) as dog:
        wait_until((tmp_path / "child").exists)
        assert dog.end(number) == 0
        assert f"Ending on {number.name}" in dog.log()
    assert "Traceback" not in dog.log()
    child = int((tmp_path / "child").read_text())
    wait_until(lambda: not is_running(child))


@pytest.mark.anyio
async def test_it_ends_in_the_middle_of_a_check(tmp_path: Path) -> None:
    asked = asyncio.Event()

    async def never(writer: asyncio.StreamWriter) -> None:
        asked.set()
        await asyncio.sleep(1000)

    async with answering(never) as url:
        with watching(tmp_path, url, "true", REQUEST_TIMEOUT=1000) as dog:
            await asyncio.wait_for(asked.wait(), PATIENCE_SECONDS)
            assert await asyncio.to_thread(dog.end) == 0
        assert "Traceback" not in dog.log()


@pytest.mark.anyio
@pytest.mark.parametrize(
    "answer",
    [
        OK,
        b"HTTP/1.0 200 OK\r\n\r\nto the end",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok, and more that is not part of it",
    ],
)
async def test_a_whole_answer_with_status_200_is_well(answer: bytes) -> None:
    async def write(writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()
        if b"Content-Length" in answer:
            # Not even closing is asked of the service.
            await asyncio.sleep(1000)

    async with answering(write) as url:
        await watchdog.check(settings_for(url))


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", "status 503"),
        (b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n", "status 302"),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", "status 204"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok", "incomplete"),
        (b"HTTP/1.1 200 OK\r\n", "incomplete"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "no HTTP"),
        (b"x" * 200_000, "no HTTP"),
        (b"", "incomplete"),
    ],
)
async def test_any_other_answer_is_a_failure(answer: bytes, said: str) -> None:
    async def write(writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()

    async with answering(write) as url:
        with pytest.raises(watchdog.CheckFailed, match=said):
            await watchdog.check(settings_for(url))


@pytest.mark.anyio
@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n"])
async def test_an_answer_that_trickles_is_a_failure(start: bytes) -> None:
    async def trickle(writer: asyncio.StreamWriter) -> None:
        writer.write(start)
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.01)

    async with answering(trickle) as url:
        with pytest.raises(watchdog.CheckFailed, match="no complete answer within 0.3 s"):
            await watchdog.check(settings_for(url, request_timeout=0.3))


def test_every_faulty_setting_is_named() -> None:
    environment = {
        **clean_environment(),
        "WATCHDOG_HEALTH_URL": "127.0.0.1:8000/healthz",
        "WATCHDOG_CHECK_INTERVAL_SECONDS": "often",
        "WATCHDOG_RESTART_AFTER_SECONDS": "0",
        "WATCHDOG_REQUEST_TIMEOUT_SECONDS": "",
    }
    result = subprocess.run(
        [sys.executable, watchdog.__file__], env=environment, capture_output=True, text=True, timeout=PATIENCE_SECONDS
    )
    assert result.returncode == 1
    assert [line.split()[0] for line in result.stderr.splitlines()[1:]] == [
        "WATCHDOG_HEALTH_URL",
        "WATCHDOG_RESTART_COMMAND",
        "WATCHDOG_CHECK_INTERVAL_SECONDS",
        "WATCHDOG_RESTART_AFTER_SECONDS",
        "WATCHDOG_REQUEST_TIMEOUT_SECONDS",
    ]


@pytest.mark.parametrize(
    "url",
    ["", "http://", "ftp://a/", "http://a:b/", "http://a:99999/", "http://a..b/", "http://u:p@a/", "http://a/\r\n"],
)
def test_an_address_that_will_not_do_is_refused(url: str) -> None:
    with pytest.raises(watchdog.SettingsError, match="WATCHDOG_HEALTH_URL"):
        settings_for(url)


def test_seconds_are_finite() -> None:
    with pytest.raises(watchdog.SettingsError, match="WATCHDOG_RESTART_AFTER_SECONDS"):
        settings_for("http://a/", restart_after=float("inf"))
