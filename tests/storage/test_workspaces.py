"""The folders of jobs' unfinished files."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from open_workshop_storage.core.errors import BadRequest
from open_workshop_storage.services.storage.workspaces import (
    Workspaces,
    discard,
    discard_holding,
    discard_parts,
    parts_of,
)

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("job_id", ["short", "../../../etc", "a" * 129, "with/slash", "dotted.id", "", "12345678\n"])
def test_a_workspace_has_the_name_of_a_job_and_no_other(job_id: str, tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="Invalid job id"):
        Workspaces(tmp_path).folder(job_id)


def test_files_in_it_are_named_from_the_storage_root(tmp_path: Path) -> None:
    workspaces = Workspaces(tmp_path)
    assert workspaces.name(workspaces.folder("job-12345") / "run/packed.zip") == "temp/job-12345/run/packed.zip"


async def test_a_workspace_is_idle_when_nothing_in_it_has_changed(tmp_path: Path) -> None:
    workspaces = Workspaces(tmp_path)
    assert await workspaces.idle(0) == []
    old, busy = workspaces.folder("job-of-old"), workspaces.folder("job-of-now")
    for folder in (old / "run", busy / "run"):
        folder.mkdir(parents=True)
    (tmp_path / "temp" / "no-folder").touch()
    for path in (old / "run", old, busy):
        os.utime(path, (1, 1))
    assert await workspaces.idle(3600) == [old]
    assert set(await workspaces.idle(0)) == {old, busy}


async def test_looks_at_some_workspaces_each_go_on_behind_the_last_and_then_begin_anew(tmp_path: Path) -> None:
    workspaces = Workspaces(tmp_path)
    folders = {workspaces.folder(f"job-number-{number}") for number in range(3)}
    for folder in folders:
        folder.mkdir(parents=True)
    for _ in range(2):
        looks = [await workspaces.idle(0, 2), await workspaces.idle(0, 2)]
        assert [len(look) for look in looks] == [2, 1] and {*looks[0], *looks[1]} == folders


async def test_the_reserve_is_judged_where_there_is_a_disk(tmp_path: Path) -> None:
    assert await Workspaces(tmp_path).has_space()
    assert not await Workspaces(tmp_path, 1 << 60).has_space()
    assert await Workspaces(tmp_path / "nothing", 1 << 60).has_space()
    total = shutil.disk_usage(tmp_path).total
    assert 0 < (await Workspaces(tmp_path).free_bytes() or 0) <= total
    assert await Workspaces(tmp_path / "nothing").free_bytes() is None


async def test_only_the_parts_that_were_there_go(tmp_path: Path) -> None:
    workspace = tmp_path / "workspace"
    assert await parts_of(workspace) == []
    (workspace / "old").mkdir(parents=True)
    parts = await parts_of(workspace)
    (workspace / "new").mkdir()
    await discard_parts(workspace, parts)
    assert [path.name for path in workspace.iterdir()] == ["new"]
    await discard_parts(workspace, await parts_of(workspace))
    assert not workspace.exists()


async def test_a_large_file_can_outlive_its_folder(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/file").write_bytes(b"content")
    held = await discard_holding(tmp_path / "folder", tmp_path / "folder/file")
    assert held is not None and not (tmp_path / "folder").exists()
    with held:
        assert held.read() == b"content"
    assert await discard_holding(tmp_path / "folder", tmp_path / "folder/file") is None
    await discard(tmp_path / "folder")
