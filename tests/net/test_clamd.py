"""What ClamAV's daemon says of files, and what counts as an answer."""

from __future__ import annotations

import asyncio
import io
import os
import socket
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from open_workshop_storage.utils.net import clamd as clamd_module
from open_workshop_storage.utils.net.clamd import (
    MOST_BYTES,
    Cause,
    Clean,
    Malware,
    NotJudged,
    Verdict,
    ask,
    parse_address,
    scan,
)
from tests.support import clamd as support
from tests.support.archives import Entries, compressed_tar_of, seven_zip_of, tar_of, zip_of
from tests.support.clamd import MARKER, NAME, Clamd

pytestmark = pytest.mark.anyio

ADDRESSES: list[Callable[[Clamd], str]] = [lambda clamd: clamd.local, lambda clamd: clamd.tcp]
EACH_WAY = pytest.mark.parametrize("address_of", ADDRESSES, ids=["unix", "tcp"])


async def verdict_on(address: str, content: bytes | Path, seconds: float = 30) -> Verdict:
    """Return what a daemon says of some bytes, or of a file."""
    with content.open("rb") if isinstance(content, Path) else os.fdopen(os.memfd_create("file"), "w+b") as file:
        if isinstance(content, bytes):
            file.write(content)
            file.flush()
        return await scan(parse_address(address), file, seconds)


@EACH_WAY
@pytest.mark.parametrize("size", [0, 1, 1024 * 1024, 3 * 1024 * 1024 + 1])
async def test_a_file_without_malware_is_clean_and_one_with_it_is_not(
    clamd: Clamd, address_of: Callable[[Clamd], str], size: int
) -> None:
    address = address_of(clamd)
    assert await verdict_on(address, bytes(size)) == Clean()
    assert await verdict_on(address, bytes(size) + MARKER) == Malware(NAME)


@EACH_WAY
async def test_what_is_over_a_limit_of_the_daemons_is_not_judged(
    clamd: Clamd, address_of: Callable[[Clamd], str]
) -> None:
    nested = MARKER
    for _ in range(30):
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
            opened.writestr("inner.zip", nested)
        nested = archive.getvalue()
    for content in (bytes(support.MOST_BYTES + 1), nested):
        verdict = await verdict_on(address_of(clamd), content)
        assert isinstance(verdict, NotJudged) and verdict.cause is Cause.LIMIT


@pytest.mark.parametrize(
    "maker",
    [
        zip_of,
        partial(zip_of, method=zipfile.ZIP_BZIP2),
        seven_zip_of,
        tar_of,
        partial(compressed_tar_of, compression="gz"),
        partial(compressed_tar_of, compression="xz"),
    ],
    ids=["ZIP", "ZIP, BZip2", "7z", "tar", "tar.gz", "tar.xz"],
)
async def test_what_lies_behind_the_limit_of_a_file_in_an_archive_is_not_judged(
    maker: Callable[[Entries], bytes], clamd: Clamd
) -> None:
    inner = maker({"a.bin": bytes(support.MOST_BYTES) + MARKER})
    for content in (zip_of({"a": inner}), zip_of({"a": zip_of({"b": inner})})):
        verdict = await verdict_on(clamd.local, content)
        assert isinstance(verdict, NotJudged) and verdict.cause is Cause.LIMIT


