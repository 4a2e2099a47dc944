"""Clients that cost next to nothing themselves, and what servers spend on them."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.servers import Server

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_BLOCK_BYTES = 1024 * 1024
_REQUESTS = re.compile(r"Requests/sec:\s+([\d.]+)")


def requests_per_second(url: str, *headers: str, seconds: int = 1, connections: int = 32) -> float:
    """Let wrk ask for one URL over keep-alive connections.

    Raises:
        RuntimeError: An answer was neither 200 nor 304.
    """
    command = ["wrk", "--threads", "1", "--connections", str(connections), "--duration", f"{seconds}s"]
    for header in headers:
        command += ["--header", header]
    report = subprocess.run([*command, url], capture_output=True, text=True, check=True).stdout
    match = _REQUESTS.search(report)
    if match is None or "Non-2xx" in report or "Socket errors" in report:
        raise RuntimeError(report)
    return float(match[1])


def cpu_seconds(servers: Iterable[Server]) -> float:
    """Return what servers and their workers have used so far, in user and kernel mode."""
    # What `clock_getcpuclockid` returns: /proc tells no more than hundredths of a second.
    return sum(
        time.clock_gettime(~pid << 3 | 2) for server in servers for pid in (server.process.pid, *server.workers())
    )


def resident_bytes(server: Server) -> int:
    """Return the memory that a server's workers hold."""
    return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES for pid in server.workers())


def download(urls: list[tuple[str, str]]) -> tuple[int, float]:
    """Take in all URLs at once, one connection each.

    Args:
        urls: Each with the value of a `Range` header, or an empty text.

    Returns:
        The bytes of the bodies, and the seconds until the last was complete.
    """
    started = time.perf_counter()
    with ThreadPoolExecutor(len(urls)) as pool:
        received = sum(pool.map(_receive, urls))
    return received, time.perf_counter() - started


@contextmanager
def slow_readers(url: str, wanted: str, count: int) -> Iterator[None]:
    """Hold downloads open whose clients stop reading after the headers."""
    with ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(_ask(url, wanted))
        yield


def _receive(url_and_range: tuple[str, str]) -> int:
    with _ask(*url_and_range) as connection:
        head = b""
        while b"\r\n\r\n" not in head:
            head += connection.recv(65536)
        head, _, body = head.partition(b"\r\n\r\n")
        status, length = int(head.split()[1]), int(re.findall(rb"(?i)\r\ncontent-length: *(\d+)", head)[0])
        if status not in (200, 206):
            raise RuntimeError(head.decode())
        left = length - len(body)
        buffer = bytearray(_BLOCK_BYTES)
        while left > 0:
            # The kernel throws away what it would otherwise copy here, so that the server is what is measured.
            count = connection.recv_into(buffer, min(left, _BLOCK_BYTES), socket.MSG_TRUNC)
            if not count:
                raise RuntimeError("the connection ended too early")
            left -= count
        return length


@contextmanager
def _ask(url: str, wanted: str) -> Iterator[socket.socket]:
    parts = urlsplit(url)
    range_header = f"Range: {wanted}\r\n" if wanted else ""
    with socket.create_connection((parts.hostname, parts.port)) as connection:
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        connection.sendall(f"GET {target} HTTP/1.1\r\nHost: {parts.netloc}\r\n{range_header}\r\n".encode())
        yield connection
