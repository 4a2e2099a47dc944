"""Images in child processes, which may crash and hang."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from hashlib import sha256
from pathlib import Path

import pytest
from PIL import Image

from open_workshop_storage.core.errors import ImageExpected, ImagePreparationFailed, ImageTooLarge, StorageError
from open_workshop_storage.services.images.images import Images
from tests.support.client import eventually
from tests.support.images import saved
from tests.support.processes import children, send_signal

pytestmark = pytest.mark.anyio

SMALL = saved(Image.new("RGB", (40, 30)), "PNG")


@pytest.fixture
async def images() -> AsyncIterator[Images]:
    async with aclosing(Images()) as opened:
        yield opened


def put(folder: Path, content: bytes) -> Path:
    source = folder / "source"
    source.write_bytes(content)
    return source


@pytest.fixture
def hanging(tmp_path: Path) -> Iterator[Path]:
    """A file that can be opened, and a read of which waits for ever."""
    path = tmp_path / "hanging"
    os.mkfifo(path)
    with open(os.open(path, os.O_RDWR), "rb", buffering=0):
        yield path


async def test_the_result_and_its_size_are_there(images: Images, tmp_path: Path) -> None:
    source, target = put(tmp_path, SMALL), tmp_path / "target.webp"
    size, digest = await images.normalise(source, target)
    assert (size, digest) == (target.stat().st_size, sha256(target.read_bytes()).hexdigest())
    assert set(tmp_path.iterdir()) == {source, target}


async def test_an_existing_target_is_replaced(images: Images, tmp_path: Path) -> None:
    source = put(tmp_path, SMALL)
    await images.normalise(source, source)
    assert source.read_bytes().startswith(b"RIFF")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"no image", ImageExpected),
        (saved(Image.effect_noise((90, 90), 50), "PNG")[:-500], ImageExpected),
        (saved(Image.new("1", (16_384, 1)), "PNG"), ImageTooLarge),
    ],
)
async def test_nothing_is_left_of_what_is_refused(
    content: bytes, expected: type[StorageError], images: Images, tmp_path: Path
) -> None:
    source = put(tmp_path, content)
    with pytest.raises(expected):
        await images.normalise(source, tmp_path / "target.webp")
    assert list(tmp_path.iterdir()) == [source]


async def test_what_is_not_the_images_fault_is_told_apart(images: Images, tmp_path: Path) -> None:
    source = put(tmp_path, SMALL)
    with pytest.raises(ImagePreparationFailed):
        await images.normalise(source, tmp_path / "no folder" / "target.webp")
    with pytest.raises(ImagePreparationFailed):
        await images.blurhash(tmp_path / "missing")


async def test_no_unfinished_file_is_left_when_the_caller_is_cancelled(images: Images, tmp_path: Path) -> None:
    source = put(tmp_path, saved(Image.effect_noise((1000, 1000), 50), "PNG"))
    task = asyncio.create_task(images.normalise(source, tmp_path / "target.webp"))
    while len(list(tmp_path.iterdir())) == 1:
        await asyncio.sleep(0.001)
    task.cancel()
    await asyncio.wait([task])
    assert {path.name for path in tmp_path.iterdir()} <= {"source", "target.webp"}


async def test_many_at_once_all_have_their_turn_in_no_more_processes_than_cores(images: Images, tmp_path: Path) -> None:
    source, before = put(tmp_path, SMALL), len(children(os.getpid()))
    await asyncio.gather(*[images.normalise(source, tmp_path / f"{number}.webp") for number in range(20)])
    assert len(list(tmp_path.iterdir())) == 21
    assert 1 <= len(children(os.getpid())) - before <= len(os.sched_getaffinity(0))


async def test_images_of_another_queue_do_not_wait_for_ones_that_take_long(
    images: Images, hanging: Path, tmp_path: Path
) -> None:
    source = put(tmp_path, SMALL)
    long = [asyncio.create_task(images.blurhash(hanging)) for _ in range(2 * len(os.sched_getaffinity(0)))]
    async with aclosing(Images()) as others:
        assert (await others.blurhash(source))[1:] == (40, 30)
    assert not any(task.done() for task in long)
    for task in long:
        task.cancel()
    await asyncio.wait(long)


async def test_a_decoder_that_crashes_fails_its_image_only(images: Images, hanging: Path, tmp_path: Path) -> None:
    before = children(os.getpid())
    doomed = asyncio.create_task(images.normalise(hanging, tmp_path / "target.webp"))
    await eventually(lambda: set(children(os.getpid())) - set(before))
    send_signal(set(children(os.getpid())) - set(before), signal.SIGSEGV)
    with pytest.raises(ImagePreparationFailed):
        await doomed
    assert (await images.blurhash(put(tmp_path, SMALL)))[1:] == (40, 30)


async def test_a_stop_that_reaches_all_processes_lets_an_image_be_finished(images: Images, tmp_path: Path) -> None:
    before = children(os.getpid())
    source = put(tmp_path, SMALL)
    await images.blurhash(source)
    (child,) = set(children(os.getpid())) - set(before)
    send_signal([child], signal.SIGTERM)
    await images.blurhash(source)
    assert child in children(os.getpid())


@pytest.mark.parametrize(
    "returned", [["L" * 27, 1, 1], ["L" * 1000, 1, 1], [" " * 28, 1, 1], ["L" * 28, 10**4000, 1], "L" * 28, None]
)
async def test_what_no_blurhash_can_be_is_not_believed(
    returned: object, images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def call(*arguments: object, **options: object) -> object:
        return returned

    monkeypatch.setattr(images._children, "call", call)
    with pytest.raises(ImagePreparationFailed):
        await images.blurhash(put(tmp_path, SMALL))
