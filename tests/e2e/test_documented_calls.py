"""Every operation of the OpenAPI documents, called as Swagger UI calls it."""

from __future__ import annotations

import uuid
from email.utils import formatdate
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.support.archives import SMALL_MOD, zip_of
from tests.support.client import upload
from tests.support.documents import Operation, operations
from tests.support.images import saved
from tests.support.manager import Answer
from tests.support.services import Services

pytestmark = pytest.mark.anyio

PREFIXES = {"loader": "/loader", "distributor": "/distributor"}
METRICS = {"loader_metrics", "distributor_metrics"}
"""What is there only with `METRICS_ENABLED`, and called by tests/e2e/test_metrics.py."""


class Visitor:
    """A visitor of the Swagger pages that tries each operation.

    Attributes:
        left: Those not tried yet, by their ids, each with the base URL of its service.
    """

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.left: dict[str, tuple[str, Operation]] = {}
        self._http = http

    async def open(self, base_url: str, prefix: str) -> None:
        document = (await self._http.get(f"{base_url}{prefix}/openapi.json")).json()
        self.left |= {operation.id: (base_url, operation) for operation in operations(document)}

    async def call(self, operation_id: str, **values: Any) -> httpx.Response:
        """Try an operation, which must succeed and answer as it is described."""
        base_url, operation = self.left.pop(operation_id)
        answer = await self._http.send(operation.request(base_url, **values))
        assert answer.is_success, (operation_id, answer.text)
        operation.check(answer)
        return answer


async def test_each_operation_works_as_it_is_described(services: Services, http: httpx.AsyncClient) -> None:
    visitor = Visitor(http)
    for name, prefix in PREFIXES.items():
        await visitor.open(services.servers[name].url, prefix)
    call = visitor.call

    for name in ("loader_healthz", "loader_readyz", "distributor_healthz", "distributor_readyz"):
        await call(name)

    folder, picture = uuid.uuid4().hex, saved(Image.new("RGB", (64, 48), "teal"), "PNG")
    cover, secrets = f"{folder}/cover.webp", services.secrets
    await call("upload_file", token=secrets.upload_file, type="resource", path=cover, file_kind="img", file=picture)
    hashed = await call("compute_blurhashes", paths=[f"/download/resource/{cover}"])
    assert hashed.json()["items"][0]["width"] == 64
    part = await call("download_file", type="resource", path=cover, filename="cover", Range="bytes=0-3")
    assert (part.status_code, part.content) == (206, b"RIFF")
    await call("delete_file", token=secrets.delete_file, type="resource", path=cover)

    for name in ("start_transfer_by_query", "start_transfer_by_form"):
        await call(name, token=services.ticket(download_url="http://192.0.2.1/mod.zip").token)

    resumable = services.ticket()
    tus = {"token": resumable.token, "Tus-Resumable": "1.0.0"}
    piece = tus | {"job_id": resumable.job_id, "body": b"some", "Upload-Offset": "0"}
    await call("create_resumable_upload", **tus, **{"Upload-Length": "9"}, body=b"")
    await call("continue_resumable_upload", **piece)
    await call("find_resumable_upload", token=resumable.token, job_id=resumable.job_id)
    await call("cancel_resumable_upload", **tus, job_id=resumable.job_id)

    ticket = services.ticket()
    services.manager.script(ticket.job_id, Answer(move=False))
    await call("upload_transfer", token=ticket.token, filename="mod.zip", body=zip_of(SMALL_MOD))
    watched = await call("watch_transfer", token=ticket.token, job_id=ticket.job_id)
    assert '"event":"complete"' in watched.text
    manage = {"token": secrets.storage_manage_token, "job_id": ticket.job_id}
    await call("repack_transfer", **manage)
    await call("move_transfer", **manage, type="archive", path=f"mods/{ticket.mod_id}/main.zip")
    moved = {"type": "archive", "path": f"mods/{ticket.mod_id}/main.zip"}
    await call("head_file", **moved)
    listing = (await call("get_contents", **moved)).json()
    assert {entry["name"]: entry["bytes"] for entry in listing["entries"]} == {
        name: len(content) for name, content in SMALL_MOD.items()
    }
    await call("head_contents", **moved, entry="mod/empty.txt")

    told = (await call("status", bearer=secrets.storage_manage_token)).json()
    assert ticket.job_id in {job["job_id"] for job in told["jobs"]}
    paused, undelivered = services.ticket(), services.ticket()
    await http.post(
        f"{services.loader}/transfer/tus/",
        headers={"Tus-Resumable": "1.0.0", "Upload-Length": "9"},
        params={"token": paused.token},
    )
    await call("cancel_transfer", bearer=secrets.storage_manage_token, job_id=paused.job_id)
    services.manager.script(undelivered.job_id, Answer(status=503, headers={"Retry-After": "600"}, move=False))
    await upload(http, services.loader, undelivered.token, zip_of(SMALL_MOD))
    jti = services.manager.wait_for_callbacks(undelivered.job_id)[0].claims["jti"]
    await call("deliver_callback", bearer=secrets.storage_manage_token, jti=jti)

    assert visitor.left.keys() == METRICS


