"""Reads the whole store: gives digests to files without one, and finds files that are not what they were.

One file is read at a time, block by block, with a bar on standard error if that is a terminal. What is done is kept
with each file, so a run that was broken off goes on where it was (`open-workshop-storage digests` and `… verify`).
"""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable

from tqdm import tqdm

from open_workshop_storage.core.errors import FileMissing
from open_workshop_storage.services.operations.findings import Finding, fault, ok, reason_of
from open_workshop_storage.services.storage.files import MOST_READ_BYTES, Facts, Files, StoredFile

Advance = Callable[[float], object]
"""Is told how many more bytes are done."""


async def give_digests(files: Files) -> AsyncIterator[Finding]:
    """Compute the digest of every file that has none, and keep it with the file.

    Yields:
        Each file that stays without one, and at last how many have one.

    Raises:
        ServiceUnavailable: The store is away.
    """
    counted: Counter[str] = Counter()
    async for file, advance in every_file(files):
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
            yield fault(shown(file.name), f"cannot be read: {reason_of(error)}")
            continue
        if is_kept:
            counted["given"] += 1
        else:
            yield fault(shown(file.name), "got no digest: it has changed since, or the file system keeps no attributes")
    yield ok("digests", f"{counted['given']} given, {counted['had']} known before")


async def find_changed(files: Files) -> AsyncIterator[Finding]:
    """Compare every file with the digest that is kept with it, also if the file was edited since.

    Yields:
        Each file that is not what it was, or cannot be read, and at last how many are sound.

    Raises:
        ServiceUnavailable: The store is away.
    """
    counted: Counter[str] = Counter()
    async for file, advance in every_file(files):
        facts = await files.facts(file, even_if_edited=True)
        if facts is None or facts.sha256 is None:
            counted["unknown"] += 1
            advance(file.size)
            continue
        try:
            read, sha256 = await _sha256_of(files, file, advance)
            # A file that was put in its place meanwhile is another one.
            facts = await files.facts(read, even_if_edited=True)
        except FileMissing:
            continue
        except OSError as error:
            yield fault(shown(file.name), f"cannot be read: {reason_of(error)}")
            continue
        if facts is not None and facts.sha256 == sha256:
            counted["sound"] += 1
        elif read == file:
            yield fault(shown(file.name), "is not what it was")
    yield ok("digests", f"{counted['sound']} as they were, {counted['unknown']} without a digest")


async def every_file(files: Files) -> AsyncIterator[tuple[StoredFile, Advance]]:
    """Yield every stored file with what moves the bar on, which is told all of the file's bytes."""
    total = 0
    async for file in files.every_file():
        total += file.size
    # Its own lock is one for several processes.
    tqdm.set_lock(threading.RLock())
    with tqdm(total=total, unit="B", unit_scale=True, disable=None) as bar:
        async for file in files.every_file():
            yield file, bar.update


async def _sha256_of(files: Files, file: StoredFile, advance: Advance) -> tuple[StoredFile, str]:
    """Return what was read, which is another version if the file was replaced, and its digest."""
    digest, offset = hashlib.sha256(), 0
    async with files.open(file) as opened:
        while block := await opened.read(offset, MOST_READ_BYTES):
            digest.update(block)
            offset += len(block)
            advance(len(block))
    return opened.file, digest.hexdigest()


def shown(name: str) -> str:
    """Return a file's name as it is printed."""
    return name if name.isprintable() else repr(name)
