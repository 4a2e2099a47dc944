"""Answers with stored files, from a running distributor (RFC 9110, sections 13 to 15)."""

from __future__ import annotations

import asyncio
import email
import os
import secrets
import zipfile
from collections.abc import AsyncIterator
from email.message import Message
from pathlib import Path

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from open_workshop_storage.services.downloads.access import AccessService
from open_workshop_storage.services.downloads.downloads import Downloads
from open_workshop_storage.services.downloads.stored_archives import UnpackedSizes
from open_workshop_storage.services.storage.local import LocalFiles
from open_workshop_storage.utils.files.paths import partial_path
from open_workshop_storage.utils.http.dates import parse_date
from open_workshop_storage.utils.net.http_connections import Connections
from tests.conftest import ServiceStarter
from tests.support.archives import SMALL_MOD, seven_zip_of, zip_of
from tests.support.client import PATIENCE_SECONDS, raw_request
from tests.support.configs import Secrets
from tests.support.digests import give_digest
from tests.support.in_process import make_settings
from tests.support.manager import AccessAnswer
from tests.support.processes import python_children
from tests.support.services import Services

pytestmark = pytest.mark.anyio

SIZE = 3 * 1024 * 1024 + 17
"""Many blocks of the sender, of several sizes."""


@pytest.fixture(scope="module")
def content() -> bytes:
    return secrets.token_bytes(SIZE)


@pytest.fixture
def stored(content: bytes, distributing: Services) -> Path:
    return distributing.stored(f"resource/{secrets.token_hex(8)}.webp", content)


@pytest.fixture
def url(stored: Path, distributing: Services) -> str:
    return f"{distributing.distributor}/download/resource/{stored.name}"


@pytest.fixture
async def one_connection() -> AsyncIterator[httpx.AsyncClient]:
    """A client that has to use one connection for all its requests."""
    async with httpx.AsyncClient(limits=httpx.Limits(max_connections=1), timeout=PATIENCE_SECONDS) as client:
        yield client


def parts_of(answer: httpx.Response) -> list[Message]:
    head = f"Content-Type: {answer.headers['content-type']}\r\n\r\n".encode()
    message = email.message_from_bytes(head + answer.content)
    assert message.get_content_type() == "multipart/byteranges"
    parts = message.get_payload()
    assert isinstance(parts, list)
    return [part for part in parts if isinstance(part, Message)]


@pytest.mark.parametrize(
    ("wanted", "start", "stop"),
    [
        ("0-0", 0, 1),
        ("5-1048580", 5, 1048581),
        ("1048575-3145729", 1048575, 3145730),
        ("3-", 3, SIZE),
        ("-1048577", SIZE - 1048577, SIZE),
        (f"0-{SIZE + 5}", 0, SIZE),
    ],
)
async def test_one_range_is_sent_exactly(
    wanted: str, start: int, stop: int, url: str, content: bytes, http: httpx.AsyncClient
) -> None:
    answer = await http.get(url, headers={"Range": f"bytes={wanted}"})
    assert (answer.status_code, answer.content) == (206, content[start:stop])
    assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{SIZE}"
    assert answer.headers["content-length"] == str(stop - start)
    assert answer.headers["content-type"] == "image/webp"


