"""What the access service says, and what is made of it."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from types import FunctionType, ModuleType

import httpx
import pytest

from open_workshop_storage.core.errors import (
    AccessDenied,
    AccessServiceConfused,
    AccessServiceRefused,
    AccessServiceUnavailable,
    StorageError,
)
from open_workshop_storage.services.downloads.access import AccessService, passed_cookies
from open_workshop_storage.utils.net.http_connections import Connections

pytestmark = pytest.mark.anyio

ALLOWED = {"download": {"value": True, "reason": "", "reason_code": ""}}


class Service:
    """A server on a socket of its own that answers each request with the next of its answers."""

    def __init__(self) -> None:
        self.answers: list[bytes | None] = []
        self.requests: list[str] = []
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer requests; `None` means never, and empty bytes close the connection."""
        self.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                length = int(head.lower().partition("content-length: ")[2].partition("\r\n")[0])
                self.requests.append(head + (await reader.readexactly(length)).decode())
                answer = self.answers.pop(0)
                if answer is None:
                    await reader.read()
                if not answer:
                    return
                writer.write(answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()


def answer(status: str, body: object, *headers: str) -> bytes:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(content)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + content


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    yield Service()


@pytest.fixture
async def url(service: Service) -> AsyncIterator[str]:
    server = await asyncio.start_server(service.serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/base"


@pytest.fixture
async def connections(url: str) -> AsyncIterator[Connections]:
    """Connections that end before the service, which waits for them since Python 3.12."""
    async with aclosing(Connections(2, most_waiting=3)) as connections:
        yield connections


@pytest.fixture
def access(url: str, connections: Connections) -> AccessService:
    return AccessService(connections, url, 60)


@pytest.fixture
def remembering_access(url: str, connections: Connections) -> AccessService:
    return AccessService(connections, url, 60, ttl_seconds=3600)


async def refusal(access: AccessService) -> tuple[type[StorageError], int, str]:
    """Return the error that a check ends in, with its status and its message."""
    with pytest.raises(StorageError) as raised:
        await access.check("1", {})
    return type(raised.value), raised.value.status, raised.value.message


async def test_the_question_names_the_mod_and_carries_nothing_of_the_client_but_two_raw_cookies(
    service: Service, access: AccessService
) -> None:
    service.answers = [answer("200 OK", ALLOWED)]
    await access.check("007", {"accessToken": '"a b\\054=é"', "refreshToken": "r", "session": "secret"})
    (request,) = service.requests
    head, _, body = request.partition("\r\n\r\n")
    assert head.startswith("POST /base/mod/007 HTTP/1.1\r\n")
    assert '\r\nCookie: accessToken="a b\\054=é"; refreshToken=r\r\n' in request
    assert "Content-Type: application/json" in head and "session" not in head
    assert body == "{}"


async def test_cookies_of_one_client_or_of_the_service_never_reach_the_next(
    service: Service, access: AccessService
) -> None:
    service.answers = [answer("200 OK", ALLOWED, "Set-Cookie: accessToken=new; Path=/"), answer("200 OK", ALLOWED)]
    await access.check("1", {"accessToken": "old"})
    await access.check("1", {})
    assert "cookie" not in service.requests[1].lower()
    assert service.connections == 1


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"download": {"value": False, "reason": "Buy it first", "reason_code": "x"}}, "Buy it first"),
        ({"download": {"value": False, "reason": ""}}, "Access denied"),
        ({"download": {"value": False, "reason": None}}, "Access denied"),
        ({"download": {"value": False}}, "Access denied"),
        ({"download": {"value": False, "reason": " two\r\nlines\0 "}}, "two lines"),
    ],
    ids=str,
)
async def test_a_no_is_passed_on_with_its_reason(
    body: object, reason: str, service: Service, access: AccessService
) -> None:
    service.answers = [answer("200 OK", body)]
    assert await refusal(access) == (AccessDenied, 403, reason)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"detail": "Mod not found"}, "Mod not found"),
        ({"message": "a", "title": "b"}, "a"),
        ({"detail": "", "reason": "c"}, "c"),
        ({"detail": [{"msg": "x"}], "title": "d"}, "d"),
        ({"error": "x"}, "Not Found"),
        ([1], "Not Found"),
        ("just text", "just text"),
        (b"plain text\n", "plain text"),
        (b"", "Not Found"),
        (b"<html><h1>nginx</h1></html>", "Not Found"),
        (b"\xff\xfe", "\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}"),
        (b"x" * 5000, "x" * 500),
        (b"[" * 50_000, "[" * 500),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_an_error_is_passed_on_with_its_message_for_people(
    body: object, message: str, service: Service, access: AccessService
) -> None:
    service.answers = [answer("404 Not Found", body)]
    assert await refusal(access) == (AccessServiceRefused, 404, message)


