"""What a Manager has the storage do, with both services running."""

from __future__ import annotations

import asyncio
import hashlib
import io
import uuid
from pathlib import Path

import httpx
import pytest
from PIL import Image

from open_workshop_storage.client import Storage, StorageError
from tests.support.archives import zip_of
from tests.support.client import upload
from tests.support.manager import Answer
from tests.support.services import Services, Ticket

pytestmark = pytest.mark.anyio

TEXT = {"text.txt": " ".join(map(str, range(100_000))).encode()}
CONTENT = bytes(range(256)) * 10_000


@pytest.fixture
def storage(services: Services, http: httpx.AsyncClient) -> Storage:
    tokens = services.secrets
    return Storage(
        http,
        services.loader,
        upload_file=tokens.upload_file,
        delete_file=tokens.delete_file,
        storage_manage_token=tokens.storage_manage_token,
    )


@pytest.fixture
async def packed(services: Services, http: httpx.AsyncClient) -> Ticket:
    """A transfer that waits to be moved."""
    ticket = services.ticket()
    services.manager.script(ticket.job_id, Answer(move=False))
    assert (await upload(http, services.loader, ticket.token, zip_of(TEXT))).status_code == 200
    return ticket


async def test_a_file_is_put_in_its_place_and_removed(services: Services, storage: Storage, tmp_path: Path) -> None:
    source, path = tmp_path / "source", f"{uuid.uuid4().hex}/über.bin"
    source.write_bytes(CONTENT)
    for content in (b"", CONTENT[:100], source):
        await storage.upload("resource", path, content)
        stored = services.main_dir / "resource" / path
        assert stored.read_bytes() == (content if isinstance(content, bytes) else CONTENT)
    await storage.delete("resource", path)
    assert not stored.exists()
    with pytest.raises(StorageError) as refusal:
        await storage.delete("resource", path)
    assert (refusal.value.status, refusal.value.message) == (404, "File not found")


async def test_an_image_is_normalised(services: Services, storage: Storage) -> None:
    picture, path = io.BytesIO(), f"{uuid.uuid4().hex}.webp"
    Image.new("RGB", (64, 48), "teal").save(picture, "PNG")
    await storage.upload("avatar", path, picture.getvalue(), "img")
    with Image.open(services.main_dir / "avatar" / path) as stored:
        assert (stored.format, stored.size) == ("WEBP", (64, 48))


async def test_what_is_no_image_is_refused_in_the_services_words(storage: Storage) -> None:
    with pytest.raises(StorageError) as refusal:
        await storage.upload("avatar", "a.webp", b"text", "img")
    assert (refusal.value.status, refusal.value.message) == (400, "Image expected")


async def test_a_packed_file_is_moved_and_the_same_call_is_answered_alike(
    services: Services, storage: Storage, packed: Ticket
) -> None:
    path = packed.path.removeprefix("archive/")
    moved = await storage.move(packed.job_id, "archive", path)
    content = (services.main_dir / packed.path).read_bytes()
    assert (moved.job_id, moved.final_path, moved.final_bytes) == (packed.job_id, packed.path, len(content))
    assert moved.sha256 == hashlib.sha256(content).hexdigest()
    assert moved.unpacked_bytes == sum(map(len, TEXT.values()))
    assert await storage.move(packed.job_id, "archive", path) == moved


async def test_a_packed_file_is_packed_again(services: Services, storage: Storage, packed: Ticket) -> None:
    sizes = []
    for again in (await storage.repack(packed.job_id), await storage.repack(packed.job_id, 9)):
        content = (services.main_dir / again.packed_path).read_bytes()
        assert (again.packed_bytes, again.sha256) == (len(content), hashlib.sha256(content).hexdigest())
        assert again.unpacked_bytes == sum(map(len, TEXT.values()))
        sizes.append(again.packed_bytes)
    assert sizes[0] > sizes[1]


async def test_wrong_tokens_are_refused(services: Services, http: httpx.AsyncClient) -> None:
    storage = Storage(http, services.loader + "/", upload_file="x", delete_file="x", storage_manage_token="x")
    calls = (
        storage.upload("resource", "a", b""),
        storage.delete("resource", "a"),
        storage.move("job-12345678", "archive", "a"),
        storage.repack("job-12345678"),
    )
    for refusal in await asyncio.gather(*calls, return_exceptions=True):
        assert isinstance(refusal, StorageError) and (refusal.status, refusal.message) == (403, "Access denied")
