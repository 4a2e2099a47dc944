"""What strangers do to connections: others are served all the same, in bounded memory (docs/SECURITY.md, HTTP)."""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.conftest import ServiceStarter
from tests.support.client import PATIENCE_SECONDS, eventually, statuses, watching
from tests.support.processes import connections
from tests.support.servers import Server
from tests.support.services import Services, Ticket, running_services

pytestmark = pytest.mark.anyio

# More than the slow client can read before the kernel gives up on the silent one, which has taken 25 seconds.
LARGE = 150_000_000
CALLS = {"distributor": "/blurhashes", "loader": "/transfer/start"}
SERVICES = [*CALLS]
NO_REQUESTS = [
    b"",
    b"P",
    b"GET / HTTP/1.1\r\nHost: storage\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0",
]

_FORM = "Content-Type: application/x-www-form-urlencoded\r\n"
_CHUNKED = f"{_FORM}Transfer-Encoding: chunked\r\n\r\n"
DOUBTFUL_FRAMINGS = [
    *(
        f"{_FORM}{headers}\r\n\r\ntoken=a"
        for headers in (
            "Content-Length: -1",
            "Content-Length: +7",
            "Content-Length: 0x7",
            "Content-Length: 7, 7",
            "Content-Length: 7\r\nContent-Length: 0",
            "Content-Length: 99999999999999999999",
        )
    ),
    *(
        f"{_FORM}{headers}\r\n\r\n0\r\n\r\n"
        for headers in (
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nContent-Length: 5",
            "Transfer-Encoding: chunked, gzip",
            "Transfer-Encoding: xchunked",
            "Transfer-Encoding : chunked",
            "Transfer-Encoding:\r\n chunked",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        )
    ),
    *(
        f"{_CHUNKED}{body}0\r\n\r\n"
        for body in ("zz\r\nabc\r\n", "-1\r\nabc\r\n", "fffffffffffffffff\r\nabc\r\n", "3\r\nabcXX")
    ),
]
"""What follows the first header of a request, up to what may or may not be another one."""
LARGE_BLOCK = 70_000
UNUSUAL = [
    (b"GET {target}\r\n\r\n", [400]),
    (b"GET {target} HTTP/3.0\r\n\r\n", [400]),
    (b"GET {target} HTTP/1.1\r\nHost: storage\r\n" + b"A: b\r\n" * 10_000 + b"\r\n", [431]),
    (b"GET {target} HTTP/1.1\r\nHost: storage\r\nA: " + bytes(LARGE_BLOCK), [400]),
    (b"GET {target}?" + b"a" * LARGE_BLOCK + b" HTTP/1.1\r\nHost: storage\r\n\r\n", [414]),
    (b"GET {target} HTTP/1.1\r\nHost: storage\r\nA: " + b"a" * 2_000_000, [431]),
    (b"GET {target} HTTP/1.1\r\nHost: storage\r\n\r\n" * 2 + b"\0 junk\r\n\r\n", [200, 200, 400]),
    (b"GET http://elsewhere{target} HTTP/1.0\r\n\r\n", [200]),
    (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + b"a" * 100, [400]),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", []),
]


