"""What a confined child process cannot do: read secrets, reach the network, harm the service."""

from __future__ import annotations

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from socket import create_server

import pytest

from open_workshop_storage.utils.processes import children
from open_workshop_storage.utils.processes.confinement import confine_thread, unconfined

pytestmark = pytest.mark.anyio


async def said(script: str, *, readable: tuple[Path, ...] = (), writable: tuple[Path, ...] = ()) -> str:
    """Return what a confined shell prints, errors among it."""
    process = await children.start(
        ["bash", "-c", script],
        readable=readable,
        writable=writable,
        limits=[],
        environment={},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert process.stdout is not None
    printed = b""
    while block := await children.read(process.stdout):
        printed += block
    await children.end(process)
    return printed.decode()


def test_this_system_can_confine() -> None:
    assert unconfined() == []


def test_what_cannot_be_confined_is_named() -> None:
    # Landlock can be nested 16 times.
    with ThreadPoolExecutor(1) as thread:
        found = [thread.submit(confine_thread, [], []).result() for _ in range(17)]
    assert found[:16] == 16 * [[]]
    assert [problem.startswith("files (Landlock: ") for problem in found[16]] == [True]


async def test_the_service_itself_stays_free(tmp_path: Path) -> None:
    await said("true")
    (tmp_path / "file").write_text("text")
    create_server(("127.0.0.1", 0)).close()


async def test_no_file_but_those_it_is_given_can_be_read(tmp_path: Path) -> None:
    (secret := tmp_path / "ow_config.py").write_text("TRANSFER_JWT_SECRET")
    (given := tmp_path / "given").write_text("given")
    printed = await said(f"cat {given}; cat {secret}; ls {tmp_path}", readable=(given,))
    assert printed.startswith("given")
    assert "TRANSFER_JWT_SECRET" not in printed
    assert printed.count("Permission denied") == 2


@pytest.mark.parametrize("readable", [(), (Path("/proc"),)], ids=["usual", "even with /proc"])
@pytest.mark.parametrize("name", ["environ", "mem", "maps", "fd/0"])
async def test_nothing_of_the_worker_can_be_read(name: str, readable: tuple[Path, ...]) -> None:
    path = f"/proc/{os.getpid()}/{name}"
    printed = await said(f"head -c 1 {path}", readable=readable)
    assert printed.count("Permission denied") == 1


async def test_files_can_be_written_in_its_folder_only(tmp_path: Path) -> None:
    for name in ("inside", "outside"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "old").write_text("old")
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    script = "cd {}; echo new > new; mkdir folder; mv new folder/new; echo new > old; ln -s / link; mkfifo pipe"
    printed = await said(f"{script.format(inside)}; {script.format(outside)}", readable=(outside,), writable=(inside,))
    assert (inside / "old").read_text() == "new\n"
    assert sorted(path.name for path in inside.rglob("*")) == ["folder", "new", "old"]
    assert [path.name for path in outside.rglob("*")] == ["old"]
    assert (outside / "old").read_text() == "old"
    assert printed.count("denied") >= 6


async def test_a_file_outside_cannot_be_cut(tmp_path: Path) -> None:
    (path := tmp_path / "file").write_text("text")
    assert "Permission" in await said(f"truncate --size 0 {path}; perl -e 'truncate(\"{path}\", 0) or die $!'")
    assert path.read_text() == "text"


async def test_no_connection_can_be_made() -> None:
    with create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        printed = await said(f"echo hello > /dev/tcp/127.0.0.1/{port}")
        assert "not permitted" in printed
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()


async def test_no_signal_reaches_the_worker() -> None:
    assert "not permitted" in await said(f"kill -TERM {os.getpid()}")


async def test_limits_of_the_worker_stay() -> None:
    assert "not permitted" in await said(f"prlimit --pid {os.getpid()} --nofile=3")


async def test_it_has_no_privileges_and_gets_none() -> None:
    status = await said("cat /proc/self/status", readable=(Path("/proc"),))
    assert "NoNewPrivs:\t1" in status
    assert "CapEff:\t0000000000000000" in status