@pytest.mark.parametrize("status", ["401 Unauthorized", "429 Too Many Requests", "500 Oops", "599 Odd"])
async def test_errors_of_any_kind_keep_their_status(status: str, service: Service, access: AccessService) -> None:
    service.answers = [answer(status, {"detail": "Why"})]
    assert await refusal(access) == (AccessServiceRefused, int(status[:3]), "Why")


async def test_an_error_whose_page_is_too_long_to_read_keeps_its_status(
    service: Service, access: AccessService
) -> None:
    service.answers = [answer("500 Oops", b"<html>" + b"x" * 100_000)]
    assert await refusal(access) == (AccessServiceRefused, 500, "Internal Server Error")


@pytest.mark.parametrize(
    "nonsense",
    [
        answer("200 OK", b"yes"),
        answer("200 OK", b""),
        answer("200 OK", b"[" * 50_000),
        answer("200 OK", {"download": True}),
        answer("200 OK", {"download": {"value": 1}}),
        answer("200 OK", {"download": {"value": "true"}}),
        answer("200 OK", {"upload": {"value": True}}),
        answer("200 OK", [ALLOWED]),
        answer("200 OK", {**ALLOWED, "padding": "x" * 70_000}),
        answer("201 Created", ALLOWED),
        b"HTTP/1.1 204 No Content\r\n\r\n",
        answer("302 Found", ALLOWED, "Location: /base/mod/2"),
        answer("999 Strange", ALLOWED),
    ],
    ids=lambda value: repr(value[:60]),
)
async def test_what_is_neither_a_decision_nor_an_error_is_nonsense(
    nonsense: bytes, service: Service, access: AccessService
) -> None:
    service.answers = [nonsense]
    with pytest.raises(AccessServiceConfused):
        await access.check("1", {})
    assert len(service.requests) == 1


@pytest.mark.parametrize(
    "answers",
    [
        [None],
        [answer("200 OK", ALLOWED)[:-5]],
        [b"", b""],
        [b"HTTP/1.1 200 OK\r\n", None],
    ],
    ids=["silent", "stops in its answer", "closes the connection", "stops in its headers"],
)
async def test_a_service_that_breaks_off_or_takes_too_long_is_unavailable(
    answers: list[bytes | None], service: Service, url: str, connections: Connections
) -> None:
    service.answers = answers
    with pytest.raises(AccessServiceUnavailable):
        await AccessService(connections, url, 0.5).check("1", {})


async def test_a_pooled_connection_that_the_service_has_given_up_is_replaced(
    service: Service, access: AccessService
) -> None:
    service.answers = [answer("200 OK", ALLOWED), b"", answer("200 OK", ALLOWED)]
    await access.check("1", {})
    await access.check("1", {})
    assert service.connections == 2


async def test_a_service_that_is_not_there_is_unavailable(connections: Connections) -> None:
    with pytest.raises(AccessServiceUnavailable) as raised:
        await AccessService(connections, "http://127.0.0.1:1", 5).check("1", {})
    assert isinstance(raised.value, StorageError) and raised.value.retry_after


@pytest.mark.parametrize(
    ("header", "cookies"),
    [
        ("", {}),
        ("accessToken=a", {"accessToken": "a"}),
        ('accessToken="a\\"b"; x=y', {"accessToken": '"a\\"b"'}),
        ("a=1;refreshToken = 2=3 ;accessToken", {"refreshToken": "2=3"}),
        ("accessToken=1; accessToken=2;refreshToken=", {"accessToken": "2", "refreshToken": ""}),
        ("xaccessToken=1; accessTokenx=2; =accessToken=3", {}),
    ],
)
def test_cookies_are_read_as_they_stand(header: str, cookies: dict[str, str]) -> None:
    assert passed_cookies(header) == cookies


async def test_equal_questions_at_the_same_time_are_asked_once(service: Service, access: AccessService) -> None:
    service.answers = [answer("200 OK", ALLOWED)] * 3
    cookies = {"accessToken": "a", "theme": "dark"}
    async with asyncio.TaskGroup() as group:
        for theme in "abcdefgh":
            group.create_task(access.check("1", cookies | {"theme": theme}))
        group.create_task(access.check("2", cookies))
        group.create_task(access.check("1", cookies | {"accessToken": "b"}))
    assert len(service.requests) == 3


