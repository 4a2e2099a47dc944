"""Downloads through a real nginx with the site file of `deploy/`."""

from __future__ import annotations

import email
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from urllib.parse import quote

import httpx
import pytest

from open_workshop_storage.api.headers import COMMON_HEADERS
from tests.support.archives import SMALL_MOD, zip_of
from tests.support.client import raw_request
from tests.support.digests import give_digest
from tests.support.manager import AccessAnswer
from tests.support.nginx import PREFIX, nginx, site_for
from tests.support.services import Services, running_services

pytestmark = pytest.mark.anyio

SIZE = 3 * 1024 * 1024 + 17
CONTENT = secrets.token_bytes(SIZE)
NAME = "a мод 100%?#.webp"
OF_ALL_ANSWERS = {name.lower(): value for name, value in COMMON_HEADERS.items()}
OWN_TO_EACH_ANSWER = ("date", "server", "connection")


@dataclass(frozen=True)
class Front:
    """A distributor behind nginx.

    Attributes:
        url: nginx's base URL.
    """

    url: str
    services: Services


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    folder = tmp_path_factory.mktemp("behind-nginx")
    with running_services(folder, apps=("distributor",), ACCEL_REDIRECT_PREFIX=PREFIX) as services:
        with nginx(folder, site_for(services.main_dir), services.servers["distributor"].port) as server:
            yield Front(server.url, services)


@pytest.fixture
def url(front: Front) -> str:
    """The URL of a public file with `CONTENT`."""
    front.services.stored(f"resource/{NAME}", CONTENT)
    return f"{front.url}/download/resource/{quote(NAME)}"


def lasting(answer: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name not in OWN_TO_EACH_ANSWER}


async def test_nginx_sends_what_the_distributor_only_names(url: str, front: Front, http: httpx.AsyncClient) -> None:
    through = await http.get(url)
    assert (through.status_code, through.content) == (200, CONTENT)
    direct = await http.get(url.replace(front.url, front.services.distributor))
    assert direct.content == b""
    assert direct.headers["x-accel-redirect"].startswith(f"{PREFIX}/resource/a%20")
    assert "x-accel-redirect" not in through.headers


async def test_every_header_arrives(url: str, http: httpx.AsyncClient) -> None:
    params = {"filename": "my_file"}
    whole, head = await http.get(url, params=params), await http.head(url, params=params)
    assert head.content == b"" and lasting(whole) == lasting(head)
    assert sorted(lasting(whole)) == [
        "accept-ranges",
        "access-control-allow-origin",
        "access-control-expose-headers",
        "cache-control",
        "content-disposition",
        "content-length",
        "content-security-policy",
        "content-type",
        "etag",
        "last-modified",
        "referrer-policy",
        "x-content-type-options",
    ]
    assert whole.headers["content-disposition"] == 'attachment; filename="my_file.webp"'
    assert whole.headers["content-type"] == "image/webp"
    assert whole.headers["cache-control"] == "public, max-age=300"
    assert whole.headers["access-control-allow-origin"] == "*"
    assert all(whole.headers.get_list(name) == [value] for name, value in lasting(whole).items())


async def test_a_known_digest_arrives_with_the_file_and_with_a_part_of_it(
    url: str, front: Front, http: httpx.AsyncClient
) -> None:
    digest = give_digest(front.services.main_dir / "resource" / NAME)
    for answer in (
        await http.get(url, headers={"Want-Repr-Digest": "sha-256=1"}),
        await http.head(url),
        await http.get(url, headers={"Range": "bytes=5-9"}),
        await http.get(url, headers={"Range": "bytes=0-1, 5-9"}),
    ):
        assert answer.headers.get_list("repr-digest") == [digest]
    unchanged = await http.get(url, headers={"If-None-Match": answer.headers["etag"]})
    assert unchanged.status_code == 304 and "repr-digest" not in unchanged.headers


