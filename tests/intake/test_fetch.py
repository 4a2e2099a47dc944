"""A fetch from its request to its last byte, and all that an origin can do to it."""

from __future__ import annotations

import asyncio
import gzip
import socket
from asyncio import StreamWriter
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open_workshop_storage.core.errors import BadRequest, DownloadFailed, DownloadTimedOut, NotAFile, OriginRefused
from open_workshop_storage.services.intake import fetch
from open_workshop_storage.services.intake.fetch import parse_url
from tests.support.origins import Answer, Request, always, fetched, fetcher, reply, running_origin

pytestmark = pytest.mark.anyio

BODY = bytes(range(256)) * 4096
SHARE_PAGE = b"<!DOCTYPE html>\n<html><head><title>mod.zip - share</title></head><body>Download</body></html>"
CHUNKED = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
NONSENSE = {
    "nothing": b"",
    "half a status line": b"HTTP/1.1 200",
    "another protocol": b"SSH-2.0-OpenSSH_9.9\r\n",
    "negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nfile!",
    "packed transfer": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nfile",
    "a length of many digits": b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\nfile",
    "a chunk size of many digits": f"{CHUNKED}{'F' * 5000}\r\nfile".encode(),
    "huge header": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1_000_000 + b"\r\n\r\n",
    "very many headers": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200_000 + b"\r\n",
    "very many interim answers": b"HTTP/1.1 103 Early Hints\r\n\r\n" * 40_000 + reply(200, body=b"file"),
    "another protocol from here on": b"HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    "short body": reply(200, body=b"file", length=5),
    "long body, cut off": reply(200, body=BODY[:-1], length=len(BODY)),
    "half a chunk": f"{CHUNKED}5\r\nfile".encode(),
    "no last chunk": f"{CHUNKED}4\r\nfile\r\n".encode(),
    "no chunk size": f"{CHUNKED}not-hex\r\nfile\r\n0\r\n\r\n".encode(),
}


def _has_ipv6_loopback() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


async def silence(request: Request, writer: StreamWriter) -> bytes:
    """Answer nothing."""
    await asyncio.Event().wait()
    return b""


async def test_the_file_comes_with_its_size_and_name() -> None:
    async with running_origin(reply(200, 'ETag: "v1"', body=BODY)) as origin:
        async with fetcher().open(f"{origin.url}/mods/my%20mod.zip?key=1/2") as response:
            assert (response.total, response.offset, response.validator) == (len(BODY), 0, '"v1"')
            assert response.filename == "my mod.zip"
            chunks = [chunk async for chunk in response.chunks]
    assert b"".join(chunks) == BODY
    assert max(map(len, chunks)) <= 256 * 1024


async def test_the_request_tells_no_more_than_it_must() -> None:
    async with running_origin(reply(200)) as origin:
        await fetched(fetcher(), f"{origin.url}/a%2Fb/%C3%A9?x=%20&y#part")
    [request] = origin.requests
    assert request.target == "/a%2Fb/%C3%A9?x=%20&y"
    assert dict(request.headers) == {
        "host": f"127.0.0.1:{origin.port}",
        "user-agent": "open-workshop-storage",
        "accept": "*/*",
        "accept-encoding": "identity",
        "connection": "close",
    }


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running_origin(reply(200)) as proxy, running_origin(reply(200, body=b"file")) as origin:
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        assert await fetched(fetcher(), origin.url) == b"file"
    assert not proxy.requests


@pytest.mark.skipif(not _has_ipv6_loopback(), reason="this machine has no IPv6")
async def test_an_ipv6_origin_is_named_with_brackets() -> None:
    async with running_origin(reply(200, body=b"file"), host="[::1]") as origin:
        assert await fetched(fetcher(), origin.url) == b"file"
    assert origin.requests[0].headers["host"] == f"[::1]:{origin.port}"


async def test_a_body_of_unknown_length_ends_with_the_connection() -> None:
    async with running_origin(b"HTTP/1.0 200 OK\r\n\r\n" + BODY) as origin:
        async with fetcher().open(origin.url) as response:
            assert response.total is None
            assert b"".join([chunk async for chunk in response.chunks]) == BODY


