"""Clients that a generator makes of the OpenAPI documents, and a whole transfer with nothing but them."""

from __future__ import annotations

import asyncio
import importlib
import io
import json
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from open_workshop_storage import distributor, loader
from tests.support.archives import SMALL_MOD, entries_of, zip_of
from tests.support.client import watching
from tests.support.manager import Answer
from tests.support.origins import reply, running_origin
from tests.support.services import Services

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize("services", ["memory"], indirect=True),
    # The generator's own way to send cookies.
    pytest.mark.filterwarnings("ignore:Setting per-request cookies:DeprecationWarning"),
]

DOCUMENTS = {"distributor_client": distributor.app.openapi(), "loader_client": loader.app.openapi()}


class Client:
    """One generated package.

    Attributes:
        models: What it makes bodies of, and reads answers into.
    """

    def __init__(self, package: str, base_url: str) -> None:
        for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
            importlib.import_module(module.name)
        self.models = importlib.import_module(f"{package}.models")
        self._package = package
        self._client = importlib.import_module(package).Client(base_url, raise_on_unexpected_status=True)

    def file(self, content: bytes) -> Any:
        """Return what the package takes for a file."""
        return importlib.import_module(f"{self._package}.types").File(io.BytesIO(content), "file")

    async def call(self, tag: str, operation: str, *path: str, **sent: Any) -> Any:
        """Call an operation; return its answer, with `status_code`, `parsed` and `headers`."""
        module = importlib.import_module(f"{self._package}.api.{tag}.{operation}")
        return await asyncio.to_thread(module.sync_detailed, *path, client=self._client, **sent)

    def close(self) -> None:
        """Close its connections."""
        self._client.get_httpx_client().close()


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder to import generated packages from."""
    folder = tmp_path_factory.mktemp("generated")
    config = {
        "post_hooks": [],
        "content_type_overrides": {"application/offset+octet-stream": "application/octet-stream"},
    }
    # JSON is YAML too.
    (folder / "config.yaml").write_text(json.dumps(config))
    for package, document in DOCUMENTS.items():
        (folder / "openapi.json").write_text(json.dumps(document))
        command = [*(sys.executable, "-m", "openapi_python_client", "generate", "--fail-on-warning", "--meta", "none")]
        command += ["--config", "config.yaml", "--path", "openapi.json", "--output-path", package]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))


@pytest.fixture
def loading(packages: Path, services: Services) -> Iterator[Client]:
    with closing(Client("loader_client", services.loader)) as client:
        yield client


@pytest.fixture
def distributing(packages: Path, services: Services) -> Iterator[Client]:
    with closing(Client("distributor_client", services.distributor)) as client:
        yield client


async def test_a_file_is_sent_packed_moved_and_downloaded(
    loading: Client, distributing: Client, services: Services
) -> None:
    ticket, token = services.ticket(), services.secrets.storage_manage_token
    services.manager.script(ticket.job_id, Answer(move=False))
    sent = await loading.call(
        "transfers", "upload_transfer", token=ticket.token, filename="a.zip", body=loading.file(zip_of(SMALL_MOD))
    )
    assert (sent.status_code, sent.parsed.job_id) == (200, ticket.job_id)
    form = loading.models.RepackTransferBody(token=token, job_id=ticket.job_id, compression_level=9)
    assert (await loading.call("transfers", "repack_transfer", body=form)).parsed.packed_bytes > 0
    place = f"mods/{ticket.mod_id}/main.zip"
    kind = loading.models.MoveTransferBodyType.ARCHIVE
    form = loading.models.MoveTransferBody(token=token, job_id=ticket.job_id, type_=kind, path=place)
    assert (await loading.call("transfers", "move_transfer", body=form)).parsed.final_path == f"archive/{place}"

    whole = await distributing.call("downloads", "download_file", "archive", place, access_token="a", filename="b")
    assert entries_of(whole.parsed.payload.read()) == SMALL_MOD
    part = await distributing.call("downloads", "download_file", "archive", place, range_="bytes=0-1")
    assert (part.status_code, part.parsed.payload.read()) == (206, b"PK")
    known = await distributing.call("downloads", "head_file", "archive", place, if_none_match=whole.headers["etag"])
    assert known.status_code == 304
    missing = await distributing.call("downloads", "download_file", "archive", "mods/7/none.zip")
    assert (missing.status_code, missing.parsed) == (404, "File not found")


async def test_a_fetch_is_started_and_watched(loading: Client, services: Services) -> None:
    async with running_origin(reply(200, body=zip_of(SMALL_MOD))) as origin:
        ticket = services.ticket(download_url=f"{origin.url}/mod.zip")
        form = loading.models.StartTransferByFormBody(token=ticket.token)
        started = await loading.call("transfers", "start_transfer_by_form", body=form)
        assert started.parsed.ws_url == f"/transfer/ws/{ticket.job_id}"
        async with watching(services.loader, ticket.job_id, ticket.token) as watcher:
            messages = [loading.models.ProgressMessage.from_dict(each) for each in await watcher.finish()]
    assert messages[-1].status == "packed"
    again = await loading.call("transfers", "start_transfer_by_query", token=ticket.token)
    assert again.parsed.status in ("packed", "moved")
    (callback,) = services.manager.wait_for_callbacks(ticket.job_id)
    assert loading.models.CallbackClaims.from_dict(callback.claims).status == "success"


async def test_files_are_stored_previewed_and_removed(
    loading: Client, distributing: Client, services: Services
) -> None:
    kind = loading.models.UploadFileBodyType.RESOURCE
    form = loading.models.UploadFileBody(services.secrets.upload_file, kind, "generated/a.txt", loading.file(b"text"))
    stored = await loading.call("files", "upload_file", body=form)
    assert (stored.status_code, stored.parsed) == (201, "generated/a.txt")
    wanted = distributing.models.ComputeBlurhashesBlurhashRequest(["/download/resource/generated/a.txt"])
    previews = await distributing.call("blurhashes", "compute_blurhashes", body=wanted)
    assert previews.parsed.items[0].blurhash is None
    kind = loading.models.DeleteFileBodyType.RESOURCE
    form = loading.models.DeleteFileBody(services.secrets.delete_file, kind, "generated/a.txt")
    assert (await loading.call("files", "delete_file", body=form)).parsed == "File deleted"
    refused = await loading.call("files", "delete_file", body=form)
    assert (refused.status_code, refused.parsed) == (404, "File not found")