async def assert_described(
    http: httpx.AsyncClient, services: Services, path: str, *answers: tuple[int, dict[str, str]]
) -> None:
    """Ask for a file by all methods of a path, and check that each answer is one that the document describes."""
    document = (await http.get(f"{services.distributor}/distributor/openapi.json")).json()
    for operation in operations(document):
        if operation.path != path:
            continue
        for status, asked in answers:
            if status in (206, 416) and operation.method == "head":
                continue
            answer = await http.send(operation.request(services.distributor, type="resource", **asked))
            assert answer.status_code == status
            operation.check(answer)


async def test_what_else_a_file_of_an_archive_may_be_answered_is_described_too(
    services: Services, http: httpx.AsyncClient
) -> None:
    path, stored = f"{uuid.uuid4().hex}.zip", f"{uuid.uuid4().hex}.zip"
    services.stored(f"resource/{path}", zip_of({"a.json": b"[]", "b.bin": b"b" * 99}))
    services.stored(f"resource/{stored}", zip_of({"a.json": b"[]"}, 0))
    await assert_described(
        http,
        services,
        "/contents/{type}/{path}",
        (200, {"path": path, "entry": "a.json"}),
        (200, {"path": path, "entry": "b.bin", "Accept-Encoding": "gzip"}),
        (200, {"path": stored, "entry": "a.json"}),
        (304, {"path": path, "entry": "a.json", "If-Modified-Since": formatdate(usegmt=True)}),
        (304, {"path": path, "If-Modified-Since": formatdate(usegmt=True)}),
        (412, {"path": path, "entry": "a.json", "If-Match": '"another"'}),
        (404, {"path": path, "entry": "c"}),
        (206, {"path": stored, "entry": "a.json", "Range": "bytes=0-0"}),
        (416, {"path": stored, "entry": "a.json", "Range": "bytes=7-"}),
    )


async def test_what_else_a_download_may_be_answered_is_described_too(
    services: Services, http: httpx.AsyncClient
) -> None:
    path = f"{uuid.uuid4().hex}/page.html"
    services.stored(f"resource/{path}", b"content")
    await assert_described(
        http,
        services,
        "/download/{type}/{path}",
        (304, {"path": path, "If-Modified-Since": formatdate(usegmt=True)}),
        (412, {"path": path, "If-Match": '"another"'}),
        (416, {"path": path, "Range": "bytes=7-"}),
        (206, {"path": path, "Range": "bytes=0-1,3-4"}),
    )


async def test_the_swagger_page_needs_no_other_host(services: Services, http: httpx.AsyncClient) -> None:
    for name, prefix in PREFIXES.items():
        base_url = services.servers[name].url
        page = (await http.get(f"{base_url}{prefix}/")).text
        assert "://" not in page
        for file in ("swagger-ui-bundle.js", "swagger-ui.css", "favicon-32x32.png"):
            assert f"{prefix}/swagger/{file}" in page
            answer = await http.get(f"{base_url}{prefix}/swagger/{file}")
            assert answer.status_code == 200 and answer.content
            # With `nosniff` browsers take scripts and styles by nothing else.
            assert answer.headers["content-type"].partition(";")[0] in ("text/javascript", "text/css", "image/png")
