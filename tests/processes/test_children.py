"""Child processes: how they start, and that none is left."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from open_workshop_storage.utils.processes import children
from tests.support import processes
from tests.support.processes import descendants, is_running

pytestmark = pytest.mark.anyio


async def start(script: str, *limits: str, folder: Path | None = None) -> subprocess.Popen[bytes]:
    return await children.start(
        ["sh", "-c", script],
        readable=[],
        writable=[folder] if folder else [],
        limits=limits,
        environment={"NAME": "value"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        folder=folder,
    )


async def output_of(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None
    printed = b""
    while block := await children.read(process.stdout):
        printed += block
    await children.end(process)
    return printed


async def test_it_gets_the_environment_that_it_is_given_and_a_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANSFER_JWT_SECRET", "secret")
    names = {line.partition(b"=")[0] for line in (await output_of(await start("env"))).splitlines()}
    assert {b"PATH", b"NAME"} <= names <= {b"PATH", b"NAME", b"PWD", b"OLDPWD", b"SHLVL", b"_"}


async def test_it_runs_in_its_folder(tmp_path: Path) -> None:
    assert await output_of(await start("pwd", folder=tmp_path)) == os.fsencode(tmp_path) + b"\n"


async def test_limits_hold_and_there_are_no_core_files() -> None:
    assert await output_of(await start("ulimit -n; ulimit -c", "--nofile=7")) == b"7\n0\n"


@pytest.mark.parametrize(("script", "status"), [("exit 3", 3), ("ulimit -f 0; echo > file", -signal.SIGXFSZ)])
async def test_its_status_is_told(script: str, status: int, tmp_path: Path) -> None:
    process = await start(script, folder=tmp_path)
    assert await children.status(process) == status
    await children.end(process)


async def test_a_command_that_is_not_there_ends_with_a_status_and_without_a_folder_it_does_not_start() -> None:
    assert b"missing" in await output_of(await start("exec missing"))
    with pytest.raises(FileNotFoundError):
        await start("true", folder=Path("/missing"))


async def test_it_is_killed_with_all_that_it_started() -> None:
    before = set(descendants(os.getpid()))
    process = await start("sleep 1000 & sleep 1000 & echo started; wait")
    assert process.stdout is not None
    await children.read(process.stdout)
    started = set(descendants(os.getpid())) - before
    assert len(started) >= 3
    await children.end(process)
    async with asyncio.timeout(60):
        while any(map(is_running, started)):
            await asyncio.sleep(0.01)


async def test_none_is_left_of_a_start_that_is_cancelled() -> None:
    before = processes.children(os.getpid())
    for turns in range(4):
        task = asyncio.create_task(start("sleep 1000"))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
    assert processes.children(os.getpid()) == before


async def test_it_dies_with_a_worker_that_is_killed() -> None:
    work = """if True:
        import asyncio, subprocess
        from open_workshop_storage.utils.processes import children

        async def main():
            process = await children.start(
                ["sleep", "1000"], readable=[], writable=[], limits=[], environment={},
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )
            print(process.pid, flush=True)
            await asyncio.sleep(1000)

        asyncio.run(main())
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", work], env=environment, stdout=subprocess.PIPE) as worker:
        assert worker.stdout is not None
        child = int(await asyncio.to_thread(worker.stdout.readline))
        async with asyncio.timeout(60):
            # Until `setpriv` has asked for the signal, there is none.
            while not Path(f"/proc/{child}/cmdline").read_bytes().startswith(b"sleep"):
                await asyncio.sleep(0.01)
        worker.kill()
    async with asyncio.timeout(60):
        while is_running(child):
            await asyncio.sleep(0.01)
