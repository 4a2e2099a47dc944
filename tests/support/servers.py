"""Real servers on free ports of `HOST`, each ended with all that it started."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import IO

import httpx
import redis

from tests.support.processes import descendants, kill

PROJECT = Path(__file__).resolve().parents[2]
HOST = os.environ.get("TESTS_HOST", "127.0.0.1")
"""Where servers listen; another address where other hosts of a network have to reach them."""
_GIVEN_PORTS: set[int] = set()
START_SECONDS = 120
STOP_SECONDS = 30

GRANIAN = (
    str(Path(sys.executable).with_name("granian")),
    "--interface",
    "asgi",
    "--http",
    "1",
    "--backpressure",
    "2048",
)
"""How every service is started, here as in README.md and deploy/; docs/DEPLOYMENT.md says why."""

_PREFIXES = {"distributor": "/distributor", "loader": "/loader", "app": ""}


class StartFailed(Exception):
    """A server ended, or stayed silent, instead of starting; the text holds what it printed."""


@dataclass(frozen=True)
class Server:
    """A running server.

    Attributes:
        url: Its base URL, without a slash at the end.
        port: Its port.
        log: The file that takes what it prints.
    """

    name: str
    url: str
    port: int
    process: subprocess.Popen[bytes]
    log: Path

    def output(self) -> str:
        """Return all that the server has printed."""
        return self.log.read_text(errors="replace")

    def workers(self) -> list[int]:
        """Return the ids of the processes that it has started."""
        return descendants(self.process.pid)

    def stop(self) -> None:
        """End the server with all that it started: SIGTERM first, SIGKILL after `STOP_SECONDS`."""
        started = self.workers()
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        kill(started)


class QuietHandler(BaseHTTPRequestHandler):
    """Answers requests to a server of the test's own process, and prints nothing of them."""

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""


