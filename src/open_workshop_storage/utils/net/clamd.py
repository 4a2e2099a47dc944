"""The protocol of ClamAV's daemon, one connection for each command (clamd(8), "COMMANDS").

A file is handed over a Unix socket as an open descriptor: nothing is copied, and the daemon needs no right to its path.
Over TCP its bytes are sent.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address
from typing import IO, NamedTuple

from open_workshop_storage.utils.net.dialing import dial, resolve_host
from open_workshop_storage.utils.processes.threads import run_to_end

MOST_BYTES = 2**31 - 2
"""The daemon looks at no larger file, whatever its settings (clamd.conf(5), `MaxFileSize`)."""
PIECE_BYTES = 1024 * 1024

_MOST_ANSWER_BYTES = 4096
_MOST_PATH_BYTES = 107
_BUSY_SECONDS = 0.05
_CONNECT_SECONDS = 10.0
_ADDRESS = re.compile(
    r"unix:(?P<path>/.+)|tcp:(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)]|(?P<host>[A-Za-z0-9._-]+)):(?P<port>[0-9]{1,5})"
)
_ANSWER = re.compile(r"(?:fd\[\d+]|stream): (?:OK|(?P<name>[^\0-\x1f\x7f]+) FOUND)")
_OVER_LIMIT = "Heuristics.Limits.Exceeded"
_STREAM_OVER_LIMIT = "INSTREAM size limit exceeded. ERROR"


class ClamdAddress(NamedTuple):
    """Where the daemon listens: the path of a Unix socket, or else a host and a port."""

    path: str
    host: str
    port: int

    @property
    def is_local(self) -> bool:
        """Whether it is a Unix socket."""
        return bool(self.path)


def parse_address(text: str) -> ClamdAddress:
    """Read an address such as `unix:/run/clamav/clamd.ctl`, `tcp:127.0.0.1:3310` or `tcp:[::1]:3310`.

    Raises:
        ValueError: The text is no such address.
    """
    match = _ADDRESS.fullmatch(text)
    if match is None:
        raise ValueError("no address of clamd")
    path, port = match["path"] or "", int(match["port"] or 0)
    if len(os.fsencode(path)) > _MOST_PATH_BYTES or (not path and not 0 < port < 65536):
        raise ValueError("no address of clamd")
    return ClamdAddress(path, match["ipv6"] or match["host"] or "", port)


class Cause(StrEnum):
    """Why a file was not judged."""

    AWAY = "away"
    """The daemon cannot be reached."""
    CUT = "cut"
    """The daemon broke off before its answer was complete."""
    TIMEOUT = "timeout"
    LIMIT = "limit"
    """The file, or something in it, is over a limit of the daemon's."""
    FAILURE = "failure"
    """The daemon could not judge the file, or its answer has no known form."""


@dataclass(frozen=True)
class Clean:
    """Nothing was found."""


@dataclass(frozen=True)
class Malware:
    """Something was found; `name` is the signature's."""

    name: str


@dataclass(frozen=True)
class NotJudged:
    """The file may be anything."""

    cause: Cause
    detail: str


Verdict = Clean | Malware | NotJudged


async def scan(address: ClamdAddress, file: IO[bytes], seconds: float) -> Verdict:
    """Have a file judged.

    Args:
        file: Open for reading; nothing else may move its position during the call.
        seconds: How long the call may take in all.
    """
    if os.fstat(file.fileno()).st_size > MOST_BYTES:
        return NotJudged(Cause.LIMIT, f"more than {MOST_BYTES} bytes")
    is_connected = False
    try:
        async with asyncio.timeout(seconds), _connected(address) as connection:
            is_connected = True
            # What the daemon said before it broke off can still be read.
            with suppress(ConnectionError):
                await _hand_over(connection, file, address.is_local)
            return _verdict_in(await _answer(connection))
    except TimeoutError:
        # A Unix socket that does not answer is there: the daemon is too busy, or hangs.
        is_there = is_connected or address.is_local
        return NotJudged(Cause.TIMEOUT if is_there else Cause.AWAY, "no answer in time")
    except OSError as error:
        return NotJudged(Cause.CUT if is_connected else Cause.AWAY, str(error))


async def ask(address: ClamdAddress, command: str, seconds: float) -> str:
    """Return the answer to a command without arguments, such as `VERSION`.

    Raises:
        OSError: The daemon cannot be reached, does not answer in time, or breaks off.
    """
    async with asyncio.timeout(seconds), _connected(address) as connection:
        await asyncio.get_running_loop().sock_sendall(connection, f"z{command}\0".encode())
        return await _answer(connection)


@asynccontextmanager
async def _connected(address: ClamdAddress) -> AsyncIterator[socket.socket]:
    if address.is_local:
        connection = await _connect_here(address.path)
    else:
        async with asyncio.timeout(_CONNECT_SECONDS):
            addresses = [ip_address(text) for text in await resolve_host(address.host)]
        connection = await dial(addresses, address.port, _CONNECT_SECONDS)
    with connection:
        yield connection


async def _connect_here(path: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.setblocking(False)
        while True:
            try:
                connection.connect(path)
                return connection
            except BlockingIOError:
                # The daemon's backlog is full, and no event tells when that ends (unix(7), EAGAIN).
                await asyncio.sleep(_BUSY_SECONDS)
    except BaseException:
        connection.close()
        raise


async def _hand_over(connection: socket.socket, file: IO[bytes], is_local: bool) -> None:
    if is_local:
        # The second buffer is the byte that has to come with the descriptor.
        socket.send_fds(connection, [b"zFILDES\0", b"\0"], [file.fileno()])
        return
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(connection, b"zINSTREAM\0")
    offset, piece = 0, b"first"
    while piece:
        piece = await run_to_end(os.pread, file.fileno(), PIECE_BYTES, offset)
        offset += len(piece)
        await loop.sock_sendall(connection, struct.pack("!I", len(piece)) + piece)


async def _answer(connection: socket.socket) -> str:
    """Return the daemon's answer without the NUL at its end.

    Raises:
        ConnectionError: The daemon broke off.
    """
    answer = b""
    while not answer.endswith(b"\0") and len(answer) <= _MOST_ANSWER_BYTES:
        block = await asyncio.get_running_loop().sock_recv(connection, _MOST_ANSWER_BYTES)
        if not block:
            raise ConnectionResetError("no complete answer")
        answer += block
    return answer.removesuffix(b"\0").decode(errors="replace")


def _verdict_in(answer: str) -> Verdict:
    match = _ANSWER.fullmatch(answer)
    if match is None:
        return NotJudged(Cause.LIMIT if answer == _STREAM_OVER_LIMIT else Cause.FAILURE, answer)
    name = match["name"]
    if name is None:
        return Clean()
    return NotJudged(Cause.LIMIT, name) if name.startswith(_OVER_LIMIT) else Malware(name)
