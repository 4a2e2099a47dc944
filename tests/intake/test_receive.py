"""Writing a body to a file."""

from __future__ import annotations

import asyncio
import os
import random
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from open_workshop_storage.core.changes import Pace
from open_workshop_storage.core.errors import ClientGone, FileTooLarge, NoSpace, UploadTimedOut
from open_workshop_storage.services.intake.receive import BLOCK_BYTES, ReceiveLimits, receive
from open_workshop_storage.utils.files.digests import FileDigest
from tests.support.mounts import skipping_if_refused
from tests.support.standing_disk import standing_disk, waiting_threads

pytestmark = pytest.mark.anyio

UNLIMITED = ReceiveLimits(
    max_bytes=0, total_seconds=0, idle_seconds=0, min_bytes_per_second=0, reserve_bytes=0, timed_out=UploadTimedOut
)
BLOCK = random.Random(8).randbytes(3_000_000)


async def sent(chunks: Sequence[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


@pytest.mark.parametrize("size", [61, 400_000, len(BLOCK)])
async def test_chunks_of_every_size_arrive_in_order_and_to_the_byte(size: int, tmp_path: Path) -> None:
    chunks = [BLOCK[start : start + size] for start in range(0, len(BLOCK), size)]
    told: list[int] = []
    received, _ = await receive(sent(chunks), tmp_path / "new" / "file", UNLIMITED, None, told.append)
    assert received == len(BLOCK)
    assert (tmp_path / "new" / "file").read_bytes() == BLOCK
    assert told == sorted(told) and told[-1] == len(BLOCK)


async def test_a_body_goes_on_where_an_earlier_one_ended(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_bytes(BLOCK[:1000] + b"not confirmed")
    size, _ = await receive(sent([BLOCK[1000:]]), target, UNLIMITED, len(BLOCK), lambda count: None, 1000)
    assert size == len(BLOCK)
    assert target.read_bytes() == BLOCK


@pytest.mark.parametrize(("size", "is_on_disk"), [(0, True), (1000, True), (len(BLOCK), False)])
async def test_only_a_small_body_is_on_the_disk_at_once(size: int, is_on_disk: bool, tmp_path: Path) -> None:
    received = await receive(sent([BLOCK[:size]]), tmp_path / "file", UNLIMITED, None, lambda count: None)
    assert received == (size, is_on_disk)


@pytest.mark.parametrize("offset", [0, 1000])
async def test_a_large_body_is_on_the_disk_where_that_is_asked_for(offset: int, tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_bytes(BLOCK[:offset])
    chunks = [BLOCK[start : start + 400_000] for start in range(offset, len(BLOCK), 400_000)]
    received = await receive(sent(chunks), target, UNLIMITED, None, lambda count: None, offset, durably=True)
    assert received == (len(BLOCK), True)
    assert target.read_bytes() == BLOCK


@pytest.mark.parametrize("limit", [0, 1000])
async def test_no_file_stays_open_when_its_body_has_ended(limit: int, tmp_path: Path) -> None:
    limits = replace(UNLIMITED, max_bytes=limit)
    with suppress(FileTooLarge):
        await receive(sent([BLOCK[:900], BLOCK]), tmp_path / "file", limits, 900, lambda count: None)
    assert str(tmp_path / "file") not in [
        os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.exists()
    ]


@pytest.mark.parametrize(("offset", "size", "times"), [(0, len(BLOCK), 1), (1000, len(BLOCK), 0), (0, 1000, 0)])
async def test_the_first_block_of_a_large_file_is_judged_before_it_is_written(
    offset: int, size: int, times: int, tmp_path: Path
) -> None:
    target = tmp_path / "file"
    target.write_bytes(BLOCK[:offset])
    judged: list[bytes] = []

    def judge(block: bytes) -> None:
        judged.append(block)
        assert target.stat().st_size == 0

    chunks = [BLOCK[start : start + 7000] for start in range(offset, size, 7000)]
    await receive(sent(chunks), target, UNLIMITED, None, lambda count: None, offset, judge)
    assert len(judged) == times
    assert all(BLOCK.startswith(block) and len(block) >= BLOCK_BYTES for block in judged)


async def test_no_space_is_set_aside_for_what_was_only_announced(tmp_path: Path) -> None:
    target = tmp_path / "file"
    seen: list[tuple[int, int]] = []

    async def body() -> AsyncIterator[bytes]:
        yield BLOCK[:600_000]
        seen.append((target.stat().st_size, target.stat().st_blocks * 512))
        yield BLOCK[600_000:]

    await receive(body(), target, UNLIMITED, len(BLOCK), lambda count: None)
    ((size, blocks),) = seen
    assert size <= 600_000, "a file that is not complete must not look so"
    assert blocks < 1_000_000


async def test_less_than_was_announced_is_an_interruption(tmp_path: Path) -> None:
    with pytest.raises(ClientGone, match="^Upload interrupted$"):
        await receive(sent([BLOCK[:600_000]]), tmp_path / "file", UNLIMITED, 600_001, lambda count: None)
    size, _ = await receive(sent([BLOCK]), tmp_path / "file", UNLIMITED, 600_001, lambda count: None)
    assert size == len(BLOCK), "a hint may say too little"


async def test_less_than_a_block_takes_no_disk_space_before_its_end(tmp_path: Path) -> None:
    seen: list[bool] = []

    async def body() -> AsyncIterator[bytes]:
        yield BLOCK[:500_000]
        seen.append((tmp_path / "new").exists())

    await receive(body(), tmp_path / "new" / "file", UNLIMITED, None, lambda count: None)
    assert seen == [False]
    assert (tmp_path / "new" / "file").read_bytes() == BLOCK[:500_000]


async def test_a_sender_below_its_rate_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("open_workshop_storage.services.intake.receive._FIRST_SECONDS", 0.1)

    async def dripping() -> AsyncIterator[bytes]:
        while True:
            yield b"x"
            await asyncio.sleep(0.01)

    with pytest.raises(UploadTimedOut):
        limits = replace(UNLIMITED, min_bytes_per_second=10_000)
        await receive(dripping(), tmp_path / "file", limits, None, lambda count: None)


async def test_more_than_the_disk_has_is_refused_before_anything_comes(tmp_path: Path) -> None:
    with pytest.raises(NoSpace):
        await receive(sent([b"any"]), tmp_path / "file", UNLIMITED, 1 << 60, lambda count: None)


async def test_a_body_larger_than_announced_or_allowed_ends(tmp_path: Path) -> None:
    limits = replace(UNLIMITED, max_bytes=10)
    with pytest.raises(FileTooLarge):
        await receive(sent([bytes(6), bytes(6)]), tmp_path / "file", limits, 5, lambda count: None)


async def test_a_sender_who_falls_silent_or_takes_too_long_is_given_up(tmp_path: Path) -> None:
    async def silent() -> AsyncIterator[bytes]:
        yield b"first"
        await asyncio.Event().wait()

    for total, idle in ((0, 0.05), (0.05, 0)):
        limits = replace(UNLIMITED, total_seconds=total, idle_seconds=idle)
        with pytest.raises(UploadTimedOut):
            await receive(silent(), tmp_path / "file", limits, None, lambda count: None)


async def test_a_body_that_is_given_up_ends_no_sooner_than_what_is_being_written(tmp_path: Path) -> None:
    with skipping_if_refused(), standing_disk(tmp_path / "disk") as disk:
        go_on = asyncio.Event()

        async def body() -> AsyncIterator[bytes]:
            await go_on.wait()
            yield BLOCK

        target = disk.folder / "file"
        receiving = asyncio.create_task(receive(body(), target, UNLIMITED, len(BLOCK), lambda count: None))
        while not target.exists():
            await asyncio.sleep(0.01)
        with disk.standing_still():
            go_on.set()
            while not waiting_threads(os.getpid()):
                await asyncio.sleep(0.01)
            for _ in range(3):
                receiving.cancel()
                # The file's descriptor must not be used again as long as something writes to it.
                ended, _ = await asyncio.wait([receiving], timeout=0.1)
                assert not ended
        with pytest.raises(asyncio.CancelledError):
            await receiving
        assert target.read_bytes() == BLOCK


@pytest.mark.parametrize("size", [100, len(BLOCK)])
async def test_a_body_is_hashed_while_it_is_written(size: int, tmp_path: Path) -> None:
    digest, content = FileDigest(), BLOCK[:size]
    chunks = [content[start : start + 400_000] for start in range(0, size, 400_000)]
    await receive(sent(chunks), tmp_path / "file", UNLIMITED, None, lambda count: None, digest=digest)
    # Nothing is read again.
    (tmp_path / "file").write_bytes(bytes(size))
    assert digest.finish(tmp_path / "file", threading.Event()) == sha256(content).hexdigest()


UNLIMITED = ReceiveLimits(
    max_bytes=0, total_seconds=0, idle_seconds=0, min_bytes_per_second=0, reserve_bytes=0, timed_out=UploadTimedOut
)


def test_a_sender_must_keep_its_average_rate_after_a_minute() -> None:
    limits = replace(UNLIMITED, min_bytes_per_second=1000)
    assert limits.patience(0, Pace()) == 60
    assert limits.patience(59, Pace(59, 1)) == 1
    assert limits.patience(100, Pace(100, 120_000)) == 20
    assert limits.patience(500, Pace(10, 0)) == 50, "a slow disk is not the sender's fault"
    assert limits.patience(0, Pace(100, 120_000)) == 20, "earlier bodies count"
    with pytest.raises(UploadTimedOut):
        limits.patience(61, Pace(61, 60_999))
    assert replace(limits, idle_seconds=5, total_seconds=70).patience(66, Pace(66, 90_000)) == 4
    assert UNLIMITED.patience(10**6, Pace(10**6, 1)) is None


def test_four_waits_that_are_cut_off_as_idle_cost_the_first_minute() -> None:
    limits = replace(UNLIMITED, min_bytes_per_second=1000, idle_seconds=60)
    pace = Pace()
    for _ in range(3):
        limits.count_wait(pace, 60)
        assert not limits.is_too_slow(pace)
    limits.count_wait(pace, 60)
    assert limits.is_too_slow(pace)
    limits.count_wait(dripping := Pace(), 59.9)
    assert dripping == Pace(59.9)


def test_a_wait_that_is_cut_off_as_idle_costs_its_whole_length_of_what_was_sent() -> None:
    limits = replace(UNLIMITED, min_bytes_per_second=1000, idle_seconds=60)
    pace = Pace(100, 300_000)
    limits.count_wait(pace, 60)
    assert limits.patience(0, replace(pace)) == 60 and pace == Pace(115, 255_000)
    for _ in range(3):
        limits.count_wait(pace, 60)
    assert limits.is_too_slow(pace)


def test_no_number_of_bytes_pays_for_more_than_ten_minutes_of_waiting() -> None:
    limits = replace(UNLIMITED, min_bytes_per_second=1000)
    limits.count_bytes(pace := Pace(30), 10**9)
    assert limits.patience(0, pace) == 600
    UNLIMITED.count_bytes(pace := Pace(30), 10**9)
    assert UNLIMITED.patience(0, pace) is None
