"""What is remembered, what is forgotten for it, and answers that are given again, before all middleware."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from open_workshop_storage.api.routes.downloads import Remembered
from open_workshop_storage.distributor import app
from open_workshop_storage.services.downloads.remembering import remember
from open_workshop_storage.services.runtime import Runtime, open_runtime
from tests.support.archives import zip_of
from tests.support.configs import Secrets
from tests.support.digests import give_digest
from tests.support.in_process import make_settings
from tests.support.manager import AccessAnswer, StandIn, stand_in

pytestmark = pytest.mark.anyio

PUBLIC = "/download/resource/covers/7.webp"
PROTECTED = "/download/archive/mods/7/main.zip"
ENTRY = "/contents/archive/free.zip?entry=a.txt"
DENIED = AccessAnswer(body={"download": {"value": False, "reason": "No"}})


@dataclass
class Served:
    """A distributor in this process.

    Attributes:
        asked: How many requests were not answered from memory.
    """

    root: Path
    runtime: Runtime
    access_service: StandIn
    asked: int = 0

    async def get(self, path: str, *headers: tuple[str, str], method: str = "GET") -> httpx.Response:
        """Ask, as a client without headers of its own."""

        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            self.asked += 1
            await app(scope, receive, send)

        remembered = Remembered(counted)

        async def with_runtime(scope: Scope, receive: Receive, send: Send) -> None:
            await remembered({**scope, "state": {"runtime": self.runtime}}, receive, send)

        async with httpx.AsyncClient(transport=httpx.ASGITransport(with_runtime)) as client:
            client.headers.clear()
            return await client.request(method, f"http://storage{path}", headers=list(headers))

    async def is_remembered(self, path: str, *headers: tuple[str, str]) -> bool:
        """Ask, and return whether the answer was given from memory."""
        before = self.asked
        await self.get(path, *headers)
        return self.asked == before


@pytest.fixture
async def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Served]:
    monkeypatch.setattr("open_workshop_storage.services.downloads.remembering._SETTLING_NS", 0)
    root = tmp_path / "root"
    for name, content in (
        ("resource/covers/7.webp", b"old"),
        ("archive/mods/7/main.zip", b"protected"),
        ("archive/free.zip", zip_of({"a.txt": b"text, " * 99})),
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    secrets = Secrets()
    with stand_in(secrets) as access_service:
        settings = make_settings(root, secrets, access_service_url=access_service.url, access_cache_ttl_seconds=3600)
        async with open_runtime(settings, loads=False) as runtime:
            # A clock that ticks in hundredths of a second dates changes within one alike.
            await asyncio.sleep(0.02)
            yield Served(root, runtime, access_service)


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        (PUBLIC, []),
        (PUBLIC, [("Origin", "https://example.org"), ("User-Agent", "x"), ("Cookie", "a=b")]),
        (f"{PUBLIC}?filename=cover", []),
        (PUBLIC, [("If-None-Match", "*")]),
        (PROTECTED, [("Cookie", "theme=dark; accessToken=a")]),
        (ENTRY, [("Accept-Encoding", "gzip")]),
    ],
    ids=["public", "browser", "filename", "304", "protected", "entry"],
)
async def test_the_same_request_gets_the_same_answer_from_memory(
    path: str, headers: list[tuple[str, str]], served: Served
) -> None:
    first, second = await served.get(path, *headers), await served.get(path, *headers)
    assert served.asked == 1
    assert (second.status_code, second.headers, second.content) == (first.status_code, first.headers, first.content)
    assert second.headers["access-control-allow-origin"] == "*" and "referrer-policy" in second.headers


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("HEAD", [], 200),
        ("OPTIONS", [], 200),
        ("POST", [], 405),
        ("GET", [("Range", "bytes=1-1")], 206),
        ("GET", [("If-Match", '"another"')], 412),
        ("GET", [("If-Unmodified-Since", "Sun, 06 Nov 1994 08:49:37 GMT")], 412),
        ("GET", [("If-Modified-Since", "Sun, 06 Nov 1994 08:49:37 GMT")], 200),
        ("GET", [("If-None-Match", '"another"'), ("If-None-Match", '"third"')], 200),
        ("GET", [("X", "x" * 16384)], 431),
        ("GET", [("X", "x" * 16000)] * 3, 431),
    ],
    ids=str,
)
async def test_all_other_requests_are_judged(
    method: str, headers: list[tuple[str, str]], status: int, served: Served
) -> None:
    for known in ([], [("If-None-Match", '"another"')]):
        await served.get(PUBLIC, *known)
        assert await served.is_remembered(PUBLIC, *known)
    before = served.asked
    for _ in range(2):
        assert (await served.get(PUBLIC, *headers, method=method)).status_code == status
    assert served.asked == before + 2


async def test_codings_and_entity_tags_have_answers_of_their_own(served: Served) -> None:
    packed, plain = ("Accept-Encoding", "gzip"), ("Accept-Encoding", "identity")
    for _ in range(2):
        assert (await served.get(ENTRY, packed)).headers["content-encoding"] == "gzip"
        assert "content-encoding" not in (await served.get(ENTRY, plain)).headers
        etag = (await served.get(PUBLIC)).headers["etag"]
        assert (await served.get(PUBLIC, ("If-None-Match", etag))).status_code == 304
        assert (await served.get(PUBLIC, ("If-None-Match", '"another"'))).content == b"old"
    # What is inflated is made anew.
    assert not await served.is_remembered(ENTRY, plain)


def replace(file: Path) -> None:
    status = file.stat()
    new = file.with_name("new")
    new.write_bytes(b"newer")
    os.utime(new, ns=(status.st_atime_ns, status.st_mtime_ns))
    new.rename(file)


def edit(file: Path) -> None:
    status = file.stat()
    file.write_bytes(b"newer")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def link(file: Path) -> None:
    file.with_name("new").write_bytes(b"newer")
    file.unlink()
    file.symlink_to("new")


def link_folder(file: Path) -> None:
    file.parent.rename(file.parent.with_name("moved"))
    file.parent.symlink_to("moved")
    edit(file)


@pytest.mark.parametrize("change", [replace, edit, link, link_folder])
async def test_a_changed_file_is_given_out_as_it_is_now(change: Callable[[Path], None], served: Served) -> None:
    for _ in range(2):
        assert (await served.get(PUBLIC)).content == b"old"
    change(served.root / "resource/covers/7.webp")
    for _ in range(2):
        assert (await served.get(PUBLIC)).content == b"newer"


async def test_a_file_that_is_gone_is_missed(served: Served) -> None:
    await served.get(PUBLIC)
    file = served.root / "resource/covers/7.webp"
    file.rename(file.with_name("8.webp"))
    assert (await served.get(PUBLIC)).status_code == 404
    assert (await served.get(PUBLIC.replace("7", "8"))).content == b"old"


async def test_what_is_kept_with_a_file_since_is_told(served: Served) -> None:
    assert "repr-digest" not in (await served.get(PUBLIC)).headers
    digest = give_digest(served.root / "resource/covers/7.webp")
    for _ in range(2):
        assert (await served.get(PUBLIC)).headers["repr-digest"] == digest


async def test_names_that_lead_through_links_are_followed_each_time(served: Served) -> None:
    (served.root / "resource/link").symlink_to("covers")
    for path in ("/download/resource/link/7.webp", "/download/resource/x/%2e%2e/covers/7.webp"):
        for _ in range(2):
            assert not await served.is_remembered(path)


async def test_a_public_file_that_a_link_puts_among_the_mods_is_protected(served: Served) -> None:
    path = "/download/archive/disk2/7/main.zip"
    (served.root / "archive/mods").rename(served.root / "archive/disk2")
    for _ in range(2):
        assert (await served.get(path)).status_code == 200
    assert served.access_service.access_requests == []
    (served.root / "archive/mods").symlink_to("disk2")
    served.access_service.access["7"] = DENIED
    assert (await served.get(path)).status_code == 403


async def test_each_client_needs_a_permission_that_counts(served: Served) -> None:
    first, second = ("Cookie", "accessToken=a"), ("Cookie", "accessToken=b")
    await served.get(PROTECTED, first)
    assert await served.is_remembered(PROTECTED, first)
    assert await served.is_remembered(PROTECTED, ("Cookie", "theme=dark; accessToken = a"))
    served.access_service.access["7"] = DENIED
    assert (await served.get(PROTECTED, second)).status_code == 403
    assert (await served.get(PROTECTED)).status_code == 403
    assert (await served.get(PROTECTED, first, second)).status_code == 403
    assert await served.is_remembered(PROTECTED, first)
    served.runtime.downloads._access._ttl_seconds = 0
    assert (await served.get(PROTECTED, first)).status_code == 403


async def test_a_file_that_has_just_changed_is_looked_at_each_time(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("open_workshop_storage.services.downloads.remembering._SETTLING_NS", 3600 * 10**9)
    for _ in range(2):
        assert not await served.is_remembered(PUBLIC)


async def test_so_many_answers_are_remembered_and_none_that_are_long(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("open_workshop_storage.services.downloads.remembering._MOST_ANSWERS", 2)
    for number in (0, 1, 2):
        await served.get(f"{PUBLIC}?{number}")
    assert [await served.is_remembered(f"{PUBLIC}?{number}") for number in (2, 1, 0)] == [True, True, False]
    name = f"resource/{'я' * 120}/{'x' * 255}"
    (served.root / name).parent.mkdir()
    (served.root / name).write_bytes(b"x")
    for path, headers in (
        (f"{PUBLIC}?{'x' * 500}", []),
        (PUBLIC, [("If-None-Match", f'"{"x" * 500}"')]),
        (f"/download/{name}", []),
    ):
        for _ in range(2):
            assert not await served.is_remembered(path, *headers)


def test_what_was_remembered_first_is_forgotten_where_there_is_no_room_for_more() -> None:
    known: dict[str, int] = {}
    for number, key in enumerate("abcd"):
        remember(known, key, number, 3)
    assert known == {"b": 1, "c": 2, "d": 3}


def test_what_is_remembered_again_is_the_latest_and_takes_no_room_of_another() -> None:
    known = {"a": 1, "b": 2, "c": 3}
    remember(known, "b", 4, 3)
    assert list(known.items()) == [("a", 1), ("c", 3), ("b", 4)]