async def test_clients_at_the_same_time_get_each_their_own_bytes(url: str, content: bytes) -> None:
    starts = range(0, SIZE - 1, SIZE // 16)
    async with httpx.AsyncClient(timeout=PATIENCE_SECONDS) as client:
        answers = await asyncio.gather(*(client.get(url, headers={"Range": f"bytes={start}-"}) for start in starts))
    assert all(answer.content == content[start:] for start, answer in zip(starts, answers, strict=True))


async def test_several_ranges_are_sent_as_parts_in_the_order_asked_for(
    url: str, content: bytes, http: httpx.AsyncClient
) -> None:
    answer = await http.get(url, headers={"Range": "bytes=2000000-3100000, 99999999-, 0-9, -5"})
    assert answer.status_code == 206 and "content-range" not in answer.headers
    assert int(answer.headers["content-length"]) == len(answer.content)
    parts = parts_of(answer)
    assert [part["content-range"] for part in parts] == [
        f"bytes 2000000-3100000/{SIZE}",
        f"bytes 0-9/{SIZE}",
        f"bytes {SIZE - 5}-{SIZE - 1}/{SIZE}",
    ]
    assert [part.get_content_type() for part in parts] == ["image/webp"] * 3
    for part in (content[2000000:3100001], content[:10], content[-5:]):
        assert b"\r\n\r\n" + part + b"\r\n--" in answer.content


async def test_a_single_satisfiable_range_of_several_needs_no_parts(
    url: str, content: bytes, http: httpx.AsyncClient
) -> None:
    answer = await http.get(url, headers={"Range": f"bytes={SIZE}-,7-8"})
    assert (answer.status_code, answer.content) == (206, content[7:9])
    assert answer.headers["content-range"] == f"bytes 7-8/{SIZE}"


async def test_ranges_that_cannot_be_sent_are_refused_with_the_size(url: str, http: httpx.AsyncClient) -> None:
    answer = await http.get(url, headers={"Range": f"bytes={SIZE}-"})
    assert (answer.status_code, answer.text) == (416, "Range not satisfiable")
    assert answer.headers["content-range"] == f"bytes */{SIZE}"


@pytest.mark.parametrize("wanted", ["items=0-1", "bytes=5-4", "bytes=zero", "bytes=0-1;2-3"])
async def test_ranges_that_cannot_be_understood_are_ignored(
    wanted: str, url: str, content: bytes, http: httpx.AsyncClient
) -> None:
    answer = await http.get(url, headers={"Range": wanted})
    assert (answer.status_code, answer.content) == (200, content)


async def test_a_range_of_another_version_gives_the_whole_file(
    url: str, content: bytes, http: httpx.AsyncClient
) -> None:
    current = (await http.head(url)).headers
    for validator, status in (
        (current["etag"], 206),
        (current["last-modified"], 206),
        (f"W/{current['etag']}", 200),
        ('"another"', 200),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 200),
    ):
        answer = await http.get(url, headers={"Range": "bytes=0-9", "If-Range": validator})
        assert (answer.status_code, answer.content) == (status, content[:10] if status == 206 else content), validator


async def test_one_connection_serves_all_kinds_of_answers(
    url: str, content: bytes, one_connection: httpx.AsyncClient
) -> None:
    etag = (await one_connection.head(url)).headers["etag"]
    for method, headers, status, length in (
        ("HEAD", {"Range": "bytes=0-9"}, 200, 0),
        ("GET", {"If-None-Match": etag}, 304, 0),
        ("HEAD", {"If-None-Match": etag}, 304, 0),
        ("GET", {"If-None-Match": etag, "Range": "bytes=0-9"}, 304, 0),
        ("GET", {"Range": "bytes=0-9,20-"}, 206, None),
        ("GET", {"If-Match": '"another"', "Range": "bytes=0-9"}, 412, 19),
        ("HEAD", {"If-Match": '"another"'}, 412, 0),
        ("GET", {"If-Match": etag, "Range": "bytes=0-9"}, 206, 10),
        ("GET", {"Range": f"bytes={SIZE}-"}, 416, 21),
        ("GET", {}, 200, SIZE),
        ("GET", {"Range": "bytes=1-"}, 206, SIZE - 1),
    ):
        answer = await one_connection.request(method, url, headers=headers)
        assert answer.status_code == status, headers
        assert length is None or len(answer.content) == length
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"
        assert answer.headers["access-control-allow-origin"] == "*"
        assert answer.headers.get("etag", etag) == etag
        assert ("etag" in answer.headers) == (status != 412)


