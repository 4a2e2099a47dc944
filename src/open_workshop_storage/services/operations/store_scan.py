"""Has the whole store scanned for malware, and deletes nothing (`open-workshop-storage scan`).

One file is judged at a time, with a bar on standard error if that is a terminal. The name of the last one that was
judged is written down in the storage root, so a run that was broken off goes on behind it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from pathlib import Path

from open_workshop_storage.core.errors import ArchiveRefused, FileMissing, StorageError
from open_workshop_storage.core.settings import Settings
from open_workshop_storage.services.archives.archives import Archives
from open_workshop_storage.services.intake.scan import Scanner
from open_workshop_storage.services.operations.findings import Finding, fault, ok, reason_of
from open_workshop_storage.services.operations.integrity import every_file, shown
from open_workshop_storage.services.storage.files import Files, StoredFile
from open_workshop_storage.utils.archives.kinds import HEAD_BYTES, Kind, kind_of
from open_workshop_storage.utils.net.clamd import Cause, Clean, Malware, NotJudged, Verdict
from open_workshop_storage.utils.processes.threads import run_to_end

PLACE = ".scan"
"""The file in the storage root that holds the name of the last file that was judged."""

_SUBJECT = "scan"
_NOTE_SECONDS = 1.0


async def scan_store(settings: Settings, files: Files) -> AsyncGenerator[Finding]:
    """Have every stored file judged.

    Yields:
        Each file with malware, and each that cannot be judged, and at last how many are clean.

    Raises:
        ServiceUnavailable: The store is away.
    """
    scanner = Scanner(settings)
    if not scanner.is_set:
        yield fault(_SUBJECT, "CLAMD_ADDRESS is empty; say there which scanner to ask")
        return
    place = _Place(settings.main_dir / PLACE)
    after = await place.read(files)
    if after is not None:
        yield ok(_SUBJECT, f"goes on behind {shown(after)}")
    counted: Counter[str] = Counter()
    async with aclosing(Archives(settings)) as archives:
        async for file, advance in every_file(files):
            if after is not None:
                after = None if file.name == after else after
                advance(file.size)
                continue
            try:
                verdict = await _verdict_on(file, files, scanner, archives)
            except FileMissing:
                continue
            except OSError as error:
                verdict = NotJudged(Cause.FAILURE, reason_of(error))
            match verdict:
                case Clean():
                    counted["clean"] += 1
                case Malware(name):
                    counted["infected"] += 1
                    yield fault(shown(file.name), f"malware: {name}")
                case NotJudged(Cause.AWAY, detail):
                    yield fault(
                        _SUBJECT, f"the scanner is away ({detail}); start it, and run the command again to go on"
                    )
                    return
                case NotJudged(cause, detail):
                    counted["not judged"] += 1
                    yield fault(shown(file.name), f"not judged ({cause}): {detail}")
            await place.write(file.name)
            advance(file.size)
    await place.forget()
    if after is not None:
        yield fault(_SUBJECT, f"{shown(after)} has gone, and nothing was scanned; run the command again to begin anew")
        return
    yield ok(_SUBJECT, ", ".join(f"{counted[name]} {name}" for name in ("clean", "infected", "not judged")))


async def _verdict_on(file: StoredFile, files: Files, scanner: Scanner, archives: Archives) -> Verdict:
    async with files.local_copy(file) as path:
        verdict = await scanner.scan(path)
        if isinstance(verdict, NotJudged) and verdict.cause is Cause.CUT:
            # It was being ended, perhaps.
            verdict = await scanner.scan(path)
        if verdict == Clean() and kind_of(await run_to_end(_head, path)) is Kind.ZIP:
            # One that cannot be read as a ZIP is what it is for the scanner, too.
            with suppress(ArchiveRefused):
                if (await archives.inspector.inspect(path, path.name, 0)).has_new_methods:
                    return NotJudged(Cause.FAILURE, "packed in a method that scanners cannot undo")
        return verdict


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEAD_BYTES)


class _Place:
    """Where a run is, written down about once a second."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written = time.monotonic()

    async def read(self, files: Files) -> str | None:
        """Return the name of the last file that an unfinished run has judged, if that file is still there."""
        try:
            name = await run_to_end(self._path.read_text, "utf-8", "surrogateescape")
            storage_type, _, path = name.partition("/")
            await files.find(storage_type, path)
        except (OSError, StorageError):
            return None
        return name

    async def write(self, name: str) -> None:
        """Write a name down, unless another one has been just before."""
        now = time.monotonic()
        if now >= self._written + _NOTE_SECONDS:
            self._written = now
            with suppress(OSError):
                await run_to_end(self._path.write_text, name, "utf-8", "surrogateescape")

    async def forget(self) -> None:
        """Let the next run begin with the first file."""
        with suppress(OSError):
            await run_to_end(self._path.unlink)
