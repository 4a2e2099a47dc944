"""A disk that has no room beyond `STORAGE_RESERVE_BYTES`."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial

import httpx
import pytest
from PIL import Image

from open_workshop_storage.client import StorageError
from tests.conftest import ServiceStarter
from tests.e2e.under_way import Fetch, Transfers, Upload, reported
from tests.support.archives import SMALL_MOD, compressed_tar_of, entries_of, seven_zip_of, tar_of, zip_of
from tests.support.client import upload
from tests.support.images import saved
from tests.support.manager import Answer
from tests.support.mounts import skipping_if_refused
from tests.support.services import Services, Ticket
from tests.support.small_disk import SmallDisk, small_disk

pytestmark = pytest.mark.anyio

MIB = 1 << 20
RESERVE = 4 * MIB
MOD = zip_of(SMALL_MOD)
NOISE = random.Random(8).randbytes(3 * MIB)
LARGE_MOD = zip_of({"noise": NOISE, "zeros": bytes(MIB)})
ZEROS = {"zeros.bin": bytes(20 * MIB)}
PICTURE_SIDE = 1200


@pytest.fixture(scope="module")
def disks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SmallDisk, SmallDisk]]:
    folder = tmp_path_factory.mktemp("disks")
    with skipping_if_refused(), small_disk(folder / "root") as root, small_disk(folder / "archive") as archive:
        (root.folder / "archive").symlink_to(archive.folder)
        yield root, archive


@pytest.fixture(scope="module")
def loader(disks: tuple[SmallDisk, SmallDisk], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """A loader whose storage root is the first disk, and whose archives are on the second."""
    root = disks[0].folder
    with ExitStack() as stack:
        start = ServiceStarter(tmp_path_factory, stack)
        services = start(apps=["loader"], MAIN_DIR=str(root), STORAGE_RESERVE_BYTES=RESERVE)
        yield replace(services, main_dir=root)


@pytest.fixture
def disk(disks: tuple[SmallDisk, SmallDisk]) -> Iterator[SmallDisk]:
    """The storage root's disk, empty again afterwards."""
    yield disks[0]
    disks[0].clear()


@pytest.fixture
async def transfers(loader: Services, http: httpx.AsyncClient) -> AsyncIterator[Transfers]:
    async with AsyncExitStack() as stack:
        yield Transfers(loader, http, stack)


async def in_pieces(body: bytes) -> AsyncIterator[bytes]:
    yield body


async def assert_healthy(services: Services, http: httpx.AsyncClient, ticket: Ticket) -> None:
    ready = await http.get(f"{services.loader}/loader/readyz")
    assert ready.status_code == 200
    assert (await upload(http, services.loader, ticket.token, MOD)).status_code == 200
    assert entries_of((services.main_dir / ticket.path).read_bytes()) == SMALL_MOD


@asynccontextmanager
async def without_room(disk: SmallDisk, room: int, services: Services, http: httpx.AsyncClient) -> AsyncIterator[None]:
    """Leave so many bytes beyond the reserve; afterwards check that none is taken, and that all is well with more."""
    disk.leave(RESERVE + room)
    before = disk.free()
    yield
    assert disk.free() == before
    disk.clear()
    await assert_healthy(services, http, services.ticket())


async def assert_no_space(sent: Upload | Fetch, loader: Services) -> None:
    if isinstance(sent, Upload):
        answer = await sent.answer
        assert (answer.status_code, answer.text) == (507, "No space left")
    (callback,) = await reported(loader, sent.ticket)
    assert (callback.claims["status"], callback.claims["reason"]) == ("error", "no_space")
    assert not list((loader.main_dir / "temp").iterdir())