@contextmanager
def silent_connections(server: Server, count: int, sent: bytes = b"") -> Iterator[list[socket.socket]]:
    """Hold connections that send so much and no more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        held = []
        for _ in range(count):
            address = ("127.0.0.1", server.port)
            held.append(stack.enter_context(socket.create_connection(address, timeout=PATIENCE_SECONDS)))
            held[-1].sendall(sent)
        yield held


def connections_of(server: Server) -> int:
    """Return how many connections of clients the service holds."""
    return sum(connections(pid, server.port) for pid in server.workers())


@pytest.mark.parametrize("app", SERVICES)
async def test_a_connection_without_a_whole_request_is_closed(app: str, start_services: ServiceStarter) -> None:
    services = start_services(apps=[app], environment={"GRANIAN_HTTP1_HEADER_READ_TIMEOUT": "300"})
    health = f"GET /{app}/healthz HTTP/1.1\r\nHost: storage\r\n\r\n".encode()
    for sent in (*NO_REQUESTS, health):
        with silent_connections(services.servers[app], 1, sent) as (connection,):
            received = b"".join(iter(lambda: connection.recv(65536), b""))
        assert received.startswith(b"HTTP/1.1 200") == (sent == health)


@pytest.mark.parametrize("app", SERVICES)
async def test_silent_connections_keep_no_client_out(
    app: str, start_services: ServiceStarter, http: httpx.AsyncClient
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # As shells start them; granian raises it.
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    try:
        # None of them is closed before the test has ended.
        services = start_services(apps=[app], environment={"GRANIAN_HTTP1_HEADER_READ_TIMEOUT": "60000"})
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    with silent_connections(services.servers[app], 1500):
        assert (await http.get(f"{services.servers[app].url}/{app}/readyz")).json() == {"status": "ready"}


async def test_clients_that_stop_reading_are_cut_off_and_slow_ones_are_not(start_services: ServiceStarter) -> None:
    services = start_services(apps=["distributor"], CLIENT_STALL_TIMEOUT_SECONDS=4)
    server = services.servers["distributor"]
    services.stored("resource/large.bin", bytes(LARGE))
    request = b"GET /download/resource/large.bin HTTP/1.1\r\nHost: storage\r\nConnection: close\r\n\r\n"
    with silent_connections(server, 1, request) as (slow,), silent_connections(server, 1, request):
        received = 0
        async with asyncio.timeout(PATIENCE_SECONDS):
            while connections_of(server) == 2:
                received += len(slow.recv(100_000))
                await asyncio.sleep(0.05)
        assert received < LARGE
        while part := slow.recv(1_000_000):
            received += len(part)
    assert received > LARGE


async def assert_told_to_come_again(services: Services, ticket: Ticket) -> None:
    url = f"{services.loader.replace('http', 'ws', 1)}/transfer/ws/{ticket.job_id}?token={ticket.token}"
    async with connect(url) as refused:
        with pytest.raises(ConnectionClosed):
            await refused.recv()
        assert refused.close_code == 1013


@pytest.fixture(scope="module")
def few_sockets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """A loader that takes two sockets, and one of each job."""
    folder = tmp_path_factory.mktemp("few-sockets")
    with running_services(folder, apps=["loader"], TRANSFER_MAX_SOCKETS=2, TRANSFER_MAX_SOCKETS_PER_JOB=1) as services:
        yield services


async def test_sockets_over_the_limit_are_told_to_come_again(few_sockets: Services) -> None:
    first, second = few_sockets.ticket(), few_sockets.ticket()
    for _ in range(2):
        async with (
            watching(few_sockets.loader, first.job_id, first.token),
            watching(few_sockets.loader, second.job_id, second.token),
        ):
            await assert_told_to_come_again(few_sockets, few_sockets.ticket())
        await eventually(lambda: connections_of(few_sockets.servers["loader"]) == 0)


async def test_sockets_of_one_job_over_the_limit_are_told_to_come_again(few_sockets: Services) -> None:
    first, second = few_sockets.ticket(), few_sockets.ticket()
    async with watching(few_sockets.loader, first.job_id, first.token):
        await assert_told_to_come_again(few_sockets, first)
        async with watching(few_sockets.loader, second.job_id, second.token):
            pass


@pytest.mark.parametrize("app", SERVICES)
async def test_a_request_whose_end_is_in_doubt_is_the_last_of_its_connection(app: str, services: Services) -> None:
    for framing in DOUBTFUL_FRAMINGS:
        sent = f"POST {CALLS[app]} HTTP/1.1\r\nHost: x\r\n{framing}GET /{app}/healthz HTTP/1.1\r\n\r\n"
        (status,) = await statuses(services.servers[app].url, sent.encode())
        assert 400 <= status < 500, framing


@pytest.mark.parametrize("app", SERVICES)
async def test_what_is_no_request_for_us_is_refused_and_ends_its_connection(app: str, services: Services) -> None:
    server = services.servers[app]
    workers = server.workers()
    for sent, answers in UNUSUAL:
        target = f"/{app}/healthz".encode()
        assert await statuses(server.url, sent.replace(b"{target}", target)) == answers, sent[:100]
    assert server.workers() == workers


@pytest.mark.parametrize("app", SERVICES)
async def test_queries_that_are_too_large_are_refused_as_others_are(
    app: str, services: Services, http: httpx.AsyncClient
) -> None:
    services.stored("resource/file.bin", b"content")
    for path in (CALLS[app], f"/{app}/healthz"):
        for query in ("a=" + "x" * 8191, "&" * 100):
            refused = await http.get(f"{services.servers[app].url}{path}?{query}")
            assert (refused.status_code, refused.text) == (414, "Query too large")
            assert refused.headers["access-control-allow-origin"] == "*"
    answer = await http.get(f"{services.distributor}/download/resource/file.bin?{'a=b&' * 98}filename=x")
    assert answer.headers["content-disposition"] == 'attachment; filename="x.bin"'


@pytest.mark.parametrize("app", SERVICES)
async def test_headers_that_are_too_large_are_refused_as_others_are(
    app: str, services: Services, http: httpx.AsyncClient
) -> None:
    services.stored("resource/file.bin", b"content")
    for path in (CALLS[app], f"/{app}/healthz", "/download/resource/file.bin"):
        refused = await http.get(services.servers[app].url + path, headers={"Range": f"bytes={'0-,' * 11_000}"})
        assert (refused.status_code, refused.text) == (431, "Request headers too large")
        assert refused.headers["access-control-allow-origin"] == "*"
