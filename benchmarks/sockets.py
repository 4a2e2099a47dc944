"""Many WebSocket clients in one thread, which cost next to nothing themselves."""

from __future__ import annotations

import json
import select
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

_CONNECT_SECONDS = 10
_READ_BYTES = 65536
_HANDSHAKE = (
    "GET {target} HTTP/1.1\r\nHost: storage\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


@dataclass
class Received:
    """What one socket has received: when, by `time.perf_counter`, and the bytes."""

    connection: socket.socket
    parts: list[tuple[float, bytes]] = field(default_factory=list)

    def messages(self) -> list[tuple[float, dict[str, Any]]]:
        """Return all JSON messages so far, each with the time when its last byte came."""
        found, data = [], b""
        for moment, part in self.parts:
            data += part
            while (frame := _first_frame(data)) is not None:
                (code, payload), data = frame
                if code == 1:
                    found.append((moment, json.loads(payload)))
        return found


class Sockets:
    """Open progress sockets."""

    def __init__(self, received: Sequence[Received]) -> None:
        self.received = received
        self._by_descriptor = {one.connection.fileno(): one for one in received}
        self._poll = select.epoll()
        for descriptor in self._by_descriptor:
            self._poll.register(descriptor, select.EPOLLIN)

    def read_until(self, moment: float) -> None:
        """Take in what comes until a time of `time.perf_counter`."""
        while (left := moment - time.perf_counter()) > 0:
            for descriptor, _ in self._poll.poll(left):
                one = self._by_descriptor[descriptor]
                part = one.connection.recv(_READ_BYTES)
                one.parts.append((time.perf_counter(), part))
                if not part:
                    self._poll.unregister(descriptor)


@contextmanager
def open_sockets(urls: Sequence[str]) -> Iterator[Sockets]:
    """Hold one WebSocket for each `http:` URL.

    Raises:
        RuntimeError: The server refused one.
    """
    with ExitStack() as stack:
        received = []
        for url in urls:
            parts = urlsplit(url)
            address = parts.hostname, parts.port
            connection = stack.enter_context(socket.create_connection(address, timeout=_CONNECT_SECONDS))
            connection.sendall(_HANDSHAKE.format(target=f"{parts.path}?{parts.query}").encode())
            head = b""
            while b"\r\n\r\n" not in head:
                head += connection.recv(_READ_BYTES)
            head, _, rest = head.partition(b"\r\n\r\n")
            if b" 101 " not in head.partition(b"\r\n")[0]:
                raise RuntimeError(head.decode())
            received.append(Received(connection, [(time.perf_counter(), rest)]))
        yield Sockets(received)


def _first_frame(data: bytes) -> tuple[tuple[int, bytes], bytes] | None:
    """Return the first frame's opcode and payload, and the rest; a server's frames are not masked (RFC 6455, 5.2)."""
    start, size = (4, int.from_bytes(data[2:4])) if data[1:2] == b"\x7e" else (2, data[1] if len(data) > 1 else 0)
    if len(data) < start + size or len(data) < 2:
        return None
    return (data[0] & 15, data[start : start + size]), data[start + size :]
