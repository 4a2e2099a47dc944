"""Images beside the event loop."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from PIL import Image

from open_workshop_storage.core.errors import ImageExpected, ImagePreparationFailed, ImageTooLarge, StorageError
from open_workshop_storage.services.images import Images
from tests.images.test_normalise import saved

pytestmark = pytest.mark.anyio


def put(folder: Path, content: bytes) -> Path:
    source = folder / "source"
    source.write_bytes(content)
    return source


async def test_the_result_and_its_size_are_there(tmp_path: Path) -> None:
    source, target = put(tmp_path, saved(Image.new("RGB", (40, 30)), "PNG")), tmp_path / "target.webp"
    assert await Images().normalise(source, target) == target.stat().st_size
    assert set(tmp_path.iterdir()) == {source, target}


async def test_an_existing_target_is_replaced(tmp_path: Path) -> None:
    source = put(tmp_path, saved(Image.new("RGB", (40, 30)), "PNG"))
    await Images().normalise(source, source)
    assert source.read_bytes().startswith(b"RIFF")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"no image", ImageExpected),
        (saved(Image.effect_noise((90, 90), 50), "PNG")[:-500], ImageExpected),
        (saved(Image.new("1", (16_384, 1)), "PNG"), ImageTooLarge),
    ],
)
async def test_nothing_is_left_of_what_is_refused(content: bytes, expected: type[StorageError], tmp_path: Path) -> None:
    source = put(tmp_path, content)
    with pytest.raises(expected):
        await Images().normalise(source, tmp_path / "target.webp")
    assert list(tmp_path.iterdir()) == [source]


async def test_what_is_not_the_images_fault_is_told_apart(tmp_path: Path) -> None:
    source = put(tmp_path, saved(Image.new("RGB", (40, 30)), "PNG"))
    with pytest.raises(ImagePreparationFailed):
        await Images().normalise(source, tmp_path / "no folder" / "target.webp")
    with pytest.raises(ImagePreparationFailed):
        await Images().blurhash(tmp_path / "missing")


async def test_no_unfinished_file_is_left_when_the_caller_is_cancelled(tmp_path: Path) -> None:
    source = put(tmp_path, saved(Image.effect_noise((1000, 1000), 50), "PNG"))
    task = asyncio.create_task(Images().normalise(source, tmp_path / "target.webp"))
    while len(list(tmp_path.iterdir())) == 1:
        await asyncio.sleep(0.001)
    task.cancel()
    await asyncio.wait([task])
    assert {path.name for path in tmp_path.iterdir()} <= {"source", "target.webp"}


async def test_many_at_once_all_have_their_turn(tmp_path: Path) -> None:
    images = Images()
    source = put(tmp_path, saved(Image.new("RGB", (40, 30)), "PNG"))
    await asyncio.gather(*[images.normalise(source, tmp_path / f"{number}.webp") for number in range(20)])
    assert len(list(tmp_path.iterdir())) == 21