class _QuietServer(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Keep quiet about clients that die in the middle of a call."""


@contextmanager
def http_server(handler: type[BaseHTTPRequestHandler], port: int = 0) -> Iterator[str]:
    """Answer requests in threads of this process until the block ends; give the base URL.

    Args:
        port: 0 for a free one.
    """
    with _QuietServer((HOST, port), handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://{HOST}:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def free_port() -> int:
    """Return a TCP port of `HOST` that nothing listens on, another one each time."""
    with socket.create_server((HOST, 0)) as listener:
        port: int = listener.getsockname()[1]
        # The system may give one again while its first taker has not begun to listen.
        if port in _GIVEN_PORTS:
            return free_port()
    _GIVEN_PORTS.add(port)
    return port


def clean_environment() -> dict[str, str]:
    """Return the environment without what could change a setting."""
    kept = {"PATH", "HOME", "LANG", "LC_ALL", "SSL_CERT_FILE", "TMPDIR"}
    return {name: value for name, value in os.environ.items() if name in kept or name.startswith("COVERAGE_")}


def granian_command(app: str, port: int, *, workers: int = 1, host: str = HOST) -> list[str]:
    """Return the command that starts one of our services (docs/DEPLOYMENT.md).

    Args:
        app: `distributor`, `loader` or `app`.
        workers: More than one, for a loader with Redis, also has granian replace workers that die.
    """
    command = [*GRANIAN, "--working-dir", "src", "--host", host, "--port", str(port)]
    if workers > 1:
        command += ["--workers", str(workers), "--respawn-failed-workers"]
    return [*command, f"open_workshop_storage.{app}:app"]


@contextmanager
def granian(
    app: str,
    folder: Path,
    environment: Mapping[str, str],
    *,
    workers: int = 1,
    port: int = 0,
    working_folder: Path = PROJECT,
) -> Iterator[Server]:
    """Run one of our services until the block ends, once all its workers have started.

    The server loses a signal to end that comes while a worker starts.

    Args:
        app: `distributor`, `loader` or `app`.
        folder: Takes the log.
        environment: The whole environment of the service.
        port: 0 for a free one.
        working_folder: Where the command runs; `src` in it leads to ours.

    Raises:
        StartFailed: The service ended, or did not become healthy within `START_SECONDS`.
    """
    port = port or free_port()
    health = f"http://{HOST}:{port}{_PREFIXES[app]}/healthz"
    log = _log(folder, app, port)
    # Another one may have run here before.
    to_be_started = _started_workers(log) + workers

    def is_ready() -> bool:
        try:
            return _started_workers(log) >= to_be_started and httpx.get(health, verify=False).status_code == 200
        except httpx.TransportError:
            return False

    command = granian_command(app, port, workers=workers)
    with running(app, command, folder, environment, port, is_ready, working_folder) as server:
        yield server


def _started_workers(log: Path) -> int:
    return log.read_text(errors="replace").count("Started worker-") if log.exists() else 0


@contextmanager
def redis_server(folder: Path, *, port: int = 0, keeps_data: bool = False) -> Iterator[Server]:
    """Run a Redis until the block ends.

    Args:
        port: 0 for a free one.
        keeps_data: Whether the next Redis of the same folder has this one's data; otherwise nothing is on disk.

    Raises:
        StartFailed: It ended, or did not answer within `START_SECONDS`.
    """
    port = port or free_port()
    append = "yes" if keeps_data else "no"
    command = ["redis-server", "--port", str(port), "--bind", HOST, "--save", "", "--appendonly", append]

    def answers() -> bool:
        with redis.Redis(HOST, port) as client:
            try:
                return bool(client.ping())
            except redis.ConnectionError:
                return False

    with running("redis", [*command, "--dir", str(folder)], folder, clean_environment(), port, answers) as server:
        yield server


def failed_start(app: str, folder: Path, environment: Mapping[str, str], *, workers: int = 1) -> tuple[int, str]:
    """Start one of our services, which is expected to end by itself; return its exit status and what it printed.

    Raises:
        subprocess.TimeoutExpired: It went on for `START_SECONDS`.
    """
    log = folder / f"{app}.log"
    with log.open("wb") as output:
        process = _start(granian_command(app, free_port(), workers=workers), environment, output)
    try:
        return process.wait(START_SECONDS), log.read_text()
    finally:
        kill([*descendants(process.pid), process.pid])
        process.wait()


def _start(
    command: Sequence[str], environment: Mapping[str, str], output: IO[bytes], working_folder: Path = PROJECT
) -> subprocess.Popen[bytes]:
    # A session of its own: Ctrl-C in a terminal reaches only the demo, which ends the rest in order.
    # A signal on its parent's death: nothing stays behind when a test run is killed.
    setpriv = shutil.which("setpriv")
    assert setpriv is not None
    return subprocess.Popen(
        [setpriv, "--pdeathsig", "TERM", *command],
        cwd=working_folder,
        env=environment,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )


def _log(folder: Path, name: str, port: int) -> Path:
    return folder / f"{name}-{port}.log"


@contextmanager
def running(
    name: str,
    command: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    port: int,
    is_ready: Callable[[], bool],
    working_folder: Path = PROJECT,
) -> Iterator[Server]:
    """Run any server until the block ends.

    Args:
        folder: Takes the log.
        is_ready: Asked until it is true.

    Raises:
        StartFailed: It ended, or was not ready within `START_SECONDS`.
    """
    log = _log(folder, name, port)
    with log.open("ab") as output:
        process = _start(command, environment, output, working_folder)
    scheme = "redis" if name == "redis" else "http"
    server = Server(name, f"{scheme}://{HOST}:{port}", port, process, log)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not is_ready():
            if process.poll() is not None:
                raise StartFailed(f"{name} ended with exit status {process.returncode}:\n{server.output()}")
            if time.monotonic() > deadline:
                raise StartFailed(f"{name} did not start within {START_SECONDS} seconds:\n{server.output()}")
            time.sleep(0.05)
        yield server
    finally:
        server.stop()