async def test_a_chunked_body_is_put_together() -> None:
    async with running_origin(f"{CHUNKED}4;x=y\r\nfile\r\n1\r\n!\r\n0\r\nTrailer: x\r\n\r\n".encode()) as origin:
        assert await fetched(fetcher(), origin.url) == b"file!"


@pytest.mark.parametrize("status", [204, 206, 300, 304, 400, 401, 403, 404, 416, 429, 500, 503])
async def test_any_status_but_success_is_the_reason(status: int) -> None:
    async with running_origin(reply(status)) as origin:
        with pytest.raises(OriginRefused) as refusal:
            await fetched(fetcher(), origin.url)
    assert refusal.value.reason == f"status:{status}"


@pytest.mark.parametrize("answer", NONSENSE.values(), ids=NONSENSE)
async def test_nonsense_and_broken_off_answers_fail(answer: bytes) -> None:
    async with running_origin(answer) as origin:
        with pytest.raises(DownloadFailed):
            await fetched(fetcher(), origin.url)


async def test_a_reset_connection_fails_even_if_the_length_is_unknown() -> None:
    async def reset(request: Request, writer: StreamWriter) -> bytes:
        writer.write(b"HTTP/1.0 200 OK\r\n\r\nfile")
        await writer.drain()
        connection = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        writer.transport.abort()
        return b""

    async with running_origin(reset) as origin:
        with pytest.raises(DownloadFailed):
            await fetched(fetcher(), origin.url)


async def trickled_head(request: Request, writer: StreamWriter) -> bytes:
    """Send a header that does not end, byte by byte."""
    writer.write(b"HTTP/1.1 200 OK\r\nX: ")
    while True:
        writer.write(b"x")
        await asyncio.sleep(0.02)


async def interim_answers(request: Request, writer: StreamWriter) -> bytes:
    """Send 103 Early Hints for ever."""
    while True:
        writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        await asyncio.sleep(0.02)


async def stopped_body(request: Request, writer: StreamWriter) -> bytes:
    """Send half of the body."""
    writer.write(reply(200, body=b"file", length=8))
    return await silence(request, writer)


async def trickled_chunk_size(request: Request, writer: StreamWriter) -> bytes:
    """Send a chunk that never comes to its data."""
    writer.write(f"{CHUNKED}4\r\nfile\r\n4;x=".encode())
    while True:
        writer.write(b"x")
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("answer", [silence, trickled_head, interim_answers, stopped_body, trickled_chunk_size])
async def test_an_origin_without_a_byte_of_the_file_times_out(answer: Answer) -> None:
    async with running_origin(answer) as origin:
        with pytest.raises(DownloadTimedOut):
            await fetched(fetcher(idle_seconds=0.3), origin.url)
        await origin.left[0].wait()


async def test_a_slow_origin_is_waited_for() -> None:
    async def slow(request: Request, writer: StreamWriter) -> bytes:
        writer.write(reply(200, length=5))
        for byte in b"file":
            await asyncio.sleep(0.2)
            writer.write(bytes([byte]))
        return b"!"

    async with running_origin(slow) as origin:
        assert await fetched(fetcher(idle_seconds=0.6), origin.url) == b"file!"


async def test_no_time_limit_means_none() -> None:
    async with running_origin(reply(200, body=b"file")) as origin:
        assert await fetched(fetcher(idle_seconds=0), origin.url) == b"file"


async def test_gzip_that_was_not_asked_for_is_unpacked() -> None:
    packed = gzip.compress(BODY) + gzip.compress(b"second member")
    async with running_origin(reply(200, 'ETag: "v1"', "Content-Encoding: x-gzip", body=packed)) as origin:
        async with fetcher().open(origin.url) as response:
            assert (response.total, response.validator) == (None, None)
            assert b"".join([chunk async for chunk in response.chunks]) == BODY + b"second member"


