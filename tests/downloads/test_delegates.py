"""Downloads that the store or an nginx sends."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from open_workshop_storage.services.downloads.delegates import delegate_of
from open_workshop_storage.services.downloads.plan import plan_answer
from open_workshop_storage.services.storage.bucket import Bucket
from open_workshop_storage.services.storage.bucket_requests import Credentials
from open_workshop_storage.services.storage.files import Facts, StorageType, StoredFile
from open_workshop_storage.services.storage.objects import ObjectFiles
from open_workshop_storage.utils.auth.s3_signatures import signed_url
from tests.support.configs import Secrets
from tests.support.in_process import make_settings
from tests.support.manager import AccessAnswer
from tests.support.nginx import OBJECT_PREFIX, nginx, object_site_for
from tests.support.object_store import settings_of
from tests.support.origins import Request, reply, running_origin
from tests.support.services import Services, running_services

pytestmark = pytest.mark.anyio

CONTENT = secrets.token_bytes(3 * 1024 * 1024 + 17)
NAMES = ("resource/a мод 100%+~(b).webp", "archive/mods/7/main.zip")
COOKIES = {"cookie": "accessToken=a; refreshToken=r"}
DIGEST = "5e" * 32


@dataclass(frozen=True)
class Front:
    """A distributor over a bucket.

    Attributes:
        url: What clients see of it.
        endpoint: The store's own.
    """

    url: str
    endpoint: str
    services: Services

    def address(self, name: str) -> str:
        return f"{self.url}/download/{quote(name)}"


async def fill(bucket: Credentials, prefix: str, folder: Path) -> None:
    """Put `CONTENT` under each of the names, under the first as another program would."""
    ours = bucket._replace(prefix=f"{prefix}/")
    async with httpx.AsyncClient() as http, aclosing(Bucket(ours)) as opened:
        url = signed_url(bucket.key, "PUT", ours.url(NAMES[0]), 60)
        (await http.put(url, content=CONTENT, headers={"content-type": "text/html"})).raise_for_status()
        (folder / "source").write_bytes(CONTENT)
        await ObjectFiles(opened).put(folder / "source", NAMES[1], Facts(7, DIGEST))


@pytest.fixture(scope="module")
def prefix() -> str:
    return f"test-{secrets.token_hex(8)}"


@pytest.fixture(scope="module")
def redirecting(tmp_path_factory: pytest.TempPathFactory, bucket: Credentials, prefix: str) -> Iterator[Front]:
    settings: dict[str, Any] = settings_of(bucket, S3_PREFIX=prefix, S3_DOWNLOADS="redirect")
    with running_services(tmp_path_factory.mktemp("redirecting"), apps=["distributor"], **settings) as services:
        yield Front(services.distributor, bucket.endpoint, services)


@pytest.fixture(scope="module")
def behind_nginx(tmp_path_factory: pytest.TempPathFactory, bucket: Credentials, prefix: str) -> Iterator[Front]:
    folder = tmp_path_factory.mktemp("behind-nginx")
    settings: dict[str, Any] = settings_of(bucket, S3_PREFIX=prefix, ACCEL_REDIRECT_PREFIX=OBJECT_PREFIX)
    with running_services(folder, apps=["distributor"], **settings) as services:
        with nginx(folder, object_site_for(bucket.endpoint), services.servers["distributor"].port) as server:
            yield Front(server.url, bucket.endpoint, services)


@pytest.mark.parametrize("name", NAMES)
async def test_a_redirect_leads_to_the_object_with_its_labels(
    name: str, redirecting: Front, http: httpx.AsyncClient, bucket: Credentials, prefix: str, tmp_path: Path
) -> None:
    await fill(bucket, prefix, tmp_path)
    answer = await http.get(redirecting.address(name), params={"filename": "mine"}, headers=COOKIES)
    assert (answer.status_code, answer.content) == (302, b"")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["location"].startswith(f"{bucket.endpoint}/")
    there = await http.get(answer.headers["location"])
    assert (there.status_code, there.content) == (200, CONTENT)
    extension = name.rpartition(".")[2]
    assert there.headers["content-disposition"] == f'attachment; filename="mine.{extension}"'
    assert there.headers["content-type"] == ("image/webp" if extension == "webp" else "application/zip")
    part = await http.get(
        answer.headers["location"], headers={"range": "bytes=5-9", "if-range": answer.headers["etag"]}
    )
    assert (part.status_code, part.content) == (206, CONTENT[5:10])
    other = answer.headers["location"].replace(quote(name), "resource/other")
    assert (await http.get(other)).status_code == 403


async def test_what_needs_no_bytes_is_answered_here(
    redirecting: Front, http: httpx.AsyncClient, bucket: Credentials, prefix: str, tmp_path: Path
) -> None:
    await fill(bucket, prefix, tmp_path)
    url = redirecting.address(NAMES[1])
    head = await http.head(url, headers=COOKIES)
    assert (head.status_code, head.headers["content-length"]) == (200, str(len(CONTENT)))
    assert head.headers["x-unpacked-bytes"] == "7"
    known = await http.get(url, headers={**COOKIES, "if-none-match": head.headers["etag"]})
    beyond = await http.get(url, headers={**COOKIES, "range": f"bytes={len(CONTENT)}-"})
    assert (known.status_code, beyond.status_code) == (304, 416)
    assert (await http.get(url.replace("main", "other"), headers=COOKIES)).status_code == 404


async def test_nginx_fetches_what_a_client_may_have(
    behind_nginx: Front, http: httpx.AsyncClient, bucket: Credentials, prefix: str, tmp_path: Path
) -> None:
    await fill(bucket, prefix, tmp_path)
    for name in NAMES:
        url = behind_nginx.address(name)
        head = await http.head(url, params={"filename": "mine"}, headers=COOKIES)
        whole = await http.get(url, params={"filename": "mine"}, headers=COOKIES)
        assert (whole.status_code, whole.content) == (200, CONTENT)
        dropped = {"date", "server", "connection", "x-unpacked-bytes"}
        assert {key: value for key, value in whole.headers.multi_items() if key not in dropped} == {
            key: value for key, value in head.headers.multi_items() if key not in dropped
        }
        assert len(whole.headers.multi_items()) == len(whole.headers)
        tag = {"if-range": whole.headers["etag"]}
        part = await http.get(url, headers={**COOKIES, **tag, "range": "bytes=5-9"})
        assert (part.status_code, part.content) == (206, CONTENT[5:10])
        other = await http.get(url, headers={**COOKIES, "if-range": '"other"', "range": "bytes=5-9"})
        assert (other.status_code, other.content) == (200, CONTENT)
        parts = await http.get(url, headers={**COOKIES, "range": "bytes=0-0,5-9"})
        assert (parts.status_code, CONTENT[5:10] in parts.content) == (206, True)
        known = await http.get(url, headers={**COOKIES, "if-none-match": whole.headers["etag"]})
        assert known.status_code == 304
    manager = behind_nginx.services.manager
    manager.access["7"] = AccessAnswer(body={"download": {"value": False, "reason": "No"}})
    refused = await http.get(behind_nginx.address(NAMES[1]), headers=COOKIES)
    assert (refused.status_code, refused.text) == (403, "No")
    assert (await http.get(f"{behind_nginx.url}{OBJECT_PREFIX}/{bucket.bucket}/x")).status_code == 404


async def test_nginx_asks_again_if_another_file_takes_the_place_of_the_one_that_was_judged(
    http: httpx.AsyncClient, bucket: Credentials, prefix: str, tmp_path: Path
) -> None:
    await fill(bucket, prefix, tmp_path)
    url = signed_url(bucket.key, "GET", bucket.url(f"{prefix}/{NAMES[1]}"), 60)
    etag = (await http.get(url)).headers["etag"]
    lead = f"X-Accel-Redirect: {OBJECT_PREFIX}{url.removeprefix(bucket.endpoint)}"
    answers = [reply(200, lead, f"ETag: {tag}", f"Repr-Digest: {tag}") for tag in ('"old"', '"older"', etag)]

    async def judge(request: Request, writer: asyncio.StreamWriter) -> bytes:
        return answers[len(distributor.requests) - 1]

    async with running_origin(judge) as distributor:
        with nginx(tmp_path, object_site_for(bucket.endpoint), distributor.port) as front:
            answer = await http.get(f"{front.url}/download/a%20b?filename=%C3%B6", headers={"range": "bytes=5-9"})
    assert (answer.status_code, answer.content, answer.headers["repr-digest"]) == (206, CONTENT[5:10], etag)
    assert {request.target for request in distributor.requests} == {"/download/a%20b?filename=%C3%B6"}
    assert {request.headers["range"] for request in distributor.requests} == {"bytes=5-9"}
    assert len(distributor.requests) == len(answers)


@pytest.mark.parametrize(
    ("requested", "is_handed_over"),
    [
        ({}, True),
        ({"range": "bytes=0-9"}, True),
        ({"range": "bytes=0-9", "if-range": '"tag"'}, True),
        ({"range": "bytes=0-9,20-29"}, False),
        ({"range": "items=0-9"}, False),
        ({"range": "bytes=100-"}, False),
        ({"if-none-match": '"tag"'}, False),
        ({"if-match": '"tag"'}, False),
        ({"if-unmodified-since": "Sun, 06 Nov 1994 08:49:37 GMT"}, False),
    ],
)
def test_nginx_gets_only_what_it_sends_as_we_would(
    requested: dict[str, str], is_handed_over: bool, tmp_path: Path
) -> None:
    file = StoredFile("archive/a/x y.zip", StorageType.ARCHIVE, 100, 784111777 * 10**9, ("tag",), None)
    planned = plan_answer("GET", requested, file, None, "no-cache")
    delegate = delegate_of(make_settings(tmp_path, Secrets(), accel_redirect_prefix="/stored"))
    assert delegate is not None
    answer = delegate(planned, requested, file)
    assert (answer == planned) is not is_handed_over
    if is_handed_over:
        assert answer.status is HTTPStatus.OK and not answer.pieces
        assert dict(answer.headers)[b"x-accel-redirect"] == b"/stored/archive/a/x%20y.zip"
        assert dict(answer.headers)[b"content-length"] == b"0"
