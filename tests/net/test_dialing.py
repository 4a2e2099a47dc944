"""Which addresses may be dialled, and dialling them."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from ipaddress import ip_address, ip_network

import pytest

from open_workshop_storage.core.errors import BlockedUrl, DownloadFailed, DownloadTimedOut
from open_workshop_storage.utils.net.dialing import is_reachable, resolve_host
from tests.support.origins import always, fetched, fetcher, reply, running_origin
from tests.support.servers import free_port

PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "168.63.129.15",
    "168.63.129.17",
    "100.63.255.255",
    "100.128.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "192.0.1.0",
    "198.17.255.255",
    "198.20.0.0",
    "223.255.255.255",
    "2001:200::1",
    "2606:4700:4700::1111",
    "2a00:1450:4001:80b::200e",
    "::ffff:8.8.8.8",
    "::8.8.8.8",
    "64:ff9b::8.8.8.8",
    "2002:808:808::1",
    # Teredo: server 8.8.8.8, client 1.1.1.1 with all bits flipped.
    "2001:0:808:808:0:0:fefe:fefe",
]

NOT_PUBLIC = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "100.100.100.200",
    "100.127.255.255",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.0.170",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "100::1",
    "2001:2::1",
    "2001:10::1",
    "2001:20::1",
    "2001:db8::1",
    "3fff::1",
    "4000::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fd12:3456::1",
    "fe80::1",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
]

NOT_PUBLIC_INSIDE = [
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "::127.0.0.1",
    "::10.0.0.1",
    "64:ff9b::127.0.0.1",
    "64:ff9b::10.0.0.1",
    "64:ff9b:1::8.8.8.8",
    "64:ff9b:1::10.0.0.1",
    "::ffff:0:127.0.0.1",
    "2002:7f00:1::1",
    "2002:a00:1::1",
    "2002:a9fe:a9fe::1",
    # Teredo: a private client, then a private server.
    "2001:0:808:808:0:0:f5ff:fffe",
    "2001:0:a00:1:0:0:fefe:fefe",
]
pytestmark = pytest.mark.anyio
LOOPBACK_SPELLINGS = [
    "127.0.0.1",
    "127.1",
    "0x7f000001",
    "0x7f.1",
    "2130706433",
    "017700000001",
    "0177.0.0.1",
    "localhost",
    "LOCALHOST",
]
OTHER_SPELLINGS = [
    "0",
    "127.000.000.001",
    "127。0。0。1",
    "[::]",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[0:0:0:0:0:0:127.0.0.1]",
    "[64:ff9b::127.0.0.1]",
    "[2002:7f00:1::]",
    "8.8.8.8@127.0.0.1",
    "8.8.8.8:80@127.0.0.1",
]


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_reachable(address: str) -> None:
    assert is_reachable(ip_address(address), [])


@pytest.mark.parametrize("address", NOT_PUBLIC + NOT_PUBLIC_INSIDE)
def test_other_addresses_are_not(address: str) -> None:
    assert not is_reachable(ip_address(address), [])


@pytest.mark.parametrize("address", ["fe80::1%eth0", "2606:4700:4700::1111%1"])
def test_a_scope_id_is_never_reachable(address: str) -> None:
    assert not is_reachable(ip_address(address), [ip_network("::/0")])


@pytest.mark.parametrize(
    ("network", "address"),
    [
        ("10.0.0.0/8", "10.1.2.3"),
        ("10.0.0.0/8", "::ffff:10.1.2.3"),
        ("10.0.0.0/8", "64:ff9b::10.1.2.3"),
        ("10.0.0.0/8", "2002:a01:203::1"),
        ("127.0.0.1/32", "127.0.0.1"),
        ("::1/128", "::1"),
        ("fd00::/8", "fd00::7"),
        ("64:ff9b:1::/48", "64:ff9b:1::8.8.8.8"),
    ],
)
def test_an_allowed_network_opens_its_addresses(network: str, address: str) -> None:
    assert is_reachable(ip_address(address), [ip_network("192.168.0.0/16"), ip_network(network)])


@pytest.mark.parametrize(
    ("network", "address"),
    [
        ("10.0.0.0/9", "10.128.0.1"),
        ("::/0", "::ffff:127.0.0.1"),
        ("::/0", "64:ff9b::10.0.0.1"),
        ("::ffff:0:0/96", "::ffff:10.0.0.1"),
        ("2002::/16", "2002:a00:1::1"),
        ("0.0.0.0/0", "::1"),
        # Teredo: only one end is allowed.
        ("10.0.0.0/8", "2001:0:a00:1:0:0:3f57:fefe"),
    ],
)
def test_an_allowed_network_opens_no_others(network: str, address: str) -> None:
    assert not is_reachable(ip_address(address), [ip_network(network)])


@pytest.fixture
def clogged_address() -> Iterator[tuple[str, int]]:
    """An address that takes no more connections and refuses none."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.2", 0))
        listener.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for connection in waiting:
            connection.setblocking(False)
            connection.connect_ex(listener.getsockname())
        yield listener.getsockname()
        for connection in waiting:
            connection.close()


