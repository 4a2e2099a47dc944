"""Digests for the whole store, and what has changed in it."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path

import pytest

from open_workshop_storage.core.errors import ServiceUnavailable
from open_workshop_storage.services.operations.findings import Finding, Verdict
from open_workshop_storage.services.operations.integrity import find_changed, give_digests
from open_workshop_storage.services.storage.files import Facts
from open_workshop_storage.services.storage.local import LocalFiles

pytestmark = pytest.mark.anyio

FLIPPED_BYTES = 100


@pytest.fixture
def files(tmp_path: Path) -> LocalFiles:
    return LocalFiles(tmp_path)


def write(files: LocalFiles, name: str, content: bytes) -> Path:
    path = files._main_dir / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


async def all_of(findings: AsyncIterator[Finding]) -> tuple[dict[str, str], str]:
    """Return the faults by the file's name, and the last line."""
    *faults, (verdict, subject, summary) = [finding async for finding in findings]
    assert (verdict, subject) == (Verdict.OK, "digests")
    assert {finding.verdict for finding in faults} <= {Verdict.FAULT}
    return {finding.subject: finding.text for finding in faults}, summary


async def digest_of(files: LocalFiles, name: str) -> str | None:
    facts = await files.facts(await files.find(*name.split("/", 1)))
    return facts.sha256 if facts else None


async def test_every_file_without_a_digest_gets_one_and_keeps_what_else_is_known(files: LocalFiles) -> None:
    contents = {
        "archive/mods/7/main.zip": b"zip",
        "archive/free.zip": b"",
        "avatar/7.webp": os.urandom(700_000),
        "resource/a b/\u00fc": b"x",
    }
    for name, content in contents.items():
        write(files, name, content)
    file = await files.find("archive", "mods/7/main.zip")
    await files.keep(file, Facts(unpacked_bytes=5))
    assert await all_of(give_digests(files)) == ({}, "4 given, 0 known before")
    for name, content in contents.items():
        assert await digest_of(files, name) == sha256(content).hexdigest()
    assert (await files.facts(file) or Facts()).unpacked_bytes == 5


async def test_a_run_that_was_broken_off_is_gone_on_with(files: LocalFiles) -> None:
    for number in range(5):
        write(files, f"resource/{number}", b"x")
    await files.keep(await files.find("resource", "0"), Facts(sha256="5e" * 32))
    assert await all_of(give_digests(files)) == ({}, "4 given, 1 known before")
    assert await all_of(give_digests(files)) == ({}, "0 given, 5 known before")
    assert await digest_of(files, "resource/0") == "5e" * 32


async def test_an_edited_file_gets_another_digest(files: LocalFiles) -> None:
    path = write(files, "resource/x", b"old")
    await all_of(give_digests(files))
    path.write_bytes(b"new!")
    assert await digest_of(files, "resource/x") is None
    assert await all_of(give_digests(files)) == ({}, "1 given, 0 known before")
    assert await digest_of(files, "resource/x") == sha256(b"new!").hexdigest()


@pytest.mark.parametrize("looks_untouched", [True, False])
async def test_every_flipped_byte_is_found(looks_untouched: bool, files: LocalFiles) -> None:
    chance = random.Random(19)
    contents = {f"archive/mods/{number}/main.zip": chance.randbytes(1 + number * 500) for number in range(200)}
    paths = {name: write(files, name, content) for name, content in contents.items()}
    await all_of(give_digests(files))
    flipped = chance.sample(sorted(paths), FLIPPED_BYTES)
    for name in flipped:
        status = paths[name].stat()
        with paths[name].open("r+b") as file:
            at = file.seek(chance.randrange(status.st_size))
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ 1 << chance.randrange(8)]))
        if looks_untouched:
            os.utime(paths[name], ns=(status.st_atime_ns, status.st_mtime_ns))
    faults, summary = await all_of(find_changed(files))
    assert faults == dict.fromkeys(flipped, "is not what it was")
    assert summary == "100 as they were, 0 without a digest"


async def test_what_has_no_digest_or_was_copied_as_it_is_is_no_fault(files: LocalFiles) -> None:
    write(files, "resource/new", b"x")
    path = write(files, "resource/old", b"x")
    await files.keep(await files.find("resource", "old"), Facts(sha256=sha256(b"x").hexdigest()))
    os.utime(path)
    assert await all_of(find_changed(files)) == ({}, "1 as they were, 1 without a digest")


async def test_a_file_that_was_replaced_while_it_was_looked_at_is_judged_as_what_it_is(
    files: LocalFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(files, "resource/x", b"old")
    old = await files.find("resource", "x")
    await files.keep(old, Facts(sha256=sha256(b"old").hexdigest()))
    (tmp_path / "source").write_bytes(b"new!")

    async def found_before() -> AsyncIterator[object]:
        yield old

    await files.put(tmp_path / "source", "resource/x", Facts(sha256=sha256(b"new!").hexdigest()))
    monkeypatch.setattr(files, "every_file", found_before)
    assert await all_of(find_changed(files)) == ({}, "1 as they were, 0 without a digest")


async def test_a_name_that_cannot_be_printed_is_told(files: LocalFiles) -> None:
    write(files, "resource/x\ny\udcff", b"x")
    await files.keep(await files.find("resource", "x\ny\udcff"), Facts(sha256="5e" * 32))
    faults, _ = await all_of(find_changed(files))
    assert faults == {"'resource/x\\ny\\udcff'": "is not what it was"}


async def test_without_the_store_nothing_is_said_of_its_files(tmp_path: Path) -> None:
    for command in (give_digests, find_changed):
        with pytest.raises(ServiceUnavailable):
            await all_of(command(LocalFiles(tmp_path / "nothing")))
