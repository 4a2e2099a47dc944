"""Files that the client sends and receives."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from open_workshop_storage.client.local_files import BLOCK_BYTES, blocks_of, digest_field, replacing, sha256_in
from tests.support.digests import field_of

pytestmark = pytest.mark.anyio

CONTENT = bytes(range(256)) * 10_000


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "file"
    file.write_bytes(CONTENT)
    return file


async def test_a_part_of_a_file_comes_in_blocks(file: Path) -> None:
    blocks = [block async for block in blocks_of(file, 7, len(CONTENT) - 3)]
    assert b"".join(blocks) == CONTENT[7:-3]
    assert max(map(len, blocks)) == BLOCK_BYTES < len(CONTENT)


async def test_a_file_that_becomes_shorter_is_not_taken_for_a_whole_one(file: Path) -> None:
    with pytest.raises(EOFError):
        [block async for block in blocks_of(file, 0, len(CONTENT) + 1)]


async def test_a_file_is_replaced_when_the_new_one_is_whole(file: Path) -> None:
    async with replacing(file) as new:
        new.write(b"new")
        assert file.read_bytes() == CONTENT
    assert file.read_bytes() == b"new"
    assert list(file.parent.iterdir()) == [file]


async def test_a_file_stays_when_the_new_one_is_not_whole(file: Path) -> None:
    with pytest.raises(ValueError):
        async with replacing(file) as new:
            new.write(b"new")
            raise ValueError
    assert file.read_bytes() == CONTENT
    assert list(file.parent.iterdir()) == [file]


async def test_folders_of_a_new_file_are_made(tmp_path: Path) -> None:
    async with replacing(tmp_path / "a" / "b" / "c") as new:
        new.write(b"new")
    assert (tmp_path / "a" / "b" / "c").read_bytes() == b"new"


def test_digests_are_written_and_read_as_the_services_do(file: Path) -> None:
    field = field_of(CONTENT)
    assert digest_field(file) == field
    for fields in ([field], ["", f"sha-512=:AAAA:, {field}"], ["unixsum=:AA==:", field]):
        assert sha256_in(fields) == hashlib.sha256(CONTENT).hexdigest()
    assert sha256_in([]) is None and sha256_in(["", "sha-512=:AAAA:"]) is None
