"""How parts of files are sent, and how much of the memory clients can take that do not read."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from starlette.types import Message

from open_workshop_storage.services.downloads.block_sender import BlockSender
from open_workshop_storage.services.storage.files import MOST_READ_BYTES, OpenedFile
from open_workshop_storage.services.storage.local import LocalFiles

pytestmark = pytest.mark.anyio

FILE_BYTES = 1 << 30
# What granian takes of a body ahead of a client that does not read (hyper's writer, granian's queue).
WRITER_BYTES, WRITER_BLOCKS, QUEUED_BLOCKS = 408 * 1024, 16, 5


class Client:
    """A client behind a server that takes in some of the body ahead.

    Args:
        reads: How many bytes it reads before it stops, without and with a pause of its own in the middle.
    """

    def __init__(self, reads: int = 0, pause_seconds: float = 0) -> None:
        self.blocks: list[int] = []
        self.content = bytearray()
        self.is_stuck = asyncio.Event()
        self._reads = reads
        self._pause_seconds = pause_seconds
        self._leaves = asyncio.Event()

    async def receive(self) -> Message:
        """Wait until the client leaves."""
        await self._leaves.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Copy a block, as granian does, and wait once the client does not read and all places are taken."""
        body = message.get("body", b"")
        self.blocks.append(len(body))
        if sum(self.blocks) <= self._reads:
            self.content += body
            if self._pause_seconds and sum(self.blocks) * 2 > self._reads:
                await asyncio.sleep(self._pause_seconds)
                self._pause_seconds = 0
        elif self.held > 0 and not self._has_room():
            self.is_stuck.set()
            await asyncio.Event().wait()

    @property
    def held(self) -> int:
        """What the server holds for the client, in bytes."""
        return sum(self.blocks) - self._reads

    def _has_room(self) -> bool:
        count = written = 0
        for length in self._unread():
            if written >= WRITER_BYTES or count >= WRITER_BLOCKS:
                break
            count, written = count + 1, written + length
        return len(self._unread()) - count < QUEUED_BLOCKS

    def _unread(self) -> list[int]:
        unread, left = [], self.held
        for length in reversed(self.blocks):
            if left <= 0:
                break
            unread.append(length)
            left -= length
        return unread[::-1]


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[OpenedFile]:
    """A file without content, but with a length."""
    (tmp_path / "resource").mkdir()
    (tmp_path / "resource/large.bin").touch()
    os.truncate(tmp_path / "resource/large.bin", FILE_BYTES)
    files = LocalFiles(tmp_path)
    async with files.open(await files.find("resource", "large.bin")) as opened:
        yield opened


async def stuck(sender: BlockSender, opened: OpenedFile, client: Client) -> asyncio.Task[None]:
    """Return what sends to a client that does not take all of it."""
    task = asyncio.create_task(sender.send(opened, [range(FILE_BYTES)], client.receive, client.send))
    await client.is_stuck.wait()
    return task


async def leave(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


@pytest.mark.parametrize("reads", [0, 4 << 20], ids=["nothing", "what the kernel takes"])
async def test_clients_that_stop_reading_hold_little_memory_together(reads: int, opened: OpenedFile) -> None:
    sender = BlockSender(MOST_READ_BYTES)
    clients = [Client(reads) for _ in range(200)]
    tasks = [await stuck(sender, opened, client) for client in clients]
    assert clients[0].blocks[0] == 256 * 1024
    assert sum(client.held for client in clients) < 85e6
    await leave(tasks)


async def test_clients_that_leave_make_room_for_others(opened: OpenedFile) -> None:
    sender = BlockSender(MOST_READ_BYTES)
    tasks = [await stuck(sender, opened, Client()) for _ in range(100)]
    late = Client()
    tasks.append(await stuck(sender, opened, late))
    assert late.blocks[0] < 16 * 1024
    await leave(tasks)
    next_one = Client()
    await leave([await stuck(sender, opened, next_one)])
    assert next_one.blocks[0] == 256 * 1024


async def test_a_client_that_keeps_the_server_waiting_makes_room_and_may_have_it_again(opened: OpenedFile) -> None:
    sender = BlockSender(MOST_READ_BYTES)
    pausing = Client(reads=32 << 20, pause_seconds=0.3)
    task = await stuck(sender, opened, pausing)
    pause = next(index for index, length in enumerate(pausing.blocks) if length != pausing.blocks[0])
    after = pausing.blocks[pause:]
    assert set(pausing.blocks[:pause]) == {256 * 1024}
    assert max(after[:1000]) == 8 * 1024 and after[-1] == 256 * 1024
    await leave([task])


async def test_blocks_of_any_size_make_up_the_pieces(tmp_path: Path) -> None:
    content = secrets.token_bytes(3 << 20)
    (tmp_path / "resource").mkdir()
    (tmp_path / "resource/x").write_bytes(content)
    files = LocalFiles(tmp_path)
    client = Client(reads=1 << 40)
    pieces: list[bytes | range] = [b"head", range(5, 2_000_000), b"", range(2_900_000, 3_000_000), b"tail"]
    async with files.open(await files.find("resource", "x")) as opened:
        await BlockSender(MOST_READ_BYTES).send(opened, pieces, client.receive, client.send)
    assert bytes(client.content) == b"head" + content[5:2_000_000] + content[2_900_000:3_000_000] + b"tail"


async def test_an_answer_is_broken_off_where_the_file_ends_too_early(
    opened: OpenedFile, caplog: pytest.LogCaptureFixture
) -> None:
    client = Client(reads=1 << 40)
    await BlockSender(MOST_READ_BYTES).send(
        opened, [range(FILE_BYTES - 10, FILE_BYTES + 10)], client.receive, client.send
    )
    # The message that ends an answer has no bytes.
    assert client.blocks == [10]
    assert "shorter" in caplog.text


class Sequential:
    """Reads on from where it is, whatever offset is named, as an entry of a ZIP does."""

    def __init__(self, *blocks: bytes) -> None:
        self._blocks = [*blocks]

    async def read(self, offset: int, length: int) -> bytes:
        return self._blocks.pop(0)


async def test_what_comes_in_blocks_smaller_than_asked_for_is_sent_once_and_whole() -> None:
    client = Client(reads=1 << 40)
    await BlockSender(MOST_READ_BYTES).send(Sequential(b"ab", b"cd"), [range(4)], client.receive, client.send)
    assert bytes(client.content) == b"abcd"
