"""Runs the `7z` command as a child process of its own group, and never leaves one behind."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, BinaryIO

from open_workshop_storage.observability.tracing import span
from open_workshop_storage.utils.archives.faults import (
    CorruptData,
    EncryptedData,
    SevenZipFailed,
    UnreadableMethod,
    UnsafeEntry,
)
from open_workshop_storage.utils.archives.kinds import Kind
from open_workshop_storage.utils.processes import children

# More than any sane archive's dictionary takes. Only what is really used counts, so that threads cost little.
_MEMORY_BYTES = 4 * 1024**3
_MAX_PIECE_BYTES = 65536

_SEPARATORS = re.compile(rb"[\r\n\b]+")
_PERCENT = re.compile(rb" *(\d{1,3})%")


# Naming the type keeps 7z from trying others on what is not what it seems to be.
TYPE_SWITCHES = {
    Kind.ZIP: "-tzip",
    Kind.SEVEN_ZIP: "-t7z",
    Kind.RAR4: "-trar",
    Kind.RAR5: "-trar5",
}
READ_SWITCHES = ("-p-", "-sns-")
"""Some password, so that none is asked for, and no alternate streams."""

# 7z ends with status 2 whatever was wrong, so its messages have to tell. They are looked for at the start of a line
# only, after the archive's own path at most, because names from the archive follow them. The first one in this list
# that was printed decides.
_MESSAGES: dict[str, tuple[Callable[[str], Exception], bytes]] = {
    "unsafe": (UnsafeEntry, rb"(?:Dangerous|Cannot create)(?: symbolic| hard)? link"),
    "no_space": (partial(OSError, errno.ENOSPC), rb"errno=28 |errno=122 |No space left|Disk quota exceeded"),
    "encrypted": (
        EncryptedData,
        rb"(?:.* : )?Cannot open encrypted|Wrong password|[A-Za-z ]+ in encrypted (?:file|archive)",
    ),
    "unreadable": (UnreadableMethod, rb"Unsupported [A-Za-z]+|Can't allocate required memory"),
    "corrupt": (
        CorruptData,
        rb"(?:.* : )?Cannot open the file as|CRC Failed|Data Error|Headers Error|Unexpected end of|Unconfirmed start of"
        rb"|There are some data after the end|Unavailable data|Missing volume|Is not archive",
    ),
}
_MESSAGE = re.compile(
    rb"(?:ERROR: |ERROR = |Open ERROR: )?(?:%b)"
    % b"|".join(b"(?P<%b>%b)" % (name.encode(), pattern) for name, (_, pattern) in _MESSAGES.items())
)

# Debian's /usr/bin/7z is such a script, and a shell takes a quarter of the time of a small command.
_WRAPPER = re.compile(rb'#! ?/bin/sh\s+exec (/\S+) "\$@"\s*')
_WRAPPER_BYTES = 200

_ERROR = re.compile(rb"(?:System |Open )?ERROR")
# Printed for a file whose attributes say that it once was a link, and whose content, which is all there, is none.
_HARMLESS = re.compile(rb"ERROR: Incorrect reparse stream")
_STATUS_OF_ERRORS = 2


class SevenZip:
    """Runs `7z` commands under time limits; those that run at once share the cores.

    Args:
        total_seconds: How long one command may take.
        idle_seconds: How long it may neither print nor read nor write nor use CPU time; up to twice as long passes
            before it is ended.
    """

    def __init__(self, total_seconds: float, idle_seconds: float) -> None:
        self._total_seconds = total_seconds
        self._idle_seconds = idle_seconds
        self._cores = len(os.sched_getaffinity(0))
        self._running = 0

    async def run(
        self,
        *arguments: str | Path,
        on_percent: Callable[[float], None] | None = None,
        on_line: Callable[[str], None] | None = None,
        output: BinaryIO | None = None,
        folder: Path | None = None,
        writable: Path | None = None,
        max_file_bytes: int | None = None,
    ) -> None:
        """Run one command to its end, as a span of its own.

        A cancellation kills it, with all that it started, before it goes on.

        Args:
            arguments: The command's letter, switches and paths, whose folders it may read; a path must not look like a
                switch.
            on_percent: Told each rise of the progress, and 100 at the end.
            on_line: Told each line that is printed, bytes that are not UTF-8 as surrogates. Percentages count
                as lines.
            output: The command's standard output, where `-so` sends the data; closed here once the command has it.
            folder: Where the command runs, which it may read.
            writable: The folder below which it may write.
            max_file_bytes: The largest file that it may write.

        Raises:
            CorruptData: The archive is broken, or a file came out that is larger than `max_file_bytes`.
            EncryptedData: The archive is encrypted.
            UnreadableMethod: `7z` cannot unpack it.
            UnsafeEntry: A link leads out of the archive.
            SevenZipFailed: The command was too slow, is not installed, or failed for another reason.
            OSError: The disk is full.
        """
        limits = [f"--data={_MEMORY_BYTES}"]
        if max_file_bytes is not None:
            limits.append(f"--fsize={max_file_bytes}")
        # A file that Landlock has a rule for keeps its disk space for some milliseconds after the child's end.
        folders = [path.absolute().parent for path in arguments if isinstance(path, Path)]
        words = "2" if output is not None else "1"
        with span(f"7z {arguments[0]}"), self._share_of_cores() as threads:
            switches = ("-y", "-sccUTF-8", f"-mmt={threads}", f"-bso{words}", f"-bse{words}", f"-bsp{words}")
            try:
                process = await children.start(
                    (await asyncio.to_thread(_program), *arguments, *switches),
                    readable=folders if folder is None else [*folders, folder],
                    writable=[] if writable is None else [writable],
                    limits=limits,
                    environment={"LANG": "C.UTF-8", "LC_ALL": "C.UTF-8"},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE if output is None else output,
                    stderr=subprocess.STDOUT if output is None else subprocess.PIPE,
                    folder=folder,
                )
            except OSError as error:
                raise SevenZipFailed(str(error)) from error
            finally:
                if output is not None:
                    output.close()
            listener = _Listener(on_percent, on_line)
            await self._attend(process, listener)
            if process.returncode == -signal.SIGXFSZ:
                raise CorruptData(f"a file over {max_file_bytes} bytes")
            if process.returncode and not (process.returncode == _STATUS_OF_ERRORS and listener.is_harmless):
                raise listener.error(process.returncode)
        if on_percent is not None:
            listener.percent(100)

    @contextlib.contextmanager
    def _share_of_cores(self) -> Iterator[int]:
        self._running += 1
        try:
            yield max(1, self._cores // self._running)
        finally:
            self._running -= 1

    async def _attend(self, process: subprocess.Popen[bytes], listener: _Listener) -> None:
        words = process.stdout or process.stderr
        assert words is not None
        try:
            async with asyncio.timeout(self._total_seconds):
                await self._listen(process, words, listener)
                await children.status(process)
        except TimeoutError:
            raise SevenZipFailed(f"process {process.pid} took too long") from None
        finally:
            await children.end(process)

    async def _listen(self, process: subprocess.Popen[bytes], words: IO[bytes], listener: _Listener) -> None:
        activity = 0
        while True:
            try:
                async with asyncio.timeout(self._idle_seconds):
                    block = await children.read(words)
            except TimeoutError:
                # One large file, or a disk that is slow, keeps it silent for longer.
                before, activity = activity, await asyncio.to_thread(children.activity, process)
                if activity == before:
                    raise
                continue
            if not block:
                listener.feed(b"\n")
                return
            listener.feed(block)


def _program() -> str:
    """Return the path of `7z`, or of the program that it is a script for; its name if it is not installed."""
    path = shutil.which("7z")
    if path is None:
        return "7z"
    with open(path, "rb") as file:
        wrapper = _WRAPPER.fullmatch(file.read(_WRAPPER_BYTES))
    return path if wrapper is None else os.fsdecode(wrapper[1])


class _Listener:
    """Reads what a command prints, block by block."""

    def __init__(self, on_percent: Callable[[float], None] | None, on_line: Callable[[str], None] | None) -> None:
        self._on_percent = on_percent
        self._on_line = on_line
        self._percent = -1.0
        self._rest = b""
        self._messages: dict[str, bytes] = {}
        self._errors = self._harmless_errors = 0

    def feed(self, block: bytes) -> None:
        *pieces, self._rest = _SEPARATORS.split(self._rest + block)
        self._rest = self._rest[:_MAX_PIECE_BYTES]
        for piece in pieces:
            if match := _PERCENT.match(piece):
                self.percent(float(match[1]))
            if (match := _MESSAGE.match(piece)) and match.lastgroup:
                self._messages.setdefault(match.lastgroup, piece[:200])
            self._errors += bool(_ERROR.match(piece))
            self._harmless_errors += bool(_HARMLESS.match(piece))
            if self._on_line is not None:
                self._on_line(piece.decode(errors="surrogateescape"))

    def percent(self, percent: float) -> None:
        if self._on_percent is not None and self._percent < percent <= 100:
            self._percent = percent
            self._on_percent(percent)

    @property
    def is_harmless(self) -> bool:
        """Whether errors were printed, and none that speaks against the archive."""
        return 0 < self._harmless_errors == self._errors

    def error(self, status: int) -> Exception:
        for name, (error, _) in _MESSAGES.items():
            if name in self._messages:
                return error(self._messages[name].decode(errors="replace"))
        return SevenZipFailed(f"exit status {status}")
