"""Disk space that is set aside."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from open_workshop_storage.utils.files.disk_space import reserve


def test_blocks_are_set_aside_and_the_size_stays(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        reserve(file.fileno(), 0, 1 << 20)
        status = os.fstat(file.fileno())
        assert status.st_size == 0
        if status.st_blocks == 0:
            pytest.skip("this file system sets nothing aside")
        assert status.st_blocks * 512 >= 1 << 20


def test_more_than_there_is_cannot_be_had(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        with pytest.raises(OSError) as refusal:
            reserve(file.fileno(), 0, 1 << 62)
        assert refusal.value.errno in (errno.ENOSPC, errno.EFBIG)