@pytest.mark.parametrize("host", [*LOOPBACK_SPELLINGS, *OTHER_SPELLINGS])
async def test_no_spelling_of_a_private_address_gets_through(host: str) -> None:
    async with running_origin(reply(200)) as origin:
        with pytest.raises(BlockedUrl):
            await fetched(fetcher(allowed=""), f"http://{host}:{origin.port}/")
        assert not origin.left


@pytest.mark.parametrize("host", LOOPBACK_SPELLINGS)
async def test_any_spelling_of_an_allowed_address_does(host: str) -> None:
    async with running_origin(reply(200, body=b"file")) as origin:
        assert await fetched(fetcher(), f"http://{host}:{origin.port}/") == b"file"


@pytest.mark.parametrize("other", ["10.0.0.1", "169.254.169.254", "::ffff:10.0.0.1", "fe80::1%2"])
@pytest.mark.parametrize("first", [True, False])
async def test_a_name_is_refused_if_one_of_its_addresses_is(other: str, first: bool) -> None:
    addresses = [other, "127.0.0.1"] if first else ["127.0.0.1", other]
    async with running_origin(reply(200)) as origin:
        with pytest.raises(BlockedUrl):
            await fetched(fetcher(resolve=always(*addresses)), f"http://mixed.test:{origin.port}/")
        assert not origin.left


async def test_a_name_is_looked_up_once_and_that_address_is_dialled() -> None:
    answers = iter([["127.0.0.1"], ["169.254.169.254"]])

    async def rebinding(host: str) -> Sequence[str]:
        return next(answers)

    async with running_origin(reply(200, body=b"file")) as origin:
        using = fetcher(resolve=rebinding)
        assert await fetched(using, f"http://rebinding.test:{origin.port}/") == b"file"
        with pytest.raises(BlockedUrl):
            await fetched(using, f"http://rebinding.test:{origin.port}/")


async def test_the_next_address_is_dialled_when_one_refuses() -> None:
    async with running_origin(reply(200, body=b"file")) as origin:
        using = fetcher(resolve=always("127.0.0.3", "127.0.0.1"))
        assert await fetched(using, f"http://two.test:{origin.port}/") == b"file"


async def test_the_next_address_is_dialled_when_one_is_silent(clogged_address: tuple[str, int]) -> None:
    host, port = clogged_address
    async with running_origin(reply(200, body=b"file"), port=port) as origin:
        using = fetcher(resolve=always(host, "127.0.0.1"), idle_seconds=1)
        assert await fetched(using, f"http://two.test:{origin.port}/") == b"file"


async def test_a_silent_address_times_out(clogged_address: tuple[str, int]) -> None:
    host, port = clogged_address
    with pytest.raises(DownloadTimedOut):
        await fetched(fetcher(idle_seconds=0.3), f"http://{host}:{port}/")


async def test_an_address_that_refuses_fails() -> None:
    with pytest.raises(DownloadFailed):
        await fetched(fetcher(), f"http://127.0.0.1:{free_port()}/")


@pytest.mark.parametrize("host", ["a" * 64 + ".test", "a..test", "xn--a-.test"])
async def test_a_name_that_does_not_resolve_fails(host: str) -> None:
    with pytest.raises(DownloadFailed):
        await fetched(fetcher(), f"http://{host}/")


async def test_the_system_resolver_keeps_the_scope_id_for_the_judge() -> None:
    assert await resolve_host("fe80::1%1") == ["fe80::1%1"]
