"""What the loader is measured with: a bare app beside it, and clients that cost little."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from tests.support.servers import GRANIAN, Server, clean_environment, free_port, running

_ANSWER_BYTES = 65536


@dataclass(frozen=True)
class Sent:
    """One upload.

    Attributes:
        last_byte: When the server, or the kernel for it, had taken the last byte, by `time.perf_counter`.
        body_seconds: How long that took.
        answer_seconds: From then until the answer.
        status: The answer's.
    """

    last_byte: float
    body_seconds: float
    answer_seconds: float
    status: int


@contextmanager
def sink(folder: Path) -> Iterator[Server]:
    """Run `benchmarks.sink` until the block ends; it writes to `folder / "sunk"`."""
    port = free_port()
    command = [*GRANIAN, "--host", "127.0.0.1", "--port", str(port), "benchmarks.sink:app"]
    environment = clean_environment() | {"SINK_FILE": str(folder / "sunk")}

    def answers() -> bool:
        try:
            return httpx.post(f"http://127.0.0.1:{port}/", timeout=1).status_code == 200
        except httpx.TransportError:
            return False

    with running("sink", command, folder, environment, port, answers) as server:
        yield server


def send_file(url: str, path: Path, size: int) -> Sent:
    """Send the first bytes of a file as a raw body, as fast as they are taken, over a connection of their own.

    Args:
        size: How many bytes.
    """
    with connected(url) as connection:
        return send_part(connection, url, path, size)


def connected(url: str) -> socket.socket:
    """Return a connection to the server of an address."""
    parts = urlsplit(url)
    connection = socket.create_connection((parts.hostname, parts.port))
    # As HTTP clients do; else the end of a body waits for the server's acknowledgement of what came before.
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def send_part(
    connection: socket.socket, url: str, path: Path, size: int, method: str = "POST", offset: int = 0, headers: str = ""
) -> Sent:
    """Send bytes of a file as a raw body, as fast as they are taken.

    Args:
        size: How many bytes.
        offset: Where in the file they begin.
        headers: Lines besides the usual ones, each with its line break.
    """
    parts = urlsplit(url)
    head = f"{method} {parts.path}?{parts.query} HTTP/1.1\r\nHost: storage\r\nContent-Length: {size}\r\n{headers}\r\n"
    started = time.perf_counter()
    connection.sendall(head.encode())
    sent = 0
    with path.open("rb") as file:
        while sent < size:
            sent += os.sendfile(connection.fileno(), file.fileno(), offset + sent, size - sent)
    last_byte = time.perf_counter()
    answer = connection.recv(_ANSWER_BYTES)
    return Sent(last_byte, last_byte - started, time.perf_counter() - last_byte, int(answer.split()[1]))
