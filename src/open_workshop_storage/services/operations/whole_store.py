"""Reads the whole store: gives digests to files without one, finds files that changed, and has all scanned for malware.

One file is read at a time, with a bar on standard error if that is a terminal. What is done is kept, so a run that was
broken off goes on where it was (`open-workshop-storage digests`, `… verify` and `… scan`): a digest with its file, and
the name of the last file that was scanned in the storage root. Nothing is deleted.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, suppress
from pathlib import Path

from tqdm import tqdm

from open_workshop_storage.core.errors import ArchiveRefused, FileMissing, StorageError
from open_workshop_storage.core.settings import Settings
from open_workshop_storage.services.archives.archives import Archives
from open_workshop_storage.services.intake.scan import Scanner
from open_workshop_storage.services.operations.findings import Finding, fault, ok, reason_of
from open_workshop_storage.services.storage.files import MOST_READ_BYTES, Facts, Files, StoredFile
from open_workshop_storage.utils.archives.kinds import HEAD_BYTES, Kind, kind_of
from open_workshop_storage.utils.net.clamd import Cause, Clean, Malware, NotJudged, Verdict
from open_workshop_storage.utils.processes.threads import run_to_end

Advance = Callable[[float], object]
"""Moves the bar on by so many bytes."""

PLACE = ".scan"
"""The file in the storage root that holds the name of the last file that was scanned."""

_SUBJECT = "scan"
_NOTE_SECONDS = 1.0


async def give_digests(files: Files) -> AsyncIterator[Finding]:
    """Compute the digest of every file that has none, and keep it with the file.

    Yields:
        Each file that stays without one, and at last how many have one.

    Raises:
        ServiceUnavailable: The store is away.
    """
    counted: Counter[str] = Counter()
    async for file, advance in _every_file(files):
        facts = await files.facts(file) or Facts()
        if facts.sha256 is not None:
            counted["had"] += 1
            advance(file.size)
            continue
        try:
            read, sha256 = await _sha256_of(files, file, advance)
            is_kept = await files.keep(read, facts._replace(sha256=sha256))
        except FileMissing:
            continue
        except OSError as error:
            yield _file_fault(file, f"cannot be read: {reason_of(error)}")
            continue
        if is_kept:
            counted["given"] += 1
        else:
            yield _file_fault(file, "got no digest: it has changed since, or the file system keeps no attributes")
    yield ok("digests", f"{counted['given']} given, {counted['had']} known before")


async def find_changed(files: Files) -> AsyncIterator[Finding]:
    """Compare every file with the digest that is kept with it, also if the file was edited since.

    Yields:
        Each file that has another digest now, or cannot be read, and at last how many are sound.

    Raises:
        ServiceUnavailable: The store is away.
    """
    counted: Counter[str] = Counter()
    async for file, advance in _every_file(files):
        facts = await files.facts(file, even_if_edited=True)
        if facts is None or facts.sha256 is None:
            counted["unknown"] += 1
            advance(file.size)
            continue
        try:
            read, sha256 = await _sha256_of(files, file, advance)
            # The file may have been replaced since; then the digest of the new one counts.
            facts = await files.facts(read, even_if_edited=True)
        except FileMissing:
            continue
        except OSError as error:
            yield _file_fault(file, f"cannot be read: {reason_of(error)}")
            continue
        if facts is not None and facts.sha256 == sha256:
            counted["sound"] += 1
        elif read == file:
            yield _file_fault(file, "is not what it was")
    yield ok("digests", f"{counted['sound']} as they were, {counted['unknown']} without a digest")


async def _every_file(files: Files) -> AsyncIterator[tuple[StoredFile, Advance]]:
    """Yield every stored file, and the function that moves the bar on, to be called for all of the file's bytes."""
    total = 0
    async for file in files.every_file():
        total += file.size
    # The default lock of tqdm is a semaphore of the system, for several processes.
    tqdm.set_lock(threading.RLock())
    with tqdm(total=total, unit="B", unit_scale=True, disable=None) as bar:
        async for file in files.every_file():
            yield file, bar.update


async def _sha256_of(files: Files, file: StoredFile, advance: Advance) -> tuple[StoredFile, str]:
    """Return the version that was read, a newer one if the file was replaced, and its digest."""
    digest, offset = hashlib.sha256(), 0
    async with files.open(file) as opened:
        while block := await opened.read(offset, MOST_READ_BYTES):
            digest.update(block)
            offset += len(block)
            advance(len(block))
    return opened.file, digest.hexdigest()


def _file_fault(file: StoredFile, text: str) -> Finding:
    return fault(_shown(file.name), text)


def _shown(name: str) -> str:
    """Return a file's name as it is printed."""
    return name if name.isprintable() else repr(name)


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
        yield ok(_SUBJECT, f"goes on behind {_shown(after)}")
    counted: Counter[str] = Counter()
    async with aclosing(Archives(settings)) as archives:
        async for file, advance in _every_file(files):
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
                    yield _file_fault(file, f"malware: {name}")
                case NotJudged(Cause.AWAY, detail):
                    yield fault(
                        _SUBJECT, f"the scanner is away ({detail}); start it, and run the command again to go on"
                    )
                    return
                case NotJudged(cause, detail):
                    counted["not judged"] += 1
                    yield _file_fault(file, f"not judged ({cause}): {detail}")
            await place.write(file.name)
            advance(file.size)
    await place.forget()
    if after is not None:
        yield fault(_SUBJECT, f"{_shown(after)} has gone, and nothing was scanned; run the command again to begin anew")
        return
    yield ok(_SUBJECT, ", ".join(f"{counted[name]} {name}" for name in ("clean", "infected", "not judged")))


async def _verdict_on(file: StoredFile, files: Files, scanner: Scanner, archives: Archives) -> Verdict:
    async with files.local_copy(file) as path:
        verdict = await scanner.scan(path)
        if isinstance(verdict, NotJudged) and verdict.cause is Cause.CUT:
            # The scanner may have just been restarted.
            verdict = await scanner.scan(path)
        if verdict == Clean() and kind_of(await run_to_end(_head, path)) is Kind.ZIP:
            # If we cannot read it as a ZIP, the scanner's verdict counts.
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
