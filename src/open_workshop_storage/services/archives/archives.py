"""Inspects, tests, extracts and packs archives of unknown origin (docs/API.md, "Archives").

Each step can be done again from what is on the disk, whatever became of the one before.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from open_workshop_storage.core.settings import Settings
from open_workshop_storage.observability.tracing import span
from open_workshop_storage.services.archives.extraction import Extractor
from open_workshop_storage.services.archives.inspection import Inspector
from open_workshop_storage.services.archives.packing import Packer
from open_workshop_storage.utils.archives.seven_zip import SevenZip


class Archives:
    """The steps of an archive; those that run at the same time share the cores."""

    def __init__(self, settings: Settings) -> None:
        seven_zip = _TracedSevenZip(settings.seven_zip_timeout_seconds, settings.seven_zip_idle_timeout_seconds)
        inspector = Inspector(settings, seven_zip)
        self.inspect = inspector.inspect
        self.test = inspector.test
        self.extract = Extractor(settings, seven_zip).extract
        self.pack = Packer(settings, seven_zip).pack


class _TracedSevenZip(SevenZip):
    """Makes each run a span."""

    async def run(self, *arguments: str | Path, **options: Any) -> None:
        """Run one command as `SevenZip.run` does."""
        with span(f"7z {arguments[0]}"):
            await super().run(*arguments, **options)
