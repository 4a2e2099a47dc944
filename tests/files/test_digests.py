"""SHA-256 of files."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from itertools import chain, count
from pathlib import Path

import pytest

from open_workshop_storage.utils.files.digests import FileDigest
from open_workshop_storage.utils.files.durable_files import Stopped


@pytest.mark.parametrize("size", [0, 1, 512 * 1024, 3 * 512 * 1024 + 7])
def test_a_file_of_any_size_has_a_digest(size: int, tmp_path: Path) -> None:
    content = os.urandom(size)
    (tmp_path / "file").write_bytes(content)
    assert FileDigest().finish(tmp_path / "file", threading.Event()) == hashlib.sha256(content).hexdigest()


def test_reading_can_be_stopped(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        FileDigest().finish(tmp_path / "file", stop)


def test_a_file_whose_bytes_were_all_added_is_not_opened() -> None:
    digest = FileDigest()
    digest.add([b"con", b"tent"])
    assert digest.of(8) is None
    assert digest.of(7) == hashlib.sha256(b"content").hexdigest()


def test_what_was_added_is_not_read(tmp_path: Path) -> None:
    digest, content = FileDigest(), os.urandom(100_000)
    digest.add([content[:10], content[10:70_000]])
    digest.add([content[70_000:90_000]])
    (tmp_path / "file").write_bytes(bytes(90_000) + content[90_000:])
    for _ in range(2):
        assert digest.finish(tmp_path / "file", threading.Event()) == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(("pause", "is_read"), [(0.0, True), (9.0, False)], ids=["as fast as a core", "slower"])
def test_a_sender_as_fast_as_a_core_is_not_held_up(
    pause: float, is_read: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The clock stands at the start and at the end of each hashing, which takes a second here.
    clock = chain.from_iterable((turn * (1 + pause), turn * (1 + pause) + 1) for turn in count(1))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    digest, block = FileDigest(), bytes(4 * 1024 * 1024)
    for _ in range(8):
        digest.add([block])
    (tmp_path / "file").write_bytes(b"x" * 8 * len(block))
    hashed = hashlib.sha256(bytes(8 * len(block))).hexdigest()
    assert (digest.finish(tmp_path / "file", threading.Event()) != hashed) is is_read