async def test_a_file_that_no_daemon_looks_at_is_not_judged(clamd: Clamd, tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.touch()
    os.truncate(large, MOST_BYTES + 1)
    for address in (clamd.local, clamd.tcp):
        verdict = await verdict_on(address, large)
        assert isinstance(verdict, NotJudged) and verdict.cause is Cause.LIMIT


@EACH_WAY
async def test_a_file_of_which_the_daemon_may_read_nothing_by_its_path_is_judged(
    clamd: Clamd, address_of: Callable[[Clamd], str], tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_bytes(MARKER)
    with file.open("rb") as opened:
        file.unlink()
        assert await scan(parse_address(address_of(clamd)), opened, 30) == Malware(NAME)


@EACH_WAY
async def test_many_files_at_once_are_each_judged_for_themselves(
    clamd: Clamd, address_of: Callable[[Clamd], str]
) -> None:
    contents = [b"x" * number + MARKER * (number % 2) for number in range(40)]
    verdicts = await asyncio.gather(*(verdict_on(address_of(clamd), content) for content in contents))
    assert verdicts == [Malware(NAME) if number % 2 else Clean() for number in range(40)]


@EACH_WAY
async def test_a_daemon_that_hangs_does_not_judge_in_time(clamd: Clamd, address_of: Callable[[Clamd], str]) -> None:
    with clamd.frozen():
        verdict = await verdict_on(address_of(clamd), MARKER, 0.3)
    assert isinstance(verdict, NotJudged) and verdict.cause is Cause.TIMEOUT


async def test_a_daemon_is_away_if_nothing_listens(tmp_path: Path) -> None:
    stale = tmp_path / "stale"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(stale))
    for address in (f"unix:{tmp_path}/nothing", f"unix:{stale}", "tcp:127.0.0.1:9", "tcp:nowhere.invalid:3310"):
        verdict = await verdict_on(address, MARKER)
        assert isinstance(verdict, NotJudged) and verdict.cause is Cause.AWAY


async def test_a_daemon_is_away_if_the_look_up_of_its_host_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(host: str) -> list[str]:
        await asyncio.sleep(3600)
        raise AssertionError

    monkeypatch.setattr(clamd_module, "resolve_host", hang)
    monkeypatch.setattr(clamd_module, "_CONNECT_SECONDS", 0.05)
    async with asyncio.timeout(60):
        verdict = await verdict_on("tcp:scanner:3310", MARKER, 3600)
    assert isinstance(verdict, NotJudged) and verdict.cause is Cause.AWAY


async def test_a_daemon_that_takes_no_more_connections_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "full"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(0)
        with socket.socket(socket.AF_UNIX) as other:
            other.connect(str(path))
            verdict = await verdict_on(f"unix:{path}", b"", 0.2)
            assert isinstance(verdict, NotJudged) and verdict.cause is Cause.TIMEOUT
            waiting = asyncio.create_task(verdict_on(f"unix:{path}", b""))
            await asyncio.sleep(0)
            for _ in range(2):
                connection, _ = await asyncio.to_thread(listener.accept)
                with connection:
                    connection.sendall(b"fd[7]: OK\0")
            assert await waiting == Clean()


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (b"", Cause.CUT),
        (b"stream: OK", Cause.CUT),
        (b"stream: Some.Name FOUND", Cause.CUT),
        (b"\0", Cause.FAILURE),
        (b"OK\0", Cause.FAILURE),
        (b"stream: OKAY\0", Cause.FAILURE),
        (b"stream: OK\nstream: Some.Name FOUND\0", Cause.FAILURE),
        (b"stream: OK\0stream: Some.Name FOUND\0", Cause.FAILURE),
        (b"stream:  FOUND\0", Cause.FAILURE),
        (b"stream: Can't allocate memory ERROR\0", Cause.FAILURE),
        (b"No file descriptor received. ERROR\0", Cause.FAILURE),
        (b"UNKNOWN COMMAND\0", Cause.FAILURE),
        (b"\xff\xfe\0", Cause.FAILURE),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n\0", Cause.FAILURE),
        (b"x" * 100_000, Cause.FAILURE),
        (b"INSTREAM size limit exceeded. ERROR\0", Cause.LIMIT),
        (b"stream: Heuristics.Limits.Exceeded.MaxScanTime FOUND\0", Cause.LIMIT),
    ],
)
async def test_only_a_whole_and_known_answer_is_a_verdict(answer: bytes, cause: Cause) -> None:
    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(len(b"zINSTREAM\0") + 4)
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(respond, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        verdict = await verdict_on(f"tcp:127.0.0.1:{port}", b"")
    assert isinstance(verdict, NotJudged) and verdict.cause is cause


async def test_it_tells_its_version(clamd: Clamd) -> None:
    for address in (clamd.local, clamd.tcp):
        assert (await ask(parse_address(address), "VERSION", 30)).startswith("ClamAV ")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("unix:/run/clamav/clamd.ctl", ("/run/clamav/clamd.ctl", "", 0)),
        ("tcp:scanner.internal:3310", ("", "scanner.internal", 3310)),
        ("tcp:[fd00::1]:3310", ("", "fd00::1", 3310)),
    ],
)
def test_an_address_is_a_socket_or_a_host_and_a_port(text: str, address: tuple[str, str, int]) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text", ["", "/run/clamd", "unix:clamd", "unix:/" + "x" * 107, "tcp:host", "tcp:host:0", "tcp:host:65536", "tcp::1"]
)
def test_anything_else_is_no_address(text: str) -> None:
    with pytest.raises(ValueError):
        parse_address(text)