async def test_a_gzip_bomb_comes_in_small_pieces() -> None:
    bomb = gzip.compress(bytes(16 << 20))
    async with running_origin(reply(200, "Content-Encoding: gzip", body=bomb)) as origin:
        async with fetcher().open(origin.url) as response:
            sizes = [len(chunk) async for chunk in response.chunks]
    assert sum(sizes) == 16 << 20
    assert max(sizes) <= 256 * 1024


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", gzip.compress(BODY, mtime=0)[:-1]),
        ("gzip", gzip.compress(BODY, mtime=0)[:5]),
        ("br", b"file"),
        ("aws-chunked, deflate", b"file"),
        ("gzip, gzip, gzip", gzip.compress(b"file", mtime=0)),
    ],
)
async def test_other_codings_and_broken_gzip_fail(coding: str, body: bytes) -> None:
    async with running_origin(reply(200, f"Content-Encoding: {coding}", body=body)) as origin:
        with pytest.raises(DownloadFailed):
            await fetched(fetcher(), origin.url)


@pytest.mark.parametrize(
    "coding",
    [
        "none",
        "binary",
        "utf-8",
        "UTF-8, none",
        "aws-chunked",
        "application/zip",
        "identity",
        "",
        "gzip",
        "x-gzip",
        "zstd",
    ],
)
async def test_codings_that_mean_nothing_leave_the_bytes_as_they_are(coding: str) -> None:
    async with running_origin(reply(200, f"Content-Encoding: {coding}", body=BODY)) as origin:
        assert await fetched(fetcher(), origin.url) == BODY


async def test_gzip_beside_a_coding_that_means_nothing_is_undone() -> None:
    async with running_origin(reply(200, "Content-Encoding: aws-chunked,gzip", body=gzip.compress(BODY))) as origin:
        assert await fetched(fetcher(), origin.url) == BODY


@pytest.mark.parametrize(
    "answer",
    [reply(203, body=BODY), reply(206, f"Content-Range: bytes 0-{len(BODY) - 1}/{len(BODY)}", body=BODY)],
)
async def test_203_and_a_206_that_covers_all_are_successes(answer: bytes) -> None:
    async with running_origin(answer) as origin:
        async with fetcher().open(origin.url) as response:
            assert (response.total, response.offset) == (len(BODY), 0)
            assert b"".join([chunk async for chunk in response.chunks]) == BODY


@pytest.mark.parametrize("part", ["0-3/5", "1-4/5", "0-3/*"])
async def test_a_206_that_does_not_cover_all_is_refused(part: str) -> None:
    async with running_origin(reply(206, f"Content-Range: bytes {part}", body=b"file")) as origin:
        with pytest.raises(OriginRefused) as refusal:
            await fetched(fetcher(), origin.url)
    assert refusal.value.reason == "status:206"


@pytest.mark.parametrize(
    ("media_type", "body"),
    [
        ("text/html; charset=utf-8", SHARE_PAGE),
        ("Text/HTML", b"\xef\xbb\xbf\r\n  <HTML><body>gone"),
        ("text/html", b" " * 100 + b"<!-- taken down -->"),
        ("application/xhtml+xml", b'<?xml version="1.0"?><html/>'),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
async def test_a_page_instead_of_the_file_is_no_file(media_type: str, body: bytes, packed: bool) -> None:
    headers = [f"Content-Type: {media_type}", *(["Content-Encoding: gzip"] if packed else [])]
    async with running_origin(reply(200, *headers, body=gzip.compress(body) if packed else body)) as origin:
        with pytest.raises(NotAFile, match="^The link leads to a web page$"):
            await fetched(fetcher(), f"{origin.url}/mod.zip")


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (["Content-Type: text/html"], BODY),
        (["Content-Type: text/html"], b"PK\x03\x04<html>"),
        (["Content-Type: text/html"], b""),
        (["Content-Type: text/html"], b"   "),
        (["Content-Type: text/plain"], SHARE_PAGE),
        (["Content-Type: text/html", "Content-Disposition: attachment; filename=manual.html"], SHARE_PAGE),
    ],
)
async def test_what_is_no_page_or_has_a_name_to_be_saved_under_is_a_file(headers: list[str], body: bytes) -> None:
    async with running_origin(reply(200, *headers, body=body)) as origin:
        assert await fetched(fetcher(), origin.url) == body