async def test_a_new_version_has_new_validators(stored: Path, url: str, http: httpx.AsyncClient) -> None:
    old = await http.get(url)
    os.utime(stored, (1_000_000_000, 1_000_000_000))
    new = await http.get(url, headers={"If-None-Match": old.headers["etag"]})
    assert (new.status_code, new.headers["last-modified"]) == (200, "Sun, 09 Sep 2001 01:46:40 GMT")
    assert new.headers["etag"] != old.headers["etag"]
    same = await http.get(url, headers={"If-Modified-Since": new.headers["last-modified"]})
    assert (same.status_code, same.content) == (304, b"")
    os.utime(stored, (9_999_999_999, 9_999_999_999))
    future = await http.head(url)
    told, now = parse_date(future.headers["last-modified"]), parse_date(future.headers["date"])
    assert told is not None and now is not None and told <= now


async def test_empty_files_are_files(distributing: Services, http: httpx.AsyncClient) -> None:
    distributing.stored("resource/empty.txt", b"")
    address = f"{distributing.distributor}/download/resource/empty.txt"
    for headers, status in (({}, 200), ({"Range": "bytes=-5"}, 200), ({"Range": "bytes=0-"}, 416)):
        answer = await http.get(address, headers=headers)
        assert answer.status_code == status
        assert status == 416 or (answer.content, answer.headers["content-length"]) == (b"", "0")


async def test_bytes_that_are_not_in_the_page_cache_are_read_all_the_same(
    stored: Path, url: str, content: bytes, http: httpx.AsyncClient
) -> None:
    descriptor = os.open(stored, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)
    assert (await http.get(url, headers={"Range": "bytes=1-"})).content == content[1:]


@pytest.mark.parametrize(
    "name", ["мод один.webp", "100%.webp", "a+b&c=d?e#f.webp", "a%2Fb.webp", "..hidden.webp", "a\\b.webp"]
)
async def test_files_are_found_by_any_name_that_a_file_can_have(
    name: str, distributing: Services, http: httpx.AsyncClient
) -> None:
    distributing.stored(f"resource/names/{name}", name.encode())
    encoded = "".join(f"%{byte:02x}" for byte in name.encode())
    answer = await http.get(f"{distributing.distributor}/download/resource/names/{encoded}")
    assert (answer.status_code, answer.content) == (200, name.encode())


