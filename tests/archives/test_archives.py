"""What holds for each step: limits, progress, cancellation, and doing it again."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import os
import random
import tarfile
import tempfile
import zipfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from open_workshop_storage.core.errors import ArchiveTooLarge, CorruptArchive, NoSpace, RepackFailed, UnsafeArchive
from open_workshop_storage.services.archives.inspection import Inspection
from open_workshop_storage.utils.archives.kinds import Kind
from tests.archives import fake_seven_zip
from tests.archives.conftest import ArchivesMaker
from tests.archives.rars import file5, rar5
from tests.archives.tars import member, sparse
from tests.archives.workbench import Workbench, content_of, ignore
from tests.archives.zips import Entry, zip_from
from tests.support.archives import SMALL_MOD, compressed_tar_of, seven_zip_of, tar_of, zip_of
from tests.support.processes import descendants

pytestmark = pytest.mark.anyio

SMALL_MOD_BYTES = sum(map(len, SMALL_MOD.values()))
HUGE_RESERVE = 2**62

LIMITED = [
    pytest.param(zip_of(SMALL_MOD), id="kept zip"),
    pytest.param(zip_of(SMALL_MOD, zipfile.ZIP_STORED), id="stored zip"),
    pytest.param(seven_zip_of(SMALL_MOD), id="7z"),
    pytest.param(rar5(*(file5(name.encode(), data) for name, data in SMALL_MOD.items())), id="rar"),
    pytest.param(tar_of(SMALL_MOD), id="tar"),
    pytest.param(bytes(SMALL_MOD_BYTES), id="plain file"),
]


@pytest.mark.parametrize("sent", LIMITED)
async def test_more_than_the_limit_is_refused_by_the_headers(sent: bytes, workbench: Workbench) -> None:
    inspection = await workbench.inspect(sent, SMALL_MOD_BYTES)
    assert inspection.unpacked_bytes == SMALL_MOD_BYTES
    with pytest.raises(ArchiveTooLarge):
        await workbench.inspect(sent, SMALL_MOD_BYTES - 1)
    with pytest.raises(ArchiveTooLarge):
        await workbench.extract(inspection, SMALL_MOD_BYTES - 1)
    assert content_of(workbench.folder) == {"source": sent}


async def test_a_file_that_cannot_be_read_is_not_left_open(workbench: Workbench) -> None:
    # Nothing is mapped at its start, so that it can be opened and its first bytes not be read.
    unreadable = Path("/proc/self/mem")
    with pytest.raises(RepackFailed) as refusal:
        await workbench.archives.inspector.inspect(unreadable, "a", 0)
    opened = [os.path.realpath(path) for path in Path("/proc/self/fd").iterdir()]
    assert os.path.realpath(unreadable) not in opened
    # Its traceback would have kept the file from being closed by itself.
    assert refusal.tb is not None


@pytest.mark.parametrize("form", ["gz", "bz2", "xz", "zst"])
async def test_more_than_the_limit_is_refused_while_a_compressed_tar_is_extracted(
    form: str, workbench: Workbench
) -> None:
    sent = compressed_tar_of(SMALL_MOD, form)
    assert await workbench.repack(sent, SMALL_MOD_BYTES) == SMALL_MOD_BYTES
    with pytest.raises(ArchiveTooLarge):
        await workbench.repack(sent, SMALL_MOD_BYTES - 1)
    assert not workbench.extracted.exists()


async def test_a_bomb_in_a_compressed_tar_is_stopped_before_it_goes_off(workbench: Workbench) -> None:
    inspection = await workbench.inspect(
        compressed_tar_of({"small": b"", "zeros": bytes(20_000_000)}, "zst"), 1_000_000
    )
    with pytest.raises(ArchiveTooLarge):
        await workbench.extract(inspection, 1_000_000)
    assert not workbench.extracted.exists()


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(zip_from([Entry(b"zeros", size=1_100_000_000)]), id="zip"),
        pytest.param(gzip.compress(sparse("zeros", 1_100_000_000) + tar_of({})), id="tar.gz"),
    ],
)
async def test_more_than_the_ratio_allows_is_refused(sent: bytes, workbench: Workbench) -> None:
    with pytest.raises(ArchiveTooLarge):
        await workbench.accept(sent)
    assert content_of(workbench.folder) == {"source": sent}


@pytest.mark.parametrize("sent", [*LIMITED[:-1], pytest.param(compressed_tar_of(SMALL_MOD, "gz"), id="tar.gz")])
async def test_more_entries_than_the_limit_are_refused(
    sent: bytes, workbench: Workbench, make_archives: ArchivesMaker
) -> None:
    # Four files in three folders, of which no archive but the 7z has entries.
    workbench.archives = make_archives(transfer_max_entries=7)
    await workbench.accept(sent)
    workbench.archives = make_archives(transfer_max_entries=6)
    with pytest.raises(ArchiveTooLarge):
        await workbench.accept(sent)


async def test_a_tree_that_outgrows_its_headers_ends_the_extraction(
    workbench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    inspection = await workbench.inspect(seven_zip_of(SMALL_MOD))
    script = f"cd {workbench.extracted}; for n in 1 2; do yes | head -c {SMALL_MOD_BYTES - 1} > $n; done; sleep 1000"
    fake_seven_zip.install(workbench.folder, script, monkeypatch)
    with pytest.raises(CorruptArchive):
        await workbench.extract(inspection)
    assert not workbench.extracted.exists()


async def test_what_no_header_told_of_is_refused_when_it_has_come_out(
    workbench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    inspection = await workbench.inspect(seven_zip_of({"file": b"x"}))
    fake_seven_zip.install(workbench.folder, f"cd {workbench.extracted}; printf x > file; ln file second", monkeypatch)
    with pytest.raises(UnsafeArchive):
        await workbench.extract(inspection)
    assert not workbench.extracted.exists()


@pytest.mark.parametrize("sent", [param for param in LIMITED if param.id not in ("kept zip", "plain file")])
async def test_the_reserve_of_disk_space_is_kept_in_extraction(
    sent: bytes, workbench: Workbench, make_archives: ArchivesMaker
) -> None:
    workbench.archives = make_archives(storage_reserve_bytes=HUGE_RESERVE)
    with pytest.raises(NoSpace):
        await workbench.repack(sent)
    assert content_of(workbench.folder) == {"source": sent}


async def test_the_reserve_of_disk_space_is_kept_while_packing(
    workbench: Workbench, make_archives: ArchivesMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    workbench.extracted.mkdir()
    fake_seven_zip.install(workbench.folder, "echo part > ../packed.zip.part.tmp; sleep 1000", monkeypatch)
    with pytest.raises(NoSpace):
        repacker = make_archives(storage_reserve_bytes=HUGE_RESERVE).repacker
        await repacker.pack(workbench.extracted, workbench.packed, 3, ignore)
    assert sorted(path.name for path in workbench.folder.iterdir()) == ["bin", "extracted"]


@pytest.mark.parametrize(
    ("limit", "script"),
    [("seven_zip_idle_timeout_seconds", ""), ("seven_zip_timeout_seconds", "while echo >&2; do sleep 0.01; done")],
)
async def test_a_command_over_its_time_is_a_failure_of_ours(
    limit: str, script: str, workbench: Workbench, make_archives: ArchivesMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    inspection = await workbench.inspect(seven_zip_of(SMALL_MOD))
    fake_seven_zip.install(workbench.folder, f"echo some; {script} sleep 1000", monkeypatch)
    archives = make_archives(**{limit: 0.5})
    with pytest.raises(RepackFailed):
        await archives.repacker.extract(workbench.source, inspection, workbench.extracted, "a", 0, ignore)
    with pytest.raises(RepackFailed):
        await archives.inspector.test(workbench.source, Inspection(Kind.ZIP, 9, keep=True, sizes_follow=True))


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(seven_zip_of(SMALL_MOD), id="7z"),
        pytest.param(tar_of(SMALL_MOD), id="tar"),
        pytest.param(compressed_tar_of(SMALL_MOD, "gz"), id="tar.gz"),
        pytest.param(b"plain file", id="plain file"),
    ],
)
async def test_progress_rises_to_a_hundred(sent: bytes, workbench: Workbench) -> None:
    inspection = await workbench.inspect(sent)
    extracting: list[float] = []
    await workbench.extract(inspection, on_percent=extracting.append)
    packing: list[float] = []
    await workbench.pack(3, packing.append)
    for percents in (extracting, packing):
        assert percents == sorted(set(percents))
        assert percents[-1] == 100


async def test_progress_of_longer_work_is_told_while_it_runs(workbench: Workbench) -> None:
    workbench.extracted.mkdir()
    for number in range(2):
        (workbench.extracted / str(number)).write_bytes(random.Random(number).randbytes(3_000_000))
    percents: list[float] = []
    await workbench.pack(9, percents.append)
    assert percents == sorted(set(percents))
    assert any(0 < percent < 100 for percent in percents)


@contextlib.asynccontextmanager
async def cancelled_at_first_percent(
    work: Callable[[Callable[[float], None]], Awaitable[object]],
) -> AsyncIterator[None]:
    """Cancel the work once it tells progress; then no process that it started may be left."""
    before = set(descendants(os.getpid()))
    begun = asyncio.Event()
    running = asyncio.ensure_future(work(lambda percent: begun.set()))
    await begun.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert set(descendants(os.getpid())) <= before
    yield


@pytest.mark.parametrize("kind", ["7z", "tar"])
async def test_a_cancelled_extraction_leaves_neither_files_nor_processes(kind: str, workbench: Workbench) -> None:
    if kind == "7z":
        inspection = await workbench.inspect(
            seven_zip_of({"noise": random.Random(3).randbytes(1_000_000) * 60}, "-mx=0")
        )
    else:
        info, _ = member("large")
        info.size = 10_000_000_000
        workbench.source.write_bytes(info.tobuf(tarfile.GNU_FORMAT))
        os.truncate(workbench.source, info.size + 10_240)
        inspection = await workbench.archives.inspector.inspect(workbench.source, "a", 0)
    async with cancelled_at_first_percent(lambda on_percent: workbench.extract(inspection, on_percent=on_percent)):
        assert [path.name for path in workbench.folder.iterdir()] == ["source"]


async def test_a_cancelled_packing_leaves_neither_files_nor_processes(workbench: Workbench) -> None:
    workbench.extracted.mkdir()
    (workbench.extracted / "noise").write_bytes(random.Random(4).randbytes(1_000_000) * 60)
    async with cancelled_at_first_percent(lambda on_percent: workbench.pack(9, on_percent)):
        assert [path.name for path in workbench.folder.iterdir()] == ["extracted"]


async def test_each_step_can_be_done_again_over_what_a_dead_worker_left(workbench: Workbench) -> None:
    workbench.extracted.mkdir()
    (workbench.extracted / "left over").write_bytes(b"old")
    for name in ("packed.zip.part", "packed.zip.part.tmp"):
        (workbench.folder / name).write_bytes(zip_of({"left over": b"old"}))
    workbench.packed.write_bytes(b"old")
    for _ in range(2):
        await workbench.repack(seven_zip_of(SMALL_MOD))
        files = {name: data for name, data in workbench.packed_content().items() if data is not None}
        assert files == SMALL_MOD
    assert sorted(path.name for path in workbench.folder.iterdir()) == ["extracted", "packed.zip", "source"]


async def test_a_failed_packing_leaves_the_old_file(workbench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    workbench.packed.write_bytes(b"old")
    workbench.extracted.mkdir()
    fake_seven_zip.install(workbench.folder, "echo part > ../packed.zip.part; exit 1", monkeypatch)
    with pytest.raises(RepackFailed):
        await workbench.pack()
    assert sorted(path.name for path in workbench.folder.iterdir()) == ["bin", "extracted", "packed.zip"]
    assert workbench.packed.read_bytes() == b"old"


async def test_the_level_decides_how_hard_7z_tries(workbench: Workbench) -> None:
    workbench.extracted.mkdir()
    (workbench.extracted / "text").write_text("".join(map(str, range(100_000))))
    packed = [await workbench.pack(level) for level in (0, 1, 9)]
    sizes = [size for size, _ in packed]
    assert sizes[0] >= sizes[1] > sizes[2]


async def test_a_plain_file_is_linked_and_not_copied(workbench: Workbench) -> None:
    await workbench.repack(b"plain file", name="name.bin")
    assert (workbench.extracted / "name.bin").samefile(workbench.source)


async def test_a_plain_file_is_copied_where_it_cannot_be_linked(
    workbench: Workbench, make_archives: ArchivesMaker
) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as elsewhere:
        source = Path(elsewhere, "source")
        source.write_bytes(b"plain file")
        inspection = await workbench.archives.inspector.inspect(source, "a", 0)
        await workbench.archives.repacker.extract(source, inspection, workbench.extracted, "name.bin", 0, ignore)
        assert (workbench.extracted / "name.bin").read_bytes() == b"plain file"
        with pytest.raises(NoSpace):
            archives = make_archives(storage_reserve_bytes=HUGE_RESERVE)
            await archives.repacker.extract(source, inspection, workbench.extracted, "name.bin", 0, ignore)
