"""Connects to a host only at an address that may be dialled, for httpcore."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TypeVar

import anyio
import anyio.to_thread
import httpcore

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network
Resolve = Callable[[str], Awaitable[Sequence[str]]]
"""Turns a host name, or an address in any of its spellings, into the addresses to dial, best first."""

# `ipaddress.is_global` differs between the Python versions that we support.
_SPECIAL_NETWORKS: tuple[IPNetwork, ...] = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",  # this network, the unspecified address
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier-grade NAT
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # Azure's platform, which only its own machines reach
        "169.254.0.0/16",  # link-local, cloud metadata
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays, withdrawn
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarking
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
        "2001::/23",  # protocol assignments, benchmarking, ORCHID
        "2001:db8::/32",  # documentation
        "3fff::/20",  # documentation
    )
)
_IPV6_UNICAST = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")
_HEAD_READ_BYTES = 16 * 1024
_MAX_HEAD_BYTES = 256 * 1024
"""Limit on all before a body: the answer's head, and any number of interim answers (RFC 9110, section 15.2)."""

_MAX_READ_BYTES = 256 * 1024
_NOT_YET = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_T = TypeVar("_T")


def is_reachable(address: IPAddress, allowed_networks: Iterable[IPNetwork]) -> bool:
    """Return whether a URL transfer may connect to an address (docs/API.md, "GET `/transfer/start`").

    It may if the address is globally routable (IANA special-purpose address registries, RFC 6890) or lies in
    an allowed network. IPv4 inside IPv6 is judged as the IPv4 address, since the packets end up there. An address with
    a scope id is never reachable.

    Args:
        address: The address that would be dialled.
        allowed_networks: Networks that may be reached besides public addresses.
    """
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        return False
    allowed = tuple(allowed_networks)
    return all(_is_global(target) or any(target in network for network in allowed) for target in _destinations(address))


def _is_global(address: IPAddress) -> bool:
    if isinstance(address, IPv6Address) and address not in _IPV6_UNICAST:
        return False
    return not any(address in network for network in _SPECIAL_NETWORKS)


def _destinations(address: IPAddress) -> tuple[IPAddress, ...]:
    """Return the addresses at which packets for this one arrive, behind tunnels and translators.

    Operators decide where the IPv4 address stands inside 64:ff9b:1::/48 (RFC 8215), so such an address is judged as
    it is: not public.
    """
    if isinstance(address, IPv4Address):
        return (address,)
    if address.teredo:
        return address.teredo
    embedded = address.ipv4_mapped or address.sixtofour
    if embedded is None and (address in _NAT64 or 1 < int(address) < 1 << 32):
        embedded = IPv4Address(int(address) & 0xFFFFFFFF)
    return (embedded or address,)


class AddressRefused(Exception):
    """A host has an address that may not be dialled."""


async def resolve_host(host: str) -> list[str]:
    """Ask the system's resolver for a host's addresses.

    Raises:
        OSError: The name does not resolve.
    """
    # As bytes, since Python's IDNA codec, which a text goes through, raises errors that are no `OSError`.
    look_up = partial(socket.getaddrinfo, host.encode("ascii"), None, type=socket.SOCK_STREAM)
    found = await anyio.to_thread.run_sync(look_up, abandon_on_cancel=True)
    return list(dict.fromkeys(_address_text(*entry[4]) for entry in found))


def _address_text(address: str | int, port: int | bytes, flow_info: int = 0, scope_id: int = 0) -> str:
    return f"{address}%{scope_id}" if scope_id else str(address)


