"""What can be wrong with an archive, as the parsers say it; services turn it into their own errors."""

from __future__ import annotations


class ArchiveError(Exception):
    """Base of the faults below."""


class EncryptedData(ArchiveError):
    """An entry or a header is encrypted."""


class UnsafeEntry(ArchiveError):
    """An entry is a link or a special file, overlaps another, or has a name that escapes or stands twice."""


class CorruptData(ArchiveError):
    """The headers break the format, or contradict each other."""


class CutOff(CorruptData):
    """The data end before the archive does."""


class UnpackedTooLarge(ArchiveError):
    """The entries are larger, taken together, or more than the limit."""


class UnsupportedMethod(ArchiveError):
    """The format, or a method in it, is one that cannot be read here."""