@pytest.mark.parametrize(
    ("target", "status", "text"),
    [
        ("resource/..", 423, "Access denied"),
        ("resource/../avatar/x", 423, "Access denied"),
        ("resource/../resource/x", 423, "Access denied"),
        ("resource/a/../../x", 423, "Access denied"),
        ("resource/%2e%2e/x", 423, "Access denied"),
        ("resource/%2E%2E%2Fx", 423, "Access denied"),
        ("resource/%252e%252e%252fx", 423, "Access denied"),
        ("resource//etc/passwd", 423, "Access denied"),
        ("resource/%2fetc/passwd", 423, "Access denied"),
        ("resource/%252fetc/passwd", 423, "Access denied"),
        ("resource/..\\x", 423, "Access denied"),
        ("resource/..%5cx", 423, "Access denied"),
        ("resource/a/..%5c..%5c..%5cx", 423, "Access denied"),
        ("archive/../resource/x", 423, "Access denied"),
        ("archive%2f..%2f..%2fsecret", 423, "Access denied"),
        ("../x", 400, "Invalid type"),
        ("%2e%2e/x", 400, "Invalid type"),
        ("foo/..", 400, "Invalid type"),
        ("temp/x", 400, "Invalid type"),
        ("RESOURCE/x", 400, "Invalid type"),
        ("/resource/x", 404, None),
        ("resource/", 404, "File not found"),
        ("resource/.", 404, "File not found"),
        ("resource/a%00b", 404, "File not found"),
        ("resource/%ff%fe", 404, "File not found"),
        ("resource/%zz", 404, "File not found"),
        ("resource/" + "x" * 5000, 404, "File not found"),
        ("resource/" + "x/" * 2500 + "x", 404, "File not found"),
        ("archive/mods/main.zip", 404, "File not found"),
        ("archive/mods/%d9%a7/main.zip", 404, "File not found"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_raw_targets_are_judged_as_they_stand(
    target: str, status: int, text: str | None, distributing: Services
) -> None:
    distributing.stored("secret", b"secret")
    distributing.stored("resource/x", b"public")
    distributing.stored("archive/mods/main.zip", b"of no mod")
    distributing.stored("archive/mods/٧/main.zip", b"of no mod")
    request = f"GET /download/{target} HTTP/1.1\r\nHost: storage\r\n\r\n".encode()
    answer = await raw_request(distributing.distributor, request)
    assert answer.status == status
    assert text is None or answer.body == text.encode()


async def test_unfinished_files_are_never_given_out(distributing: Services, http: httpx.AsyncClient) -> None:
    name = partial_path(Path("x")).name
    distributing.stored(f"resource/{name}", b"half")
    answer = await http.get(f"{distributing.distributor}/download/resource/{name}")
    assert (answer.status_code, answer.text) == (404, "File not found")


async def test_unpacked_bytes_are_told_of_each_version_and_only_where_they_can_be(
    distributing: Services, http: httpx.AsyncClient
) -> None:
    encrypted = bytearray(zip_of(SMALL_MOD))
    directory = encrypted.rindex(b"PK\x01\x02")
    encrypted[directory + 8] |= 1
    cut_off = zip_of(SMALL_MOD)[:-30]
    stored_only = zip_of({"a": b"x" * 10, "b/": b""}, zipfile.ZIP_STORED)
    total = sum(map(len, SMALL_MOD.values()))
    for content, size in ((zip_of(SMALL_MOD), total), (bytes(encrypted), None), (cut_off, None), (stored_only, 10)):
        distributing.stored("archive/mods/31/main.zip", content)
        address = f"{distributing.distributor}/download/archive/mods/31/main.zip"
        for _ in range(2):
            head = await http.head(address)
            assert (head.status_code, head.headers.get("x-unpacked-bytes")) == (200, size and str(size))
    assert head.headers["cache-control"] == "private, no-cache"
    distributing.stored("archive/free.zip", zip_of(SMALL_MOD))
    free = await http.head(f"{distributing.distributor}/download/archive/free.zip")
    assert "x-unpacked-bytes" not in free.headers and free.headers["cache-control"] == "no-cache"


async def test_unpacked_bytes_are_read_once_for_each_version(distributing: Services, http: httpx.AsyncClient) -> None:
    name = "archive/mods/33/main.zip"
    stored = distributing.stored(name, zip_of({"a": b"x" * 10}))
    times = stored.stat().st_atime_ns, stored.stat().st_mtime_ns

    def announce(size: int, file: Path) -> None:
        content = bytearray(stored.read_bytes())
        field = content.rindex(b"PK\x01\x02") + 24
        content[field : field + 4] = size.to_bytes(4, "little")
        file.write_bytes(content)
        os.utime(file, ns=times)

    async def told() -> str:
        return str((await http.head(f"{distributing.distributor}/download/{name}")).headers["x-unpacked-bytes"])

    assert await told() == "10"
    announce(11, stored)
    assert await told() == "10"
    os.utime(stored)
    assert await told() == "11"
    os.utime(stored, ns=times)
    assert await told() == "10"
    replacing = distributing.main_dir / "replacing.zip"
    announce(12, replacing)
    replacing.rename(stored)
    assert await told() == "12"


async def test_a_digest_that_is_kept_is_told_of_that_version_only(
    stored: Path, url: str, http: httpx.AsyncClient
) -> None:
    async def told(**headers: str) -> list[str | None]:
        return [
            (await http.request(method, url, headers=headers)).headers.get("repr-digest") for method in ("GET", "HEAD")
        ]

    assert await told() == [None, None]
    digest = give_digest(stored)
    for _ in range(2):
        assert await told() == [digest, digest]
    assert await told(Range="bytes=0-9") == [digest, digest]
    stored.write_bytes(b"edited")
    assert await told() == [None, None]
    assert await told(Range="bytes=0-2") == [None, None]


async def test_few_processes_read_all_directories(distributing: Services, http: httpx.AsyncClient) -> None:
    contents = (zip_of(SMALL_MOD), zip_of(SMALL_MOD)[:-30], b"7z\xbc\xaf\x27\x1c" + bytes(60), seven_zip_of(SMALL_MOD))
    urls = []
    for number in range(20):
        name = f"archive/mods/34/{number}.zip"
        distributing.stored(name, contents[number % len(contents)])
        urls.append(f"{distributing.distributor}/download/{name}")
    answers = await asyncio.gather(*map(http.head, urls))
    told = [answer.headers.get("x-unpacked-bytes") for answer in answers]
    size = str(sum(map(len, SMALL_MOD.values())))
    assert told == [size, None, None, size] * 5
    assert 1 <= len(python_children(distributing.servers["distributor"].process.pid)) <= 2


async def test_a_conditional_request_for_a_protected_file_is_judged_first(
    distributing: Services, http: httpx.AsyncClient
) -> None:
    distributing.stored("archive/mods/32/main.zip", zip_of(SMALL_MOD))
    address = f"{distributing.distributor}/download/archive/mods/32/main.zip"
    etag = (await http.head(address)).headers["etag"]
    asked = len(distributing.manager.access_requests)
    assert (await http.get(address, headers={"If-None-Match": etag})).status_code == 304
    assert (await http.get(address, headers={"Range": "bytes=0-3"})).content == b"PK\x03\x04"
    assert len(distributing.manager.access_requests) == asked + 2


async def begin(distributing: Services, path: str, *headers: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Ask for a file, read the answer's head, and leave the body on its way."""
    url = httpx.URL(distributing.distributor)
    reader, writer = await asyncio.open_connection(url.host, url.port, limit=65536)
    writer.write("\r\n".join((f"GET /download/{path} HTTP/1.1", "Host: storage", *headers, "", "")).encode())
    await reader.readuntil(b"\r\n\r\n")
    return reader, writer


@pytest.mark.parametrize("headers", [(), ("Range: bytes=0-",)], ids=["whole", "range"])
async def test_a_file_that_is_cut_short_while_it_is_sent_ends_the_connection(
    headers: tuple[str, ...], distributing: Services
) -> None:
    size = 256 * 1024 * 1024
    target = distributing.stored("resource/shrinking.bin", b"")
    os.truncate(target, size)
    reader, writer = await begin(distributing, "resource/shrinking.bin", *headers)
    os.truncate(target, 1000)
    received = 0
    async with asyncio.timeout(PATIENCE_SECONDS):
        while block := await reader.read(1 << 20):
            received += len(block)
    writer.close()
    assert received < size


async def test_a_file_that_is_replaced_while_it_is_sent_arrives_in_its_old_version(distributing: Services) -> None:
    size = 64 * 1024 * 1024
    target = distributing.stored("resource/replaced.bin", b"a" * size)
    reader, writer = await begin(distributing, "resource/replaced.bin", "Range: bytes=0-")
    distributing.stored("temp/new", b"b" * size).rename(target)
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert (await reader.readexactly(size)).count(b"a") == size
    writer.close()


async def test_a_client_that_leaves_in_the_middle_frees_the_file(distributing: Services) -> None:
    target = distributing.stored("resource/left.bin", b"")
    os.truncate(target, 1 << 40)
    _, writer = await begin(distributing, "resource/left.bin", "Range: bytes=0-")
    server = distributing.servers["distributor"]
    (worker,) = set(server.workers()) - set(python_children(server.process.pid))

    def is_open() -> bool:
        return any(os.path.realpath(entry) == str(target) for entry in Path(f"/proc/{worker}/fd").iterdir())

    assert is_open()
    writer.transport.abort()
    async with asyncio.timeout(PATIENCE_SECONDS):
        while is_open():
            await asyncio.sleep(0.05)


async def test_a_file_replaced_between_look_up_and_answer_is_sent_in_its_new_version(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, Secrets())
    target = tmp_path / "resource" / "x.txt"
    target.write_bytes(b"old")
    files = LocalFiles(tmp_path)
    found = await files.find("resource", "x.txt")
    (tmp_path / "new").write_bytes(b"the new version")
    (tmp_path / "new").rename(target)

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        requested = {"range": value.decode() for name, value in scope["headers"] if name == b"range"}
        await downloads.send_file(found, None, requested, scope, receive, send)

    transport = httpx.ASGITransport(answer)
    async with httpx.AsyncClient(transport=transport, base_url="http://storage") as client:
        downloads = Downloads(
            files, AccessService(Connections(1, 0), "http://storage", 1), UnpackedSizes(files), settings
        )
        whole = await client.get("/")
        part = await client.get("/", headers={"Range": "bytes=-7"})
    assert (whole.status_code, whole.content) == (200, b"the new version")
    assert (part.status_code, part.content) == (206, b"version")
    assert whole.headers["etag"] == part.headers["etag"]


async def test_while_the_storage_root_is_away_clients_are_asked_to_come_again(
    distributing: Services, http: httpx.AsyncClient
) -> None:
    away = distributing.main_dir.with_name("away")
    distributing.main_dir.rename(away)
    try:
        answer = await http.get(f"{distributing.distributor}/download/resource/x")
        assert (answer.status_code, answer.text) == (503, "Service unavailable")
        assert int(answer.headers["retry-after"]) > 0
    finally:
        away.rename(distributing.main_dir)
    assert (await http.get(f"{distributing.distributor}/download/resource/nothing")).status_code == 404


async def test_cache_control_goes_by_kind_of_file(start_services: ServiceStarter, http: httpx.AsyncClient) -> None:
    services = start_services(apps=["distributor"], CACHE_CONTROL_AVATAR="", CACHE_CONTROL_RESOURCE="public, immutable")
    for path, expected in (
        ("avatar/1.webp", None),
        ("resource/1.webp", "public, immutable"),
        ("archive/1.zip", "no-cache"),
        ("archive/mods/1/main.zip", "private, no-cache"),
    ):
        services.stored(path, b"x")
        answer = await http.get(f"{services.distributor}/download/{path}")
        assert answer.headers.get("cache-control") == expected
        unchanged = {"If-None-Match": answer.headers["etag"]}
        answer = await http.get(f"{services.distributor}/download/{path}", headers=unchanged)
        assert (answer.status_code, answer.headers.get("cache-control")) == (304, expected)


async def test_an_access_service_that_hangs_holds_up_protected_files_only(
    start_services: ServiceStarter, http: httpx.AsyncClient
) -> None:
    services = start_services(apps=["distributor"], ACCESS_SERVICE_TIMEOUT_SECONDS=PATIENCE_SECONDS)
    services.stored("archive/mods/51/main.zip", b"x")
    services.stored("resource/public.webp", b"public")
    services.manager.access["51"] = AccessAnswer(delay=3)
    async with httpx.AsyncClient(timeout=PATIENCE_SECONDS, limits=httpx.Limits(max_connections=200)) as client:
        protected = f"{services.distributor}/download/archive/mods/51/main.zip"
        asking = [
            asyncio.create_task(client.get(protected, headers={"Cookie": f"accessToken={number}"}))
            for number in range(120)
        ]
        # The rest waits for a free connection.
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(services.manager.access_requests) < 50:
                await asyncio.sleep(0.01)
        public = await http.get(f"{services.distributor}/download/resource/public.webp")
        assert (public.status_code, public.content) == (200, b"public")
        for task in asking:
            task.cancel()
        await asyncio.wait(asking)
