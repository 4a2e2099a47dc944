"""What the services rely on in granian, against the release that is installed."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from granian.log import LOGGING_CONFIG

from open_workshop_storage.utils.processes import granian
from tests.support.client import PATIENCE_SECONDS
from tests.support.processes import children, is_running, kill
from tests.support.servers import GRANIAN, PROJECT, free_port

PORT = free_port()
# The kernel's share with the smallest buffers: about one segment of the loopback interface.
KERNEL_BYTES = 128 * 1024


def ask(path: str) -> Any:
    return httpx.get(f"http://127.0.0.1:{PORT}{path}", timeout=PATIENCE_SECONDS).json()


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def listens() -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", PORT)) == 0


@pytest.fixture
def server() -> Iterator[subprocess.Popen[bytes]]:
    """A server with one worker that runs the probe."""
    target = "tests.support.granian_probe:app"
    command = [
        "setpriv",
        "--pdeathsig",
        "KILL",
        *GRANIAN,
        "--host",
        "127.0.0.1",
        "--port",
        str(PORT),
        "--no-log",
        target,
    ]
    with subprocess.Popen(command, cwd=PROJECT, env={"PYTHONPATH": f"{PROJECT}/src:{PROJECT}"}) as process:
        workers: list[int] = []
        try:
            # The main process listens before it starts the worker, which outlives a main process that is killed.
            until(lambda: children(process.pid))
            workers = children(process.pid)
            until(listens)
            ask("/seen")
            yield process
        finally:
            kill([*workers, process.pid])


def test_its_loggers_are_those() -> None:
    loggers = LOGGING_CONFIG["loggers"]
    assert isinstance(loggers, dict) and loggers.keys() == set(granian.LOGGERS)


def test_a_worker_knows_its_main_process_and_its_listening_sockets(server: subprocess.Popen[bytes]) -> None:
    seen = ask("/seen")
    assert (seen["main"], {*seen["ports"]}) == (server.pid, {PORT})


def test_sigterm_is_kept_from_it_and_it_stops_when_told(server: subprocess.Popen[bytes]) -> None:
    ask("/seen")
    (worker,) = children(server.pid)
    subprocess.run(["kill", "-TERM", str(worker)], check=True)
    until(lambda: ask("/seen")["told"] == 1)
    assert children(server.pid) == [worker]
    ask("/stop")
    until(lambda: not is_running(worker))


def test_the_server_ends_with_another_status_than_0_when_a_worker_ends_it(server: subprocess.Popen[bytes]) -> None:
    try:
        ask("/end")
    except httpx.TransportError:
        pass
    assert server.wait(PATIENCE_SECONDS) == -signal.SIGUSR1


def test_it_holds_so_much_of_an_answer_ahead_of_a_client_that_does_not_read(server: subprocess.Popen[bytes]) -> None:
    ask("/seen")
    for size in (32 * 1024, 256 * 1024):
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", PORT))
            client.sendall(f"GET /blocks/{size} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            until(lambda: str(size) in ask("/seen")["taken"])
        taken = ask("/seen")["taken"][str(size)]
        # The last block waits in `send`.
        held = granian.WRITER_BYTES + (granian.WAITING_BLOCKS - 1) * size
        assert held - size < taken <= held + KERNEL_BYTES, (size, taken, held)
