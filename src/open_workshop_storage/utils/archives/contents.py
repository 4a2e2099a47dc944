"""What is in ZIPs, and how large they and 7z archives are unpacked, for those that look into them without unpacking.

Only the directory is read, and that of a ZIP kept in a form that is small and quick to search. Numbers of sections are
those of PKWARE's APPNOTE 6.3.10.
"""

from __future__ import annotations

import struct
from array import array
from binascii import hexlify
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from itertools import chain, compress, islice
from json.encoder import encode_basestring
from operator import gt
from typing import BinaryIO

from open_workshop_storage.utils.archives.entry_rules import split_name
from open_workshop_storage.utils.archives.faults import ArchiveFault, CorruptData, UnpackedTooLarge, UnsafeEntry
from open_workshop_storage.utils.archives.kinds import HEAD_BYTES, Kind, kind_of
from open_workshop_storage.utils.archives.zip_directory import (
    Columns,
    columns_at,
    find_directory,
    read_directory,
    read_headers,
)
from open_workshop_storage.utils.archives.zip_headers import (
    LOCAL_HEADER,
    STORED,
    CentralHeader,
    agrees_with_local,
    header_at,
    is_folder,
    refuse_encryption,
    says_folder,
)

_LISTED = b'{"name":"%b","bytes":%d,"compressed_bytes":%d,"crc32":"%b","modified":%b}'
_BATCH = 256
_KEY_BYTES, _BUCKET_BITS = 8, 8
_POSITION_BITS = 32
_POSITION = (1 << _POSITION_BITS) - 1
# Hashes of texts differ from process to process, so no archive can have many names of one hash.
_HASH = _POSITION << _POSITION_BITS
_MOST_HARMLESS = 255
_ESCAPED = bytes(range(1, 0x20)) + b'"\\'
"""What JSON does not take as it is (RFC 8259, section 7); no name has a NUL."""


@dataclass(frozen=True, eq=False)
class ZipContents:
    """The files in a ZIP.

    Attributes:
        directory: As it stands in the ZIP.
        keys: Of each file, 32 bits of its name's hash and then its place in the directory, in order.
        starts: Where the local headers are, in order, and last where the directory is.
        listing: The files as JSON objects, in the directory's order, with commas between them.
        unpacked_bytes: The sum of their sizes.
    """

    directory: bytes
    keys: array[int]
    starts: array[int]
    listing: bytes
    unpacked_bytes: int

    @property
    def memory_bytes(self) -> int:
        """How much memory this takes, but for some hundred bytes."""
        return len(self.directory) + len(self.listing) + _KEY_BYTES * (len(self.keys) + len(self.starts))

    def find(self, name: str) -> CentralHeader | None:
        """Return what the directory tells of the file of a name; None if there is none."""
        key = hash(name.encode(errors="replace")) & _HASH
        for at in range(bisect_left(self.keys, key), bisect_right(self.keys, key | _POSITION)):
            header = header_at(self.directory, self.keys[at] & _POSITION)
            if header.text_name() == name:
                return header
        return None

    def data_of(self, header: CentralHeader, local: bytes) -> range:
        """Return where the packed data of a file are in the ZIP.

        Args:
            header: As `find` returns it.
            local: The local header, as long as `local_header_length` says.

        Raises:
            EncryptedData: The file is encrypted.
            CorruptData: The local header contradicts the directory, or a stored file has two sizes.
            UnsafeEntry: The data go on where another entry begins, or the directory.
        """
        agrees_with_local(header, local)
        start = header.offset + len(local)
        data = range(start, start + header.packed_bytes)
        if data.stop > self.starts[bisect_right(self.starts, header.offset)]:
            raise UnsafeEntry("overlapping entries")
        if header.method == STORED and header.packed_bytes != header.unpacked_bytes:
            raise CorruptData("a stored entry of two sizes")
        return data


def read_contents(file: BinaryIO, most_bytes: int, pause: Callable[[], None]) -> ZipContents:
    """Read the directory of a ZIP. Blocks.

    Args:
        most_bytes: The limit on `ZipContents.memory_bytes`, and on the directory.
        pause: Called after every few hundred entries; what it raises ends the work.

    Raises:
        EncryptedData: An entry is encrypted.
        UnsafeEntry: Two entries overlap or have one name, or one overlaps the directory, or a name escapes.
        CorruptData: There is no directory, or it is broken or in several pieces.
        UnpackedTooLarge: It passes the limit.
    """
    found = find_directory(file)
    length = found.end - found.start
    if length > most_bytes:
        raise UnpackedTooLarge("a directory that is too long")
    directory = read_directory(file, found)
    listing = _Listing(most_bytes - length)
    position = count = 0
    while position < length:
        headers = columns_at(directory, position, _BATCH)
        listing.add(headers)
        position = headers.end
        count += len(headers.positions)
        pause()
    found.judge_count(count)
    keys, starts = listing.sorted_keys(directory), listing.sorted_starts(found.start)
    return ZipContents(directory, keys, starts, b",".join(listing.blocks), listing.unpacked_bytes)


def unpacked_size(file: BinaryIO) -> int | None:
    """Return the sum of the unpacked sizes that a ZIP or a 7z archive announces, in bytes. For child processes.

    Returns:
        None if the file is no such archive, cannot be read, or has an entry that is encrypted.

    Raises:
        Exception: Whatever py7zr raises for a broken 7z archive.
    """
    file.seek(0)
    kind = kind_of(file.read(HEAD_BYTES))
    file.seek(0)
    return _size_of_seven_zip(file) if kind is Kind.SEVEN_ZIP else _size_of_zip(file)


