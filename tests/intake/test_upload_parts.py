"""The files that hold the bytes of an upload in several requests."""

from __future__ import annotations

from pathlib import Path

import pytest

from open_workshop_storage.core.changes import Paused
from open_workshop_storage.core.errors import NoSpace
from open_workshop_storage.core.job import Part, Resumable
from open_workshop_storage.services.intake.upload_parts import at_hand, sealed, whole, with_open_part

pytestmark = pytest.mark.anyio

ONE = Resumable(metadata="name bW9k", sha256="5e" * 32, parts=(Part(file="a/part", bytes=3),))
TWO = Resumable(sha256="5e" * 32, parts=(Part(file="a/part", bytes=3), Part(file="b/part", bytes=2)))


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """Two parts, the first with bytes behind those that count."""
    for name, content in (("a", b"abcXX"), ("b", b"de")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "part").write_bytes(content)
    return tmp_path


def test_a_run_goes_on_in_the_last_part_unless_that_is_sealed() -> None:
    assert with_open_part(ONE, "b") == ONE
    begun = with_open_part(ONE.model_copy(update={"sealed": True}), "b")
    assert begun == ONE.model_copy(update={"parts": (*ONE.parts, Part(file="b/part"))})


async def test_what_the_last_part_holds_counts_when_it_is_sealed(workspace: Path) -> None:
    paused = await sealed(ONE, workspace)
    assert (paused.bytes, paused.resumable.parts[0].bytes, paused.resumable.sealed) == (5, 5, True)


async def test_a_part_that_was_never_made_is_left_out(workspace: Path) -> None:
    paused = await sealed(Resumable(parts=(*ONE.parts, Part(file="c/part"))), workspace)
    assert (paused.bytes, paused.resumable.parts) == (3, ONE.parts)


@pytest.mark.parametrize("left", [None, b"d"], ids=["missing", "shorter"])
@pytest.mark.parametrize("part", ["a", "b"])
async def test_on_a_host_that_lacks_bytes_of_a_part_nothing_counts(
    part: str, left: bytes | None, workspace: Path
) -> None:
    assert await at_hand(TWO, workspace) is TWO
    file = workspace / part / "part"
    file.unlink() if left is None else file.write_bytes(left)
    nothing = TWO.model_copy(update={"parts": ()})
    assert await at_hand(TWO, workspace) == nothing
    assert await sealed(TWO, workspace) == Paused(0, nothing)


async def test_one_part_is_the_whole_file_itself(workspace: Path) -> None:
    assert await whole(ONE, workspace, workspace / "c" / "source", 0) == workspace / "a" / "part"


@pytest.mark.parametrize("parts", [TWO, TWO.model_copy(update={"sealed": True})])
async def test_of_several_parts_the_bytes_that_count_are_joined(workspace: Path, parts: Resumable) -> None:
    joined = await whole(parts, workspace, workspace / "c" / "source", 0)
    assert joined.read_bytes() == b"abcde"


async def test_a_sealed_part_is_copied_since_its_worker_may_write_on(workspace: Path) -> None:
    joined = await whole(ONE.model_copy(update={"sealed": True}), workspace, workspace / "c" / "source", 0)
    assert (joined.name, joined.read_bytes()) == ("source", b"abc")


async def test_a_part_that_has_become_shorter_is_not_joined(workspace: Path) -> None:
    (workspace / "b" / "part").write_bytes(b"d")
    with pytest.raises(OSError, match="shorter"):
        await whole(TWO, workspace, workspace / "c" / "source", 0)


async def test_parts_are_not_joined_into_the_reserve_of_the_disk(workspace: Path) -> None:
    with pytest.raises(NoSpace):
        await whole(TWO, workspace, workspace / "c" / "source", 1 << 62)