@pytest.mark.parametrize("status", [429, 503])
async def test_an_origin_that_says_when_to_come_again_is_asked_again(
    status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "_LEAST_WAIT_SECONDS", 0.01)
    answers = [reply(status, "Retry-After: 0"), reply(302, "Location: /signed"), reply(status, "Retry-After: 0")]

    async def busy(request: Request, writer: StreamWriter) -> bytes:
        return answers.pop(0) if answers else reply(200, body=b"file")

    async with running_origin(busy) as origin:
        assert await fetched(fetcher(), f"{origin.url}/file") == b"file"
        assert [request.target for request in origin.requests] == ["/file", "/file", "/signed", "/file"]


async def test_an_origin_is_asked_again_a_few_times_and_not_too_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "_LEAST_WAIT_SECONDS", 0.01)
    for value, requests in (("0", 6), ("3600", 1), ("9" * 400, 1), ("Fri, 31 Dec 9999 23:59:59 GMT", 1)):
        async with running_origin(reply(503, f"Retry-After: {value}")) as origin:
            with pytest.raises(OriginRefused) as refusal:
                await fetched(fetcher(), origin.url)
            assert refusal.value.reason == "status:503"
            assert len(origin.requests) == requests


async def test_gzip_of_which_hardly_anything_comes_fails() -> None:
    async def empty_members(request: Request, writer: StreamWriter) -> bytes:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n")
        while True:
            writer.write(gzip.compress(b"") * 1000)
            await writer.drain()

    async with running_origin(empty_members) as origin:
        with pytest.raises(DownloadFailed):
            await fetched(fetcher(), origin.url)


@pytest.mark.parametrize(
    ("answer", "turns"),
    [
        pytest.param(CHUNKED.encode() + b"1\r\nx\r\n" * 10_000 + b"0\r\n\r\n", 10_000, id="small chunks"),
        pytest.param(
            reply(200, "Content-Encoding: gzip", body=gzip.compress(b"") * 25_000 + gzip.compress(bytes(1_000_000))),
            25_000 * 20 // 16_384,
            id="gzip members",
        ),
    ],
)
async def test_others_have_their_turn_however_small_the_pieces_are(answer: bytes, turns: int) -> None:
    had = 0

    async def other() -> None:
        nonlocal had
        while True:
            await asyncio.sleep(0)
            had += 1

    async with running_origin(answer) as origin:
        async with fetcher().open(origin.url) as response:
            # The loop has nothing else to do than the two.
            running = asyncio.create_task(other())
            async for _ in response.chunks:
                pass
            running.cancel()
    assert had >= turns


async def test_leaving_early_ends_the_connection() -> None:
    async def endless(request: Request, writer: StreamWriter) -> bytes:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(BODY)
            await writer.drain()

    async with running_origin(endless) as origin:
        with pytest.raises(FileExistsError):
            async with fetcher().open(origin.url) as response:
                async for _ in response.chunks:
                    # Not the origin's failure, so it must come out as it is.
                    raise FileExistsError
        await origin.left[0].wait()


async def test_https_origins_are_checked_against_their_name() -> None:
    async with running_origin(reply(200, body=BODY), tls=True) as origin:
        using = fetcher(resolve=always("127.0.0.1"))
        assert await fetched(using, f"https://origin.test:{origin.port}/") == BODY
        assert await fetched(using, origin.url) == BODY
        with pytest.raises(DownloadFailed):
            await fetched(using, f"https://other.test:{origin.port}/")


async def test_https_origins_need_a_trusted_certificate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    async with running_origin(reply(200), tls=True) as origin:
        with pytest.raises(DownloadFailed):
            await fetched(fetcher(), origin.url)
    assert not origin.requests


