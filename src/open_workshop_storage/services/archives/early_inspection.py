"""Inspects archives while they come in, as far as their formats allow (docs/ARCHITECTURE.md, "A job")."""

from __future__ import annotations

from contextlib import closing

from open_workshop_storage.core.settings import Settings
from open_workshop_storage.services.archives.archives import Inspection
from open_workshop_storage.services.archives.errors import as_storage_errors
from open_workshop_storage.utils.archives.entries import Entries, ratio_limit
from open_workshop_storage.utils.archives.errors import ArchiveError, UnpackedTooLarge
from open_workshop_storage.utils.archives.kinds import HEAD_BYTES, Kind, kind_of
from open_workshop_storage.utils.archives.tar import judge_tar
from open_workshop_storage.utils.archives.zip_headers import refuse_encrypted_start
from open_workshop_storage.utils.files.growing_file import GrowingFile
from open_workshop_storage.utils.processes.threads import run_to_end


async def inspect_early(file: GrowingFile, settings: Settings) -> Inspection | None:
    """Refuse an archive as soon as what has come of it shows what no rest could make good.

    Once all of it is there, refusing is left to `Archives.inspect`.

    Returns:
        What `Archives.inspect` would tell of the whole file; None if that has to be asked.

    Raises:
        EncryptedArchive: It is a ZIP, and its first file is encrypted.
        UnsafeArchive: It is a tar, and an entry breaks a rule of docs/API.md, "Archives".
        CorruptArchive: It is a tar that contradicts itself.
        ArchiveTooLarge: It is a tar that announces more than a limit.
        RepackFailed: Reading failed for another reason.
    """
    with as_storage_errors():
        return await run_to_end(lambda stop: _inspect(file, settings), file.stop)


def _inspect(file: GrowingFile, settings: Settings) -> Inspection | None:
    entries = Entries(settings.transfer_max_unpacked_bytes, settings.transfer_max_entries)

    def may_have_too_much() -> bool:
        # What the ratio allows, the size of the whole file decides, and before what comes later in it.
        return 0 < ratio_limit(file.written, settings.transfer_max_unpacked_ratio) < entries.unpacked_bytes

    with closing(file):
        kind = kind_of(file.read(HEAD_BYTES))
        file.seek(0)
        try:
            if kind is Kind.ZIP:
                refuse_encrypted_start(file)
            elif kind is Kind.TAR:
                judge_tar(file, entries)
        except UnpackedTooLarge:
            if not file.ended:
                raise
        except ArchiveError:
            if not (file.ended or may_have_too_much()):
                raise
        else:
            if kind is Kind.TAR and not may_have_too_much():
                return Inspection(kind, entries.unpacked_bytes)
    return None
