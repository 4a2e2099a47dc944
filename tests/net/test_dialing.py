"""A connection goes to an address that was judged, or nowhere."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence

import pytest

from open_workshop_storage.core.errors import BlockedUrl, DownloadFailed, DownloadTimedOut
from open_workshop_storage.utils.net.dialing import resolve_host
from tests.support.origins import always, fetched, fetcher, reply, running_origin
from tests.support.servers import free_port

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