def _size_of_zip(file: BinaryIO) -> int | None:
    size = 0
    try:
        for header in read_headers(file, find_directory(file), max_entries=0):
            refuse_encryption(header.flags, header.method)
            size += header.unpacked_bytes
    except (ArchiveFault, OSError):
        return None
    return size


def _size_of_seven_zip(file: BinaryIO) -> int | None:
    # Only children come here; it would take 15 MB of each worker.
    import py7zr

    with py7zr.SevenZipFile(file) as archive:
        return None if archive.needs_password() else sum(entry.uncompressed for entry in archive.list())


class _Listing:
    """Takes the headers of a directory in their order.

    Args:
        most_bytes: The limit on `blocks`, which are the listing in several pieces, and on what is searched, together.
    """

    def __init__(self, most_bytes: int) -> None:
        self.blocks: list[bytes] = []
        self.unpacked_bytes = 0
        self._left_bytes = most_bytes
        self._files = 0
        self._keys: list[list[int]] = [[] for _ in range(1 << _BUCKET_BITS)]
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._date = cache(_date)

    def add(self, headers: Columns) -> None:
        """Take the next headers; raises as `read_contents`."""
        # Column by column, since a loop over headers takes twice as long.
        names = headers.names
        text = b"\0".join([b"", *names, b""])
        if _may_escape(names, text):
            for name in names:
                split_name(name.decode())
        data = zip(headers.offsets, headers.name_lengths, headers.packed_bytes, strict=True)
        self._starts += headers.offsets
        self._ends += [offset + LOCAL_HEADER.size + name_bytes + size for offset, name_bytes, size in data]
        columns = [headers.positions, headers.unpacked_bytes, headers.packed_bytes, headers.crcs, headers.times]
        if b"/\0" in text or b"\\" in text or any(map(says_folder, {*headers.attributes})):
            folders = map(is_folder, map(bytes.decode, names), headers.unpacked_bytes, headers.attributes)
            are_files = [not folder for folder in folders]
            names = [*compress(names, are_files)]
            columns = [[*compress(column, are_files)] for column in columns]
        positions, unpacked, packed, crcs, times = columns
        for key in [hash(name) & _HASH | position for name, position in zip(names, positions, strict=True)]:
            self._keys[key >> 64 - _BUCKET_BITS].append(key)
        self._files += len(names)
        self.unpacked_bytes += sum(unpacked)
        if names:
            dates = map(self._date, times)
            # All at once, since numbers in another base take long to be formatted one by one.
            hex_crcs = hexlify(struct.pack(f">{len(crcs)}I", *crcs), " ", 4).split()
            if len(text.translate(None, _ESCAPED)) < len(text):
                names = [encode_basestring(name.decode())[1:-1].encode() for name in names]
            rows = zip(names, unpacked, packed, hex_crcs, dates, strict=True)
            self.blocks.append(b",".join([_LISTED] * len(names)) % tuple(chain.from_iterable(rows)))
            self._left_bytes -= len(self.blocks[-1]) + 1
        if self._left_bytes < _KEY_BYTES * (self._files + len(self._starts)):
            raise UnpackedTooLarge("more entries than can be listed")

    def sorted_keys(self, directory: bytes) -> array[int]:
        """Return the keys as in `ZipContents`; refuse two files of one name."""
        keys = array("Q")
        for bucket in self._keys:
            # No other thread runs during a sort, so there are many short ones.
            bucket.sort()
            if len({key >> _POSITION_BITS for key in bucket}) < len(bucket):
                names = {header_at(directory, key & _POSITION).text_name() for key in bucket}
                if len(names) < len(bucket):
                    raise UnsafeEntry("two entries of one name")
            keys.fromlist(bucket)
        return keys

    def sorted_starts(self, directory_start: int) -> array[int]:
        """Return where the local headers are, as in `ZipContents`; refuse data that go on where another begins."""
        starts, ends = self._starts, self._ends
        if _overlap(starts, ends, directory_start):
            order = sorted(range(len(starts)), key=starts.__getitem__)
            starts, ends = ([*map(column.__getitem__, order)] for column in (starts, ends))
            if _overlap(starts, ends, directory_start):
                raise UnsafeEntry("overlapping entries")
        return array("Q", [*starts, directory_start])


def _overlap(starts: list[int], ends: list[int], directory_start: int) -> bool:
    return any(map(gt, ends, chain(islice(starts, 1, None), [directory_start])))


def _may_escape(names: Sequence[bytes], text: bytes) -> bool:
    """Return whether a name may break a rule of `split_name`, which takes longer, by a text of all between NULs."""
    # What is shorter breaks none without one of these.
    is_long_or_cut = max(map(len, names)) > _MOST_HARMLESS or text.count(0) > len(names) + 1
    return is_long_or_cut or any(part in text for part in (b"\0/", b"..", b"\\", b":"))


def _date(time: int) -> bytes:
    """Return as JSON what MS-DOS writes as date and time in one number (section 4.4.6)."""
    days, minutes = time >> 16, time >> 5 & 0x7FF
    date = 1980 + (days >> 9), days >> 5 & 0xF, days & 0x1F
    try:
        return f'"{datetime(*date, minutes >> 6, minutes & 0x3F, (time & 0x1F) * 2).isoformat()}"'.encode()
    except ValueError:
        return b"null"
