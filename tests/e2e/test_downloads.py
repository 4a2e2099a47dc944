"""Downloads of public and protected files."""

from __future__ import annotations

import httpx
import pytest

from tests.support.archives import SMALL_MOD, zip_of
from tests.support.client import raw_request
from tests.support.manager import AccessAnswer
from tests.support.services import Services

pytestmark = pytest.mark.anyio

CONTENT = bytes(range(256)) * 100


@pytest.fixture
def public(services: Services) -> str:
    """The URL of a public file with `CONTENT`."""
    services.stored("resource/things/a picture.webp", CONTENT)
    return f"{services.distributor}/download/resource/things/a%20picture.webp"


async def test_a_public_file_is_given_out_without_asking_anyone(
    public: str, services: Services, http: httpx.AsyncClient
) -> None:
    asked = len(services.manager.access_requests)
    answer = await http.get(public)
    assert (answer.status_code, answer.content) == (200, CONTENT)
    assert answer.headers["content-length"] == str(len(CONTENT))
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["content-type"] == "image/webp"
    assert answer.headers["etag"].startswith('"')
    assert answer.headers["last-modified"].endswith("GMT")
    assert "content-disposition" not in answer.headers
    assert len(services.manager.access_requests) == asked


async def test_head_tells_the_same_without_the_file(public: str, http: httpx.AsyncClient) -> None:
    whole, head = await http.get(public), await http.head(public)
    assert (head.status_code, head.content) == (200, b"")
    for name in ("content-length", "content-type", "etag", "last-modified", "accept-ranges"):
        assert head.headers[name] == whole.headers[name]


async def test_an_attachment_name_takes_the_stored_extension(public: str, http: httpx.AsyncClient) -> None:
    answer = await http.get(public, params={"filename": "my_file-1"})
    assert answer.headers["content-disposition"].startswith("attachment")
    assert "my_file-1.webp" in answer.headers["content-disposition"]
    answer = await http.get(public, params={"filename": "../x"})
    assert (answer.status_code, "content-disposition" in answer.headers) == (200, False)


async def test_ranges_and_conditions_are_honoured(public: str, http: httpx.AsyncClient) -> None:
    part = await http.get(public, headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, CONTENT[10:20])
    assert part.headers["content-range"] == f"bytes 10-19/{len(CONTENT)}"
    beyond = await http.get(public, headers={"Range": f"bytes={len(CONTENT)}-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{len(CONTENT)}")
    unchanged = await http.get(public, headers={"If-None-Match": part.headers["etag"]})
    assert (unchanged.status_code, unchanged.content) == (304, b"")


async def test_what_is_no_file_or_no_type_is_refused(services: Services, http: httpx.AsyncClient) -> None:
    services.stored("resource/folder/file.bin", b"x")
    for path, status, text in (
        ("nonsense/x", 400, "Invalid type"),
        ("temp/x", 400, "Invalid type"),
        ("resource/missing.bin", 404, "File not found"),
        ("resource/folder", 404, "File not found"),
        ("resource/folder/file.bin/x", 404, "File not found"),
        ("archive/mods/seven/main.zip", 404, "File not found"),
    ):
        answer = await http.get(f"{services.distributor}/download/{path}")
        assert (answer.status_code, answer.text) == (status, text), path


@pytest.mark.parametrize(
    "target",
    [
        "/download/resource/../archive/mods/7/main.zip",
        "/download/resource/..%2f..%2f..%2fetc/passwd",
        "/download/resource/%2e%2e/%2e%2e/secret.txt",
        "/download/resource//etc/passwd",
        "/download/resource/%2fetc/passwd",
        "/download/resource/link/secret.txt",
    ],
)
async def test_a_path_that_leaves_its_folder_is_refused(target: str, services: Services) -> None:
    services.stored("secret.txt", b"secret")
    link = services.main_dir / "resource" / "link"
    if not link.exists():
        link.symlink_to(services.main_dir)
    answer = await raw_request(services.distributor, f"GET {target} HTTP/1.1\r\nHost: storage\r\n\r\n".encode())
    assert (answer.status, answer.body) == (423, b"Access denied")


async def test_a_protected_file_is_given_out_when_the_access_service_allows_it(
    services: Services, http: httpx.AsyncClient
) -> None:
    ticket = services.ticket()
    services.stored(ticket.path, zip_of(SMALL_MOD))
    url = f"{services.distributor}/download/{ticket.path}"
    cookies = "theme=dark; accessToken=a.b.c; refreshToken=d; session=secret"
    answer = await http.get(url, headers={"Cookie": cookies, "Authorization": "Bearer x"})
    assert (answer.status_code, answer.content) == (200, zip_of(SMALL_MOD))
    (asked,) = [request for request in services.manager.access_requests if request.mod_id == str(ticket.mod_id)]
    assert asked.body == b"{}"
    assert asked.headers["content-type"] == "application/json"
    assert sorted(asked.headers["cookie"].split("; ")) == ["accessToken=a.b.c", "refreshToken=d"]
    assert "authorization" not in asked.headers


async def test_head_of_an_archive_tells_its_unpacked_size(services: Services, http: httpx.AsyncClient) -> None:
    ticket = services.ticket()
    services.stored(ticket.path, zip_of(SMALL_MOD))
    head = await http.head(f"{services.distributor}/download/{ticket.path}")
    assert head.status_code == 200
    assert head.headers["x-unpacked-bytes"] == str(sum(map(len, SMALL_MOD.values())))


@pytest.mark.parametrize(
    ("scripted", "status", "text"),
    [
        (
            AccessAnswer(body={"download": {"value": False, "reason": "Buy it first", "reason_code": "x"}}),
            403,
            "Buy it first",
        ),
        (AccessAnswer(body={"download": {"value": False, "reason": "", "reason_code": ""}}), 403, "Access denied"),
        (AccessAnswer(404, {"detail": "Mod not found"}), 404, "Mod not found"),
        (AccessAnswer(401, {"message": "Log in"}), 401, "Log in"),
        (AccessAnswer(451, "Not in your country"), 451, "Not in your country"),
        (AccessAnswer(body={"upload": {"value": True}}), 502, "Access service returned an unexpected answer"),
        (AccessAnswer(body="yes"), 502, "Access service returned an unexpected answer"),
        (AccessAnswer(drop=True), 503, "Access service unavailable"),
        (AccessAnswer(delay=3), 503, "Access service unavailable"),
    ],
    ids=str,
)
async def test_a_protected_file_is_kept_when_the_access_service_does_not_allow_it(
    scripted: AccessAnswer, status: int, text: str, services: Services, http: httpx.AsyncClient
) -> None:
    ticket = services.ticket()
    services.stored(ticket.path, zip_of(SMALL_MOD))
    services.manager.access[str(ticket.mod_id)] = scripted
    answer = await http.get(f"{services.distributor}/download/{ticket.path}")
    assert (answer.status_code, answer.text) == (status, text)
    assert answer.headers["content-type"].startswith("text/plain")
    assert "etag" not in answer.headers
