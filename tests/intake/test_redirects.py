"""Redirects: at most 5, each judged like the first URL, and nothing carried along."""

from __future__ import annotations

import asyncio
from asyncio import StreamWriter
from base64 import b64encode

import pytest

from open_workshop_storage.core.errors import BlockedUrl, DownloadFailed, OriginRefused
from tests.support.origins import Request, always, fetched, fetcher, reply, running_origin

pytestmark = pytest.mark.anyio

BASIC = "Basic " + b64encode("us:ér:pass word".encode()).decode()
USERINFO = "us%3A%C3%A9r:pass%20word"


async def countdown(request: Request, writer: StreamWriter) -> bytes:
    """Redirect as often as the path says."""
    left = int(request.target.strip("/"))
    return reply(302, f"Location: /{left - 1}") if left else reply(200, body=b"file")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_followed(status: int) -> None:
    async with running_origin(reply(200, body=b"file")) as target:
        async with running_origin(reply(status, f"Location: {target.url}/there.zip")) as origin:
            async with fetcher().open(f"{origin.url}/here") as response:
                assert response.filename == "there.zip"
                assert [chunk async for chunk in response.chunks] == [b"file"]


async def test_five_are_followed_and_no_sixth() -> None:
    async with running_origin(countdown) as origin:
        assert await fetched(fetcher(), f"{origin.url}/5") == b"file"
        origin.requests.clear()
        with pytest.raises(DownloadFailed):
            await fetched(fetcher(), f"{origin.url}/6")
    assert [request.target for request in origin.requests] == ["/6", "/5", "/4", "/3", "/2", "/1"]


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.2",
        "127.2",
        "0x7f000002",
        "2130706434",
        "0177.0.0.2",
        "[::ffff:127.0.0.2]",
        "[::1]",
        "10.0.0.1",
        "a:b@127.0.0.2",
    ],
)
async def test_no_redirect_reaches_a_blocked_address(host: str) -> None:
    async with running_origin(reply(200), host="127.0.0.2") as blocked:
        async with running_origin(reply(302, f"Location: http://{host}:{blocked.port}/")) as origin:
            with pytest.raises(BlockedUrl):
                await fetched(fetcher(allowed="127.0.0.1/32"), origin.url)
        assert not blocked.left


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://127.0.0.1/", "javascript:alert(1)", "data:,x"])
async def test_no_redirect_leads_to_another_scheme(location: str) -> None:
    async with running_origin(reply(302, f"Location: {location}")) as origin:
        with pytest.raises(BlockedUrl):
            await fetched(fetcher(), origin.url)


@pytest.mark.parametrize(
    "location",
    [
        *("http://", "http://:80/", "http://[::1/", "http://127.0.0.1:99999/", "//a:b/"),
        pytest.param("http://xn--a-.test/", id="to a name that IDNA does not know"),
        pytest.param("/", id="in a loop"),
    ],
)
async def test_a_redirect_to_nowhere_fails(location: str) -> None:
    async with running_origin(reply(302, f"Location: {location}")) as origin:
        with pytest.raises(DownloadFailed):
            await fetched(fetcher(), origin.url)


async def test_the_body_of_a_redirect_is_left_unread() -> None:
    async def endless(request: Request, writer: StreamWriter) -> bytes:
        if request.target == "/end":
            return reply(200, body=b"file")
        writer.write(b"HTTP/1.1 302 Found\r\nLocation: /end\r\n\r\n")
        while True:
            writer.write(bytes(65536))
            await writer.drain()

    async with running_origin(endless) as origin:
        assert await fetched(fetcher(), f"{origin.url}/") == b"file"
        await origin.left[0].wait()


async def test_a_redirect_without_a_location_is_a_refusal() -> None:
    async with running_origin(reply(302)) as origin:
        with pytest.raises(OriginRefused) as refusal:
            await fetched(fetcher(), origin.url)
    assert refusal.value.reason == "status:302"


async def test_locations_may_be_relative_and_hold_blanks_and_letters_of_any_script() -> None:
    async def answer(request: Request, writer: StreamWriter) -> bytes:
        if request.target == "/a/b":
            return reply(302, "Location: ../мод 1.zip?x#y")
        return reply(200)

    async with running_origin(answer) as origin:
        async with fetcher().open(f"{origin.url}/a/b") as response:
            assert response.filename == "мод 1.zip"
    assert origin.requests[1].target == "/%D0%BC%D0%BE%D0%B4%201.zip?x"


async def test_credentials_go_to_their_own_origin_only() -> None:
    async with running_origin(reply(200), host="127.0.0.2") as other:

        async def answer(request: Request, writer: StreamWriter) -> bytes:
            steps = {"/": "/relative", "/relative": f"{origin.url}/absolute", "/absolute": f"{other.url}/"}
            return reply(302, f"Location: {steps[request.target]}")

        async with running_origin(answer) as origin:
            await fetched(fetcher(), f"http://{USERINFO}@127.0.0.1:{origin.port}/")
    assert [request.headers["authorization"] for request in origin.requests] == [BASIC] * 3
    assert "authorization" not in other.requests[0].headers


async def test_another_port_is_another_origin() -> None:
    async with running_origin(reply(200)) as other, running_origin(reply(302, f"Location: {other.url}/")) as origin:
        await fetched(fetcher(), f"http://{USERINFO}@127.0.0.1:{origin.port}/")
    assert "authorization" in origin.requests[0].headers
    assert "authorization" not in other.requests[0].headers


async def test_neither_cookies_nor_a_referer_are_carried_along() -> None:
    async def answer(request: Request, writer: StreamWriter) -> bytes:
        return reply(302, "Set-Cookie: a=b; Path=/", "Location: /end") if request.target == "/" else reply(200)

    async with running_origin(answer) as origin:
        await fetched(fetcher(), f"{origin.url}/")
    assert not {"cookie", "referer"} & set(origin.requests[1].headers)


async def test_https_may_lead_to_http_without_the_credentials() -> None:
    async with running_origin(reply(200, body=b"file")) as plain:
        async with running_origin(reply(302, f"Location: {plain.url}/"), tls=True) as origin:
            using = fetcher(resolve=always("127.0.0.1"))
            assert await fetched(using, f"https://{USERINFO}@origin.test:{origin.port}/") == b"file"
    assert "authorization" in origin.requests[0].headers
    assert "authorization" not in plain.requests[0].headers


async def test_each_request_may_take_the_idle_time() -> None:
    async def slow(request: Request, writer: StreamWriter) -> bytes:
        await asyncio.sleep(0.3)
        return await countdown(request, writer)

    async with running_origin(slow) as origin:
        assert await fetched(fetcher(idle_seconds=0.8), f"{origin.url}/3") == b"file"