@pytest.fixture
async def silent_port() -> AsyncIterator[int]:
    """A port where connections are taken and nothing is ever said, and which ends with its clients."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]
        # The client must have left by now.
        connection, _ = listener.accept()
        connection.settimeout(60)
        while connection.recv(65536):
            pass
        connection.close()


async def test_a_tls_handshake_that_stalls_times_out(silent_port: int) -> None:
    with pytest.raises(DownloadTimedOut):
        await fetched(fetcher(idle_seconds=0.3), f"https://127.0.0.1:{silent_port}/")


async def test_a_fetch_cancelled_in_the_tls_handshake_leaves_no_connection(silent_port: int) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await fetched(fetcher(), f"https://127.0.0.1:{silent_port}/")


async def test_an_encrypted_body_of_unknown_length_must_end_properly() -> None:
    async def cut_off(request: Request, writer: StreamWriter) -> bytes:
        writer.write(b"HTTP/1.0 200 OK\r\n\r\nfile")
        await writer.drain()
        await asyncio.sleep(0.1)
        writer.transport.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
        return b""

    async with running_origin(cut_off, tls=True) as origin:
        with pytest.raises(DownloadFailed):
            await fetched(fetcher(), origin.url)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com",
        "HTTPS://example.com/mod.zip",
        "https://user:pass@example.com:8443/a/b.zip?x=1&y=%20#part",
        "http://127.0.0.1:8000/",
        "http://0177.0.0.1/",
        "http://[2606:4700::1111]:80/file",
        "http://bücher.example/моды/файл.zip",
        "http://example.com./",
        "http://xn--a-.example/",
    ],
)
def test_http_and_https_urls_pass(url: str) -> None:
    parse_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com/file",
        "//example.com/file",
        "/etc/passwd",
        "file:///etc/passwd",
        "ftp://example.com/file",
        "gopher://example.com/",
        "javascript:alert(1)",
        "data:text/plain,x",
        "http:",
        "http://",
        "http:///path",
        "http://:80/",
        "http://user@/",
        "http:example.com",
        "http://example.com:0/",
        "http://example.com:65536/",
        "http://example.com:-1/",
        "http://example.com:port/",
        "http://[::1/",
        "http://[not-an-address]/",
        "http://256.1.1.1/",
        "http://[bad/",
        "http://exa mple.com/",
        "http://example.com /",
        "http://%31.example.com/",
        "http://127.0.0.1%2f/",
        "http://127.0.0.1%00.test/",
        " \t ",
        "http://①②⑦.0.0.1/",
        "http://ⓛocalhost/",
        "http://example.com/\r\nX: y",
        "http://example.com/\x00",
        "http://example.com/\u2028x",
        "http://exa\u200bmple.com/",
        "http://example.com/\ud800",
        "http://example.com/" + "a" * 70000,
    ],
)
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(BadRequest, match="^Invalid download URL$"):
        parse_url(url)


@pytest.mark.parametrize(
    ("pasted", "meant"),
    [
        (" http://example.com/a.zip\r\n", "http://example.com/a.zip"),
        ("\thttp://example.com/\u00a0", "http://example.com/"),
        ("\ufeff\u3000http://example.com/\u200b\u202f", "http://example.com/"),
        ("http://example.com/a\u00a0b\u3000c", "http://example.com/a%C2%A0b%E3%80%80c"),
        ("http://example.com/می\u200cخواهم", "http://example.com/%D9%85%DB%8C%E2%80%8C%D8%AE%D9%88%D8%A7%D9%87%D9%85"),
        ("http://example.com/\U0001fae9", "http://example.com/%F0%9F%AB%A9"),
        ("http://example.com/my mod (1).zip?name=a b", "http://example.com/my%20mod%20(1).zip?name=a%20b"),
        ("http://example.com/a%20b c", "http://example.com/a%20b%20c"),
    ],
)
def test_blanks_of_pasted_urls_are_dropped_or_encoded(pasted: str, meant: str) -> None:
    assert str(parse_url(pasted)) == meant


@given(st.text(max_size=40), st.sampled_from(["", "http://", "https://[", "http://user:@", "http://1.2.3."]))
def test_no_text_makes_it_stumble(text: str, start: str) -> None:
    try:
        parse_url(start + text)
    except BadRequest:
        pass