class JudgedBackend(httpcore.AsyncNetworkBackend):
    """Looks a host up once, judges all its addresses, and dials one of exactly these.

    A second look-up could bring in another address (DNS rebinding). A name that mixes public and other addresses is
    refused as a whole.

    Args:
        allowed_networks: Networks that may be dialled besides public addresses.
    """

    def __init__(self, allowed_networks: Iterable[IPNetwork], resolve: Resolve = resolve_host) -> None:
        self._allowed_networks = tuple(allowed_networks)
        self._resolve = resolve

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first of the host's addresses that answers.

        Args:
            timeout: Seconds, as `dial` takes them.

        Raises:
            AddressRefused: At least one of the addresses may not be dialled. No connection was tried.
            OSError: The name does not resolve, or no address answers.
        """
        addresses = [ip_address(text) for text in await self._resolve(host)]
        if not all(is_reachable(address, self._allowed_networks) for address in addresses):
            raise AddressRefused
        return _Stream(await dial(addresses, port, timeout))


async def dial(addresses: Sequence[IPAddress], port: int, seconds: float | None) -> socket.socket:
    """Return a non-blocking socket that is connected to the first of a host's addresses that answers.

    Args:
        seconds: Divided evenly among the addresses, so that a dead one leaves time for the next; `None` for no limit.

    Raises:
        OSError: No address answers.
    """
    failure = OSError("the name has no addresses")
    for address in addresses:
        try:
            async with asyncio.timeout(seconds and seconds / len(addresses)):
                return await _dial_one(address, port)
        except OSError as error:
            failure = error
    raise failure


async def _dial_one(address: IPAddress, port: int) -> socket.socket:
    connection = socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, (str(address), port))
    except BaseException:
        connection.close()
        raise
    return connection


class _Stream(httpcore.AsyncNetworkStream):
    """A non-blocking socket, plain or TLS: each operation is tried first, and waits only if it would block.

    For a large body this takes a third of the CPU time of asyncio's own transports. Callers set time limits
    themselves: every `timeout` argument is ignored.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._buffer = memoryview(bytearray(_MAX_READ_BYTES))
        # Parsing a head of 256 KiB at once would hold up the loop for half a second.
        self._limit = _HEAD_READ_BYTES
        self._head_bytes_left: int | None = _MAX_HEAD_BYTES
        self._failure: OSError | None = None

    def begin_body(self) -> None:
        """Lift the limit on the answer's head, now that it is complete, and read more at a time."""
        self._head_bytes_left = None

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Return what has arrived, at most 256 KiB whatever `max_bytes` says; nothing at the end.

        Raises:
            OSError: The connection broke, or the limit on the answer's head is passed.
        """
        if self._failure:
            raise self._failure
        size = await self._when_ready(self._fill, anyio.wait_readable)
        # A fast origin would otherwise keep the loop from other tasks.
        await asyncio.sleep(0)
        if self._head_bytes_left is not None:
            self._head_bytes_left -= size
            if self._head_bytes_left < 0:
                raise OSError("more than a head before the body")
        elif size == self._limit:
            self._limit = min(2 * size, _MAX_READ_BYTES)
        return bytes(self._buffer[:size])

    def _fill(self) -> int:
        size = 0
        while size < self._limit:
            try:
                received = self._connection.recv_into(self._buffer[size : self._limit])
            except OSError as error:
                if not size:
                    raise
                if not isinstance(error, _NOT_YET):
                    # A socket reports its failure once, and afterwards only an end of stream.
                    self._failure = error
                break
            if not received:
                break
            size += received
        return size

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send all of the buffer.

        Raises:
            OSError: The connection broke.
        """
        rest = memoryview(buffer)
        while rest:
            rest = rest[await self._when_ready(partial(self._connection.send, rest), anyio.wait_writable) :]

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        """Return this stream, encrypted from now on.

        Raises:
            OSError: The handshake failed, or the certificate is not the host's.
        """
        try:
            connection = ssl_context.wrap_socket(
                self._connection,
                do_handshake_on_connect=False,
                # An attacker can forge an end that TLS did not announce.
                suppress_ragged_eofs=False,
                server_hostname=server_hostname,
            )
            self._connection = connection
            await self._when_ready(connection.do_handshake, anyio.wait_readable)
        except BaseException:
            # httpcore does not close the stream if this wait is cancelled.
            self._connection.close()
            raise
        return self

    async def aclose(self) -> None:
        """Close the socket at once, without a TLS goodbye."""
        self._connection.close()

    async def _when_ready(self, operation: Callable[[], _T], wait: Callable[[socket.socket], Awaitable[None]]) -> _T:
        while True:
            try:
                return operation()
            except BlockingIOError:
                await wait(self._connection)
            except ssl.SSLWantReadError:
                await anyio.wait_readable(self._connection)
            except ssl.SSLWantWriteError:
                await anyio.wait_writable(self._connection)
