"""Downloads of public and protected files."""

from __future__ import annotations

import httpx
import pytest

from tests.support.archives import SMALL_MOD, zip_of
from tests.support.manager import AccessAnswer
from tests.support.services import Services

# A distributor asks no job store.
pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("services", ["memory"], indirect=True)]

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


async def test_an_attachment_name_takes_the_stored_extension(public: str, http: httpx.AsyncClient) -> None:
    answer = await http.get(public, params={"filename": "my_file-1"})
    assert answer.headers["content-disposition"].startswith("attachment")
    assert "my_file-1.webp" in answer.headers["content-disposition"]
    answer = await http.get(public, params={"filename": "../x"})
    assert (answer.status_code, "content-disposition" in answer.headers) == (200, False)


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


@pytest.mark.parametrize(
    ("scripted", "status", "text"),
    [
        (AccessAnswer(body={"download": {"value": False, "reason": "Buy it first"}}), 403, "Buy it first"),
        (AccessAnswer(404, {"detail": "Mod not found"}), 404, "Mod not found"),
        (AccessAnswer(body="yes"), 502, "Access service returned an unexpected answer"),
        (AccessAnswer(drop=True), 503, "Access service unavailable"),
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