async def test_a_refusal_is_shared_too_by_those_who_wait_for_it(service: Service, access: AccessService) -> None:
    service.answers = [answer("200 OK", {"download": {"value": False, "reason": "No"}})]
    outcomes = await asyncio.gather(*(access.check("1", {}) for _ in range(5)), return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ["No"] * 5
    assert len(service.requests) == 1


async def test_a_client_that_leaves_while_asking_takes_no_other_along(service: Service, access: AccessService) -> None:
    service.answers = [None, answer("200 OK", ALLOWED)]
    first = asyncio.create_task(access.check("1", {}))
    second = asyncio.create_task(access.check("1", {}))
    async with asyncio.timeout(60):
        while not service.requests:
            await asyncio.sleep(0)
    first.cancel()
    await second
    assert len(service.requests) == 2


async def test_without_a_time_to_live_every_download_is_asked_for(service: Service, access: AccessService) -> None:
    service.answers = [answer("200 OK", ALLOWED)] * 2
    await access.check("1", {})
    await access.check("1", {})
    assert len(service.requests) == 2


async def test_permissions_are_remembered_for_the_same_cookies_and_mod_and_refusals_are_not(
    service: Service, remembering_access: AccessService
) -> None:
    refused = answer("200 OK", {"download": {"value": False, "reason": "No"}})
    service.answers = [refused, answer("503 Away", {}), answer("200 OK", ALLOWED)]
    for expected in (AccessDenied, AccessServiceRefused):
        with pytest.raises(expected):
            await remembering_access.check("1", {"accessToken": "a"})
    for other in "xy":
        await remembering_access.check("1", {"accessToken": "a", "other": other})
    assert len(service.requests) == 3
    service.answers = [refused, refused]
    for mod_id, cookies in (("2", {"accessToken": "a"}), ("1", {"refreshToken": "a"})):
        with pytest.raises(AccessDenied):
            await remembering_access.check(mod_id, cookies)


async def test_a_permission_ends_with_its_time(service: Service, connections: Connections, url: str) -> None:
    access = AccessService(connections, url, 5, ttl_seconds=1e-9)
    service.answers = [answer("200 OK", ALLOWED)] * 2
    await access.check("1", {})
    await access.check("1", {})
    assert len(service.requests) == 2


async def test_checks_over_those_that_may_wait_are_refused_at_once_and_the_others_are_answered(
    service: Service, url: str, connections: Connections
) -> None:
    access = AccessService(connections, url, 60)
    service.answers = [None, None]
    checks = [asyncio.create_task(access.check(str(number), {})) for number in range(5)]
    while len(service.requests) < 2:
        await asyncio.sleep(0)
    with pytest.raises(AccessServiceUnavailable):
        await access.check("one too many", {})
    assert len(service.requests) == service.connections == 2
    service.answers = [answer("200 OK", ALLOWED)] * 3
    for check in checks[:2]:
        check.cancel()
    assert await asyncio.gather(*checks[2:]) == [None] * 3


class AllowsEverything(httpx.AsyncBaseTransport):
    """An access service without a socket, for more questions than those would answer in time."""

    def __init__(self) -> None:
        self.questions = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Allow it."""
        self.questions += 1
        return httpx.Response(200, stream=httpx.ByteStream(json.dumps(ALLOWED).encode()))


class InMemory(Connections):
    """Connections to a service without a socket."""

    def __init__(self, service: AllowsEverything) -> None:
        super().__init__(0, 0)
        self._http = httpx.AsyncClient(transport=service)

    @asynccontextmanager
    async def one(self) -> AsyncIterator[httpx.AsyncClient]:
        """Lend the one client."""
        yield self._http


async def test_so_many_permissions_are_remembered_and_the_oldest_are_forgotten_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("open_workshop_storage.services.downloads.access._MAX_PERMISSIONS", 500)
    service = AllowsEverything()
    access = AccessService(InMemory(service), "http://access", 60, ttl_seconds=3600)
    for number in range(500):
        await access.check(str(number), {})
    for number in range(0, 500, 97):
        await access.check(str(number), {})
    assert service.questions == 500
    await access.check("one more", {})
    await access.check("1", {})
    assert service.questions == 501
    await access.check("0", {})
    assert service.questions == 502


async def test_a_remembered_permission_does_not_hold_the_cookies() -> None:
    cookies = {"accessToken": "secret-of-one", "refreshToken": "secret-of-two"}
    access = AccessService(InMemory(AllowsEverything()), "http://access", 60, ttl_seconds=3600)
    await access.check("7654321", cookies)
    texts = [str(value) for value in reachable(access) if isinstance(value, str | bytes)]
    assert any("7654321" in text for text in texts)
    assert not [text for text in texts if "secret-of" in text]


def reachable(start: object) -> list[object]:
    """Return what an object refers to, directly or not, without the code that it is made of."""
    found, seen = [start], {id(start)}
    for value in found:
        for other in gc.get_referents(value):
            if id(other) not in seen and not isinstance(other, type | ModuleType | FunctionType):
                seen.add(id(other))
                found.append(other)
    return found