async def test_ranges_and_conditions_mean_the_same_as_without_nginx(url: str, http: httpx.AsyncClient) -> None:
    known = (await http.head(url)).headers
    etag, date = known["etag"], known["last-modified"]
    for headers, status, content in (
        ({"Range": "bytes=5-1048580"}, 206, CONTENT[5:1048581]),
        ({"Range": "bytes=-7"}, 206, CONTENT[-7:]),
        ({"Range": f"bytes={SIZE - 9}-{SIZE + 9}"}, 206, CONTENT[-9:]),
        ({"Range": f"bytes={SIZE}-, 7-19"}, 206, CONTENT[7:20]),
        ({"Range": f"bytes={SIZE}-"}, 416, b"Range not satisfiable"),
        ({"Range": "items=0-1"}, 200, CONTENT),
        ({"Range": "bytes=5-4"}, 200, CONTENT),
        ({"Range": "bytes=0-9", "If-Range": etag}, 206, CONTENT[:10]),
        ({"Range": "bytes=0-9", "If-Range": date}, 206, CONTENT[:10]),
        ({"Range": "bytes=0-9", "If-Range": '"another"'}, 200, CONTENT),
        ({"Range": "bytes=0-9", "If-Range": f"W/{etag}"}, 200, CONTENT),
        ({"If-None-Match": etag}, 304, b""),
        ({"If-None-Match": '"another"'}, 200, CONTENT),
        ({"If-None-Match": '"another"', "If-Modified-Since": date}, 200, CONTENT),
        ({"If-Modified-Since": date}, 304, b""),
        ({"If-Modified-Since": "Sun, 06 Nov 1994 08:49:37 GMT"}, 200, CONTENT),
        ({"If-Match": etag}, 200, CONTENT),
        ({"If-Match": etag, "Range": "bytes=0-9"}, 206, CONTENT[:10]),
        ({"If-Match": '"another"'}, 412, b"Precondition failed"),
        ({"If-Unmodified-Since": date}, 200, CONTENT),
        ({"If-Unmodified-Since": "Sun, 06 Nov 1994 08:49:37 GMT"}, 412, b"Precondition failed"),
    ):
        answer = await http.get(url, headers=headers)
        assert (answer.status_code, answer.content == content) == (status, True), headers
        assert answer.headers.get("etag", etag) == etag
        assert answer.headers.get_list("access-control-allow-origin") == ["*"]
        assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"
        if status == 206:
            start = CONTENT.index(content)
            assert answer.headers["content-range"] == f"bytes {start}-{start + len(content) - 1}/{SIZE}"
        if status in (200, 206):
            assert answer.headers["content-length"] == str(len(content))
            assert answer.headers.get_list("accept-ranges") == ["bytes"]


async def test_several_ranges_come_as_parts(url: str, http: httpx.AsyncClient) -> None:
    answer = await http.get(url, headers={"Range": "bytes=2000000-3100000, 0-9"})
    head = f"Content-Type: {answer.headers['content-type']}\r\n\r\n".encode()
    parts = email.message_from_bytes(head + answer.content).get_payload()
    assert answer.status_code == 206 and isinstance(parts, list)
    ranges = [part["content-range"] for part in parts if isinstance(part, Message)]
    assert ranges == [f"bytes 2000000-3100000/{SIZE}", f"bytes 0-9/{SIZE}"]
    assert CONTENT[2000000:3100001] in answer.content


async def test_archives_are_looked_into_through_nginx_as_without_it(front: Front, http: httpx.AsyncClient) -> None:
    front.services.stored("resource/mod one.zip", zip_of(SMALL_MOD))
    front.services.stored("resource/stored.zip", zip_of({"a.bin": CONTENT}, 0))
    for path, headers, status in (
        ("mod%20one.zip", {}, 200),
        ("mod%20one.zip?entry=mod%2Fdescriptor.mod", {"Accept-Encoding": "gzip"}, 200),
        ("mod%20one.zip?entry=mod%2Fdescriptor.mod", {"Accept-Encoding": "identity"}, 200),
        ("stored.zip?entry=a.bin", {"Range": "bytes=5-1048580"}, 206),
        ("stored.zip?entry=a.bin", {"Range": f"bytes={SIZE}-"}, 416),
        ("stored.zip?entry=b.bin", {}, 404),
        ("missing.zip", {}, 404),
    ):
        for method in ("GET", "HEAD"):
            target = f"/contents/resource/{path}"
            through = await http.request(method, front.url + target, headers=headers)
            direct = await http.request(method, front.services.distributor + target, headers=headers)
            assert (through.status_code, through.content) == (direct.status_code, direct.content), path
            assert lasting(through) == lasting(direct), path
            assert method == "HEAD" or through.status_code == status


