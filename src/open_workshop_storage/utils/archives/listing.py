"""Reads what `7z l -slt` prints of an archive whose headers only `7z` knows how to read."""

from __future__ import annotations

import os

from open_workshop_storage.utils.archives.entries import Entries, decode_name
from open_workshop_storage.utils.archives.faults import CorruptData, EncryptedData, UnsafeEntry

_FIRST_ENTRY = "----------"
_MODE_LENGTH = len("drwxr-xr-x")
_WINDOWS_LINK = "L"


class Listing:
    """Judges the archive while its listing comes in, line by line.

    Each block of lines `Name = value` is one entry and begins with its path. `7z` prints control characters in
    names as `_`, so that no name can pass for a line.

    Args:
        entries: Takes every entry.
    """

    def __init__(self, entries: Entries) -> None:
        self._entries = entries
        self._fields: dict[str, str] = {}
        self._in_entries = False

    def line(self, line: str) -> None:
        """Take the next line.

        Raises:
            ArchiveFault: The archive is encrypted, unsafe, in several pieces or too large.
        """
        if line == _FIRST_ENTRY:
            self.end()
            self._in_entries = True
        name, equals, value = line.partition(" = ")
        if name == "Path":
            self.end()
        if equals:
            self._fields[name] = value

    def end(self) -> None:
        """Judge what came since the last path; to be called after the last line too.

        Raises:
            ArchiveFault: As for `line`.
        """
        fields, self._fields = self._fields, {}
        if fields.get("Encrypted") == "+":
            raise EncryptedData
        if "+" in (fields.get("Multivolume"), fields.get("Split Before"), fields.get("Split After")):
            raise CorruptData("a piece of an archive in several")
        if self._in_entries and "Path" in fields:
            if any(fields.get(link) for link in ("Symbolic Link", "Hard Link")) or _is_special(fields):
                raise UnsafeEntry("a link or special file")
            size = fields.get("Size", "")
            name = decode_name(os.fsencode(fields["Path"]))
            self._entries.add(name, int(size) if size.isdecimal() else 0, _is_folder(fields))


def _is_folder(fields: dict[str, str]) -> bool:
    if "Folder" in fields:
        return fields["Folder"] == "+"
    # 7z archives tell by the attributes. Where they have none, nothing tells empty files and folders apart.
    attributes = fields.get("Attributes", "")
    return attributes.startswith("D") or not (attributes or fields.get("CRC") or fields.get("Size") != "0")


def _is_special(fields: dict[str, str]) -> bool:
    for attributes in fields.get("Attributes", "").split():
        is_unix = len(attributes) == _MODE_LENGTH
        if (is_unix and attributes[0] not in "-d") or (not is_unix and _WINDOWS_LINK in attributes):
            return True
    return fields.get("Alternate Stream") == "+"
