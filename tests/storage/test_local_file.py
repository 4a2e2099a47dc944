"""Facts in extended attributes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from open_workshop_storage.services.storage.files import Facts
from open_workshop_storage.services.storage.local import LocalFiles
from open_workshop_storage.services.storage.local_file import keep_facts, kept_facts, version_of
from tests.storage.test_local import elsewhere
from tests.support.jobs import SHA256

__all__ = ["elsewhere"]

pytestmark = pytest.mark.anyio

FACTS = Facts(12345, SHA256)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file with facts."""
    file = tmp_path / "file"
    file.write_bytes(b"content")
    with file.open("rb") as opened:
        keep_facts(opened.fileno(), FACTS)
    return file


def facts_of(file: Path) -> Facts | None:
    return kept_facts(str(file), version_of(file.stat()))


def test_they_stay_when_the_file_is_renamed(file: Path) -> None:
    assert facts_of(file) == FACTS
    assert facts_of(file.rename(file.with_name("other"))) == FACTS


def test_an_edited_file_has_none(file: Path) -> None:
    file.write_bytes(b"another")
    assert facts_of(file) is None


def test_a_copy_with_all_attributes_has_none(file: Path) -> None:
    copy = file.with_name("copy")
    copy.write_bytes(file.read_bytes())
    os.setxattr(copy, os.listxattr(file)[0], os.getxattr(file, os.listxattr(file)[0]))
    os.utime(copy, ns=(0, file.stat().st_mtime_ns))
    assert facts_of(copy) is None


def test_what_was_kept_before_digests_were_is_read(file: Path) -> None:
    version = list(version_of(file.stat()))
    os.setxattr(file, os.listxattr(file)[0], json.dumps({"version": version, "unpacked_bytes": 12345}).encode())
    assert facts_of(file) == Facts(12345)


@pytest.mark.parametrize("digest", ["", "5E" * 32, "5e" * 31, SHA256 + "\n", 7, ["x"]])
def test_what_is_no_digest_is_ignored(digest: object, file: Path) -> None:
    kept = json.loads(os.getxattr(file, os.listxattr(file)[0]))
    os.setxattr(file, os.listxattr(file)[0], json.dumps({**kept, "sha256": digest}).encode())
    assert facts_of(file) in (None, Facts(12345))


@pytest.mark.parametrize("value", [b"", b"7", b"[]", b"{}", b"\xff", b'{"version": 1, "unpacked_bytes": 2}'])
def test_what_another_program_wrote_there_is_ignored(value: bytes, file: Path) -> None:
    os.setxattr(file, os.listxattr(file)[0], value)
    assert facts_of(file) is None


async def test_a_file_from_another_file_system_gets_them_too(tmp_path: Path, elsewhere: Path) -> None:
    (elsewhere / "far").write_bytes(b"content")
    files = LocalFiles(tmp_path)
    await files.put(elsewhere / "far", "archive/x.zip", FACTS)
    assert await files.facts(await files.find("archive", "x.zip")) == FACTS
