"""Tells how large archives are when unpacked."""

from __future__ import annotations

from cachetools import LRUCache

from open_workshop_storage.services.storage.files import Files, StoredFile
from open_workshop_storage.utils.archives.unpacked_size import unpacked_size
from open_workshop_storage.utils.processes.python_children import ChildFailed, PythonChildren
from open_workshop_storage.utils.processes.single_flight import SingleFlight
from open_workshop_storage.utils.processes.threads import run_to_end

_MOST_FILES = 10_000
"""How many sizes a worker remembers; all together take 3 MB."""
# No file system holds more; what a child returns is as untrusted as the file.
_MOST_BYTES = 2**63

_CHILDREN = 2
_MEMORY_BYTES = 512 * 1024**2
# The longest directory of a ZIP that is read took 8 s; most take milliseconds.
_CPU_SECONDS, _SECONDS = 20.0, 60.0


class UnpackedSizes:
    """A bounded memory of unpacked sizes, one entry for each version of a file.

    What is kept with a file is believed; otherwise its directory is read in a child process with limits, once for all
    requests at the same time.
    """

    def __init__(self, files: Files) -> None:
        self._files = files
        self._sizes: LRUCache[bytes, int | None] = LRUCache(_MOST_FILES)
        self._flights: SingleFlight[StoredFile, int | None] = SingleFlight()
        self._children = PythonChildren(_CHILDREN, _MEMORY_BYTES, ())

    async def get(self, file: StoredFile) -> int | None:
        """Return the sum of the unpacked sizes in a ZIP or a 7z archive in bytes.

        Returns:
            None if the archive is encrypted, or cannot be read within the limits.
        """
        key = file.key
        try:
            return self._sizes[key]
        except KeyError:
            size = self._sizes[key] = await self._flights.run(file, lambda: self._find_out(file))
            return size

    async def aclose(self) -> None:
        """End the child processes."""
        await self._children.aclose()

    async def _find_out(self, file: StoredFile) -> int | None:
        facts = await self._files.facts(file)
        if facts is not None and facts.unpacked_bytes is not None:
            return facts.unpacked_bytes
        try:
            async with self._files.local_copy(file, ends_only=True) as path:
                with await run_to_end(path.open, "rb") as opened:
                    size = await self._children.call(
                        unpacked_size, files=[opened], seconds=_SECONDS, cpu_seconds=_CPU_SECONDS
                    )
        except (ChildFailed, OSError):
            return None
        return size if isinstance(size, int) and 0 <= size < _MOST_BYTES else None
