"""The runner of the `7z` command."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from open_workshop_storage.services.archives.seven_zip import SevenZip
from open_workshop_storage.utils.archives.faults import CorruptData, EncryptedData, SevenZipFailed, UnreadableMethod
from open_workshop_storage.utils.processes import children
from tests.archives import fake_seven_zip
from tests.support.processes import descendants, is_running

pytestmark = pytest.mark.anyio

PATIENT = SevenZip(60, 60)
SLEEPER = "sleep 1000 & echo $! > child; echo $$ > self; sleep 1000"


async def appeared(path: Path) -> int:
    """Wait for a file with a process id in it."""
    async with asyncio.timeout(60):
        while not (path.exists() and path.read_text().endswith("\n")):
            await asyncio.sleep(0.01)
    return int(path.read_text())


async def ended(*pids: int) -> bool:
    """Wait for processes to end."""
    async with asyncio.timeout(60):
        while any(map(is_running, pids)):
            await asyncio.sleep(0.01)
    return True


async def test_percentages_are_told_as_they_rise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    printed = r"  0M Scan\b\b\b\n  7%% 3 + 90%% off.txt\b\b\b\b    \b\b\b\b 1"
    fake_seven_zip.install(
        tmp_path, f"printf '{printed}'; sleep 0.1; printf '2%%\\r 12%%\\b 11%%\\b 50%%\\n 999%%\\n'", monkeypatch
    )
    percents: list[float] = []
    await PATIENT.run("t", on_percent=percents.append)
    assert percents == [7, 12, 50, 100]


async def test_lines_are_told_whole_and_bytes_survive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_seven_zip.install(tmp_path, r"printf 'Path = a\200'; sleep 0.1; printf '\302\205b\nlast'; ", monkeypatch)
    lines: list[str] = []
    await PATIENT.run("l", on_line=lines.append)
    assert lines == ["Path = a\udc80\x85b", "last"]


@pytest.mark.parametrize(
    ("script", "is_run"),
    [
        ('#!/bin/sh\nexec /opt/7zip/7z "$@"\n', "/opt/7zip/7z"),
        ('#! /bin/sh\nexec /usr/lib/p7zip/7z "$@"\n', "/usr/lib/p7zip/7z"),
        ('#!/bin/sh\nnice exec /opt/7zip/7z "$@"\n', "itself"),
        ('#!/bin/sh\nexec /opt/7zip/7z -y "$@"\n', "itself"),
    ],
    ids=["debian 13", "debian 12", "another command", "another argument"],
)
async def test_a_script_that_only_leads_to_the_program_is_left_out(
    script: str, is_run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_seven_zip.install(tmp_path, "", monkeypatch)
    command = tmp_path / "bin" / "7z"
    command.write_text(script)
    started: list[str] = []

    async def start(command: Sequence[str], **_: object) -> None:
        started.append(command[0])
        raise OSError

    monkeypatch.setattr(children, "start", start)
    with pytest.raises(SevenZipFailed):
        await PATIENT.run("i")
    assert started == [str(command) if is_run == "itself" else is_run]


async def test_it_runs_with_closed_input_in_a_clean_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRANSFER_JWT_SECRET", "secret")
    fake_seven_zip.install(tmp_path, "env > environment; cat > input; ulimit -c > core", monkeypatch)
    await PATIENT.run("t", folder=tmp_path, writable=tmp_path)
    names = {line.partition("=")[0] for line in (tmp_path / "environment").read_text().splitlines()}
    assert names <= {"PATH", "LANG", "LC_ALL", "PWD", "OLDPWD", "SHLVL", "_"}
    assert (tmp_path / "input").read_bytes() == b""
    assert (tmp_path / "core").read_text() == "0\n"


async def test_those_that_run_at_once_share_the_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_seven_zip.install(tmp_path, 'echo "$@" > $1; echo; read wait < $1.go', monkeypatch)
    cores = len(os.sched_getaffinity(0))
    runner = SevenZip(60, 60)
    pipes = [tmp_path / f"{name}.go" for name in ("first", "second")]
    for pipe in pipes:
        os.mkfifo(pipe)
    # Open for reading too: a writer alone would wait for ever for a command that has not started.
    with ExitStack() as stack:
        writers = [stack.enter_context(pipe.open("r+b", buffering=0)) for pipe in pipes]
        async with asyncio.TaskGroup() as group:
            for name in ("first", "second"):
                group.create_task(runner.run(name, folder=tmp_path, writable=tmp_path))
            for writer in writers:
                writer.write(b"go\n")
    assert f"-mmt={cores} " in (tmp_path / "first").read_text()
    assert f"-mmt={max(1, cores // 2)} " in (tmp_path / "second").read_text()


@pytest.mark.parametrize(
    ("printed", "error"),
    [
        ("ERROR: CRC Failed : a", CorruptData),
        ("ERROR: Data Error : Unsupported Method", CorruptData),
        ("Open ERROR: Cannot open the file as [7z] archive", CorruptData),
        ("ERROR: Unsupported Method : CRC Failed", UnreadableMethod),
        ("ERROR: Data Error in encrypted file. Wrong password? : a", EncryptedData),
        ("System ERROR:\nerrno=28 : No space left on device", OSError),
        ("ERROR: Data Error : a\nSystem ERROR:\nerrno=28 : No space left on device", OSError),
        ("System ERROR:\nerrno=5 : Input/output error", SevenZipFailed),
    ],
)
async def test_messages_tell_why_it_failed(
    printed: str, error: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_seven_zip.install(tmp_path, f"echo '{printed}'; exit 2", monkeypatch)
    with pytest.raises(error):
        await PATIENT.run("t")


async def test_a_missing_command_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SevenZipFailed):
        await PATIENT.run("t")


@pytest.mark.parametrize(
    ("script", "runner"),
    [
        pytest.param(SLEEPER, SevenZip(60, 0.3), id="silent"),
        pytest.param(f"({SLEEPER}) & while sleep 0.01; do echo; done", SevenZip(0.5, 60), id="too long"),
        pytest.param(f"exec >&- 2>&-; {SLEEPER}", SevenZip(0.5, 60), id="output closed"),
    ],
)
async def test_one_over_its_time_is_killed_with_its_children(
    script: str, runner: SevenZip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_seven_zip.install(tmp_path, script, monkeypatch)
    with pytest.raises(SevenZipFailed):
        await runner.run("t", folder=tmp_path, writable=tmp_path)
    assert await ended(await appeared(tmp_path / "self"), await appeared(tmp_path / "child"))


async def test_one_that_works_may_be_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_seven_zip.install(tmp_path, "while [ ! -e go ]; do :; done", monkeypatch)
    running = asyncio.create_task(SevenZip(60, 0.5).run("t", folder=tmp_path, writable=tmp_path))
    await asyncio.wait([running], timeout=2)
    assert not running.done()
    (tmp_path / "go").touch()
    await running


async def test_a_cancelled_one_is_killed_with_its_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_seven_zip.install(tmp_path, SLEEPER, monkeypatch)
    before = set(descendants(os.getpid()))
    running = asyncio.create_task(PATIENT.run("t", folder=tmp_path, writable=tmp_path))
    child = await appeared(tmp_path / "child")
    itself = await appeared(tmp_path / "self")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not is_running(itself)
    assert await ended(child)
    assert set(descendants(os.getpid())) <= before


async def test_a_file_over_the_limit_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_seven_zip.install(tmp_path, "exec yes > large", monkeypatch)
    with pytest.raises(CorruptData):
        await PATIENT.run("x", folder=tmp_path, writable=tmp_path, max_file_bytes=100_000)
    assert (tmp_path / "large").stat().st_size == 100_000


async def test_it_dies_with_a_worker_that_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_seven_zip.install(tmp_path, "echo $$ > self; exec sleep 1000", monkeypatch)
    work = """if True:
        import asyncio
        from pathlib import Path
        from open_workshop_storage.services.archives.seven_zip import SevenZip
        asyncio.run(SevenZip(60, 60).run("t", writable=Path.cwd()))
    """
    worker = subprocess.Popen(
        [sys.executable, "-c", work], cwd=tmp_path, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )
    try:
        command = await appeared(tmp_path / "self")
        worker.send_signal(signal.SIGKILL)
        assert await ended(command)
    finally:
        worker.kill()
        worker.wait()
