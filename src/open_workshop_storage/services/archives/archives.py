"""Inspects, tests, extracts and packs archives of unknown origin (docs/API.md, "Archives").

Each step can be done again from what is on the disk, whatever became of the one before.
"""

from __future__ import annotations

import os

from open_workshop_storage.core.settings import Settings
from open_workshop_storage.services.archives.inspection import Inspector
from open_workshop_storage.services.archives.parsers import parsers
from open_workshop_storage.services.archives.repacking import Repacker
from open_workshop_storage.services.archives.seven_zip import SevenZip

_MAX_EXTRACTIONS = 100


class Archives:
    """The steps of an archive; those that run at the same time share the cores.

    Attributes:
        inspector: Reads it, and writes nothing.
        repacker: Makes a folder of it, and a ZIP of the folder.
    """

    def __init__(self, settings: Settings) -> None:
        seven_zip = SevenZip(settings.seven_zip_timeout_seconds, settings.seven_zip_idle_timeout_seconds)
        # An extraction may take as long as it takes, and must not keep inspections waiting; slots limit extractions.
        self._parsers = parsers(len(os.sched_getaffinity(0))), parsers(_MAX_EXTRACTIONS)
        self.inspector = Inspector(settings, seven_zip, self._parsers[0])
        self.repacker = Repacker(settings, seven_zip, self._parsers[1])

    async def aclose(self) -> None:
        """End the child processes."""
        for pool in self._parsers:
            await pool.aclose()
