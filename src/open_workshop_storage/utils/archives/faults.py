"""What can be wrong with an archive; `services/archives/parsers.py` says what each fault becomes."""

from __future__ import annotations


class ArchiveFault(Exception):
    """Base of the faults below."""


class EncryptedData(ArchiveFault):
    """An entry or a header is encrypted."""


class UnsafeEntry(ArchiveFault):
    """An entry is a link or a special file, overlaps another, or has a name that escapes or stands twice."""


class NameTooLong(UnsafeEntry):
    """An entry has a name that the file system cannot hold."""


class CorruptData(ArchiveFault):
    """The data or headers break the format, or contradict each other."""


class CutOff(CorruptData):
    """The data end before the archive does."""


class UnpackedTooLarge(ArchiveFault):
    """The entries are larger, taken together, or more than the limit."""


class UnreadableMethod(ArchiveFault):
    """`7z` cannot unpack a method in it."""


class SevenZipFailed(ArchiveFault):
    """`7z` was too slow, is not installed, or failed for a reason that is not known to be the archive's."""
