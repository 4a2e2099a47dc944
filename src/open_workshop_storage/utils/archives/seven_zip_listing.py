"""Reads what `7z l -slt` prints of an archive whose headers only `7z` knows how to read."""

from __future__ import annotations

import os
import re

from open_workshop_storage.utils.archives.entry_rules import SPECIAL_TYPES, Entries, decoded, refuse_special
from open_workshop_storage.utils.archives.faults import CorruptData, EncryptedData

_FIRST_ENTRY = "----------"
_MODE_LENGTH = len("drwxr-xr-x")
_REPARSE_POINT = "L"
_LINKS = "Symbolic Link", "Hard Link"
_UNKNOWN_BITS = re.compile(r"[0-9A-F]{8}")


class Listing:
    """Judges the archive while its listing comes in, line by line.

    Each block of lines `Name = value` is one entry and begins with its path. `7z` prints control characters in
    names as `_`, so that no name can pass for a line.

    Args:
        code_page: What names are in that are not in UTF-8; empty if it is not known.

    Attributes:
        tail_bytes: How much stands behind the end of the archive.
    """

    def __init__(self, entries: Entries, code_page: str = "") -> None:
        self.tail_bytes = 0
        self._entries = entries
        self._code_page = code_page
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
        if not self._in_entries:
            self.tail_bytes += _number(fields.get("Tail Size", ""))
        elif "Path" in fields:
            size, is_folder = _number(fields.get("Size", "")), _is_folder(fields)
            # A second stream of a file is as little a file of its own as a link.
            is_link = any(fields.get(kind) for kind in _LINKS) or fields.get("Alternate Stream") == "+"
            refuse_special(0, is_link=is_link)
            for each in _attributes(fields):
                if _is_of_dos(each):
                    refuse_special(0, is_reparse_point=_REPARSE_POINT in each, size=size, is_folder=is_folder)
                else:
                    refuse_special(SPECIAL_TYPES.get(each[0], 0))
            # A slash may have been a backslash that is the second byte of a letter; splitting names knows both.
            name = decoded(os.fsencode(fields["Path"]).replace(b"/", b"\\"), self._code_page)
            self._entries.add(name, size, is_folder)
            self._entries.require_short_names()


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0


def _is_folder(fields: dict[str, str]) -> bool:
    if "Folder" in fields:
        return fields["Folder"] == "+"
    # 7z archives tell by the attributes. Where they have none, nothing tells empty files and folders apart.
    attributes = _attributes(fields)
    if attributes:
        return any("D" in each if _is_of_dos(each) else each[0] == "d" for each in attributes)
    return not fields.get("CRC") and fields.get("Size") == "0"


def _attributes(fields: dict[str, str]) -> list[str]:
    return [each for each in fields.get("Attributes", "").split() if not _UNKNOWN_BITS.fullmatch(each)]


def _is_of_dos(attributes: str) -> bool:
    return len(attributes) != _MODE_LENGTH