async def test_protected_files_pass_only_with_the_access_services_consent(
    front: Front, http: httpx.AsyncClient
) -> None:
    content = zip_of(SMALL_MOD)
    for mod_id in ("41", "42"):
        front.services.stored(f"archive/mods/{mod_id}/main.zip", content)
    front.services.manager.access["42"] = AccessAnswer(
        body={"download": {"value": False, "reason": "Buy it first", "reason_code": "x"}}
    )
    allowed = await http.get(f"{front.url}/download/archive/mods/41/main.zip", headers={"Cookie": "accessToken=a"})
    assert (allowed.status_code, allowed.content) == (200, content)
    assert allowed.headers["cache-control"] == "private, no-cache"
    assert front.services.manager.access_requests[-1].headers["cookie"] == "accessToken=a"
    head = await http.head(f"{front.url}/download/archive/mods/41/main.zip")
    assert head.headers["x-unpacked-bytes"] == str(sum(map(len, SMALL_MOD.values())))
    refused = await http.get(f"{front.url}/download/archive/mods/42/main.zip")
    assert (refused.status_code, refused.text) == (403, "Buy it first")
    assert refused.headers.get_list("access-control-allow-origin") == ["*"]


@pytest.mark.parametrize(
    "target",
    [
        f"{PREFIX}/archive/mods/43/main.zip",
        f"{PREFIX}//archive/mods/43/main.zip",
        f"/download/..{PREFIX}/archive/mods/43/main.zip",
        f"/download/%2e%2e{PREFIX}/archive/mods/43/main.zip",
        "/%73tored-files/archive/mods/43/main.zip",
        f"{PREFIX}/../archive/mods/43/main.zip",
        f"{PREFIX}",
        f"{PREFIX}/",
    ],
)
async def test_the_internal_location_cannot_be_reached_from_outside(target: str, front: Front) -> None:
    content = b"the access service was not asked"
    front.services.stored("archive/mods/43/main.zip", content)
    request = f"GET {target} HTTP/1.1\r\nHost: storage\r\nX-Accel-Redirect: {target}\r\n\r\n".encode()
    answer = await raw_request(front.url, request)
    assert answer.status in (404, 301) and content not in answer.body
    if answer.body == b"File not found":
        assert answer.headers.items() >= OF_ALL_ANSWERS.items()


@pytest.mark.parametrize(
    "target", ["resource/..%2f..%2fetc/passwd", "resource/%252e%252e/x", "resource/%2fetc/passwd", "resource/..%5cx"]
)
async def test_paths_that_leave_their_folder_are_refused_as_ever(target: str, front: Front) -> None:
    request = f"GET /download/{target} HTTP/1.1\r\nHost: storage\r\n\r\n".encode()
    answer = await raw_request(front.url, request)
    assert answer.status in (400, 404, 423) and b"root:" not in answer.body


async def test_empty_files_and_missing_ones(front: Front, http: httpx.AsyncClient) -> None:
    front.services.stored("resource/empty.txt", b"")
    empty = await http.get(f"{front.url}/download/resource/empty.txt")
    assert (empty.status_code, empty.content, empty.headers["content-length"]) == (200, b"", "0")
    missing = await http.get(f"{front.url}/download/resource/missing.txt")
    assert (missing.status_code, missing.text) == (404, "File not found")