@pytest.mark.parametrize(
    ("step", "room", "body"),
    [
        ("an announced body", 2 * MIB, LARGE_MOD),
        ("a body of unknown size", 2 * MIB, in_pieces(LARGE_MOD)),
        ("extraction", 10 * MIB, seven_zip_of(ZEROS)),
        ("extraction of unknown size", 10 * MIB, compressed_tar_of(ZEROS, "gz")),
        ("packing", 8 * MIB, tar_of({"noise": NOISE})),
    ],
)
async def test_an_upload_without_room_ends_so_and_leaves_nothing_behind(
    step: str,
    room: int,
    body: bytes | AsyncIterator[bytes],
    disk: SmallDisk,
    transfers: Transfers,
    loader: Services,
    http: httpx.AsyncClient,
) -> None:
    async with without_room(disk, room, loader, http):
        await assert_no_space(transfers.upload(body), loader)


async def test_an_image_that_is_larger_than_the_room_for_it_is_not_kept(
    disk: SmallDisk, transfers: Transfers, loader: Services, http: httpx.AsyncClient
) -> None:
    # Room for what is sent, but not for what is made of it.
    async with without_room(disk, 3 * PICTURE_SIDE**2 + MIB // 2, loader, http):
        await assert_no_space(transfers.upload_image(PICTURE_SIDE), loader)


async def test_a_fetch_without_room_ends_so_and_leaves_nothing_behind(
    disk: SmallDisk, transfers: Transfers, loader: Services, http: httpx.AsyncClient
) -> None:
    async with without_room(disk, 2 * MIB, loader, http):
        await assert_no_space(await transfers.fetch(LARGE_MOD), loader)


@pytest.mark.parametrize("kind", ["bin", "img"])
async def test_a_file_of_the_managers_without_room_is_refused_and_the_old_one_stays(
    kind: str, disk: SmallDisk, loader: Services, http: httpx.AsyncClient
) -> None:
    picture = saved(Image.frombytes("RGB", (PICTURE_SIDE, PICTURE_SIDE), NOISE * 2, "raw"), "BMP")
    path = f"{kind}.webp"
    old = loader.stored(f"resource/{path}", b"old")
    form = {"token": loader.secrets.upload_file, "type": "resource", "path": path, "file_kind": kind}
    size = len(picture)

    async def send() -> httpx.Response:
        return await http.post(f"{loader.loader}/upload", data=form, files={"file": picture})

    # The token is remembered in a file of its own.
    assert (
        await http.post(f"{loader.loader}/upload", data=form | {"type": "archive"}, files={"file": b""})
    ).status_code == 400
    disk.leave(RESERVE + (size // 2 if kind == "bin" else size + MIB // 2))
    before = disk.free()
    answer = await send()
    assert (answer.status_code, answer.text) == (507, "No space left")
    assert old.read_bytes() == b"old"
    assert disk.free() == before
    disk.clear()
    assert (await send()).status_code == 201
    assert old.read_bytes() != b"old"


async def test_a_move_to_a_full_disk_is_refused_and_may_be_said_again(
    disks: tuple[SmallDisk, SmallDisk], loader: Services, http: httpx.AsyncClient
) -> None:
    archive = disks[1]
    ticket = loader.ticket()
    loader.manager.script(ticket.job_id, Answer(move=False))
    assert (await upload(http, loader.loader, ticket.token, LARGE_MOD)).status_code == 200

    move = partial(loader.manager.move, ticket.job_id, "archive", ticket.path.removeprefix("archive/"))
    archive.leave(RESERVE + 2 * MIB)
    before = archive.free()
    with pytest.raises(StorageError, match="507 No space left"):
        await asyncio.to_thread(move)
    assert archive.free() == before
    archive.clear()
    await asyncio.to_thread(move)
    assert (loader.main_dir / ticket.path).read_bytes() == LARGE_MOD


async def test_a_disk_down_to_its_reserve_is_said_to_be_missing(
    disk: SmallDisk, loader: Services, http: httpx.AsyncClient
) -> None:
    disk.leave(RESERVE - MIB)
    ready = await http.get(f"{loader.loader}/loader/readyz")
    assert (ready.status_code, ready.json()) == (503, {"status": "unavailable", "missing": ["disk"]})
    disk.clear()
    await assert_healthy(loader, http, loader.ticket())
