"""What is in a ZIP, for those that look into it without unpacking it.

Only the directory is read, once, and kept in a form that is small and quick to search. Numbers of sections are those of
PKWARE's APPNOTE 6.3.10.
"""

from __future__ import annotations

import io
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import accumulate, chain, compress, islice
from json.encoder import encode_basestring
from operator import gt
from typing import BinaryIO

from open_workshop_storage.utils.archives.central_directory import (
    STORED,
    CentralHeader,
    header_at,
    read_headers,
    refuse_encryption,
)
from open_workshop_storage.utils.archives.entry_names import split_name
from open_workshop_storage.utils.archives.faults import CorruptData, CutOff, UnpackedTooLarge, UnsafeEntry
from open_workshop_storage.utils.archives.zip_end_records import find_directory
from open_workshop_storage.utils.archives.zip_local_headers import LOCAL_HEADER, agrees_with_local

_LISTED = '{"name":%s,"bytes":%d,"compressed_bytes":%d,"crc32":"%08x","modified":%s}'
_BATCH = 256
_KEY_BYTES, _BUCKET_BITS = 8, 8
_POSITION_BITS = 32
_POSITION = (1 << _POSITION_BITS) - 1
_MOST_HARMLESS = 255


class ZipContents:
    """The files in a ZIP.

    Args:
        directory: As it stands in the ZIP.
        keys: Of each file, 32 bits of its name's hash and then its place in the directory, in order.
        starts: Where the local headers are, in order, and last where the directory is.
        listing: The files as JSON objects, in the directory's order, with commas between them.
        unpacked_bytes: The sum of their sizes.
    """

    def __init__(
        self, directory: bytes, keys: array[int], starts: array[int], listing: bytes, unpacked_bytes: int
    ) -> None:
        self.listing = listing
        self.unpacked_bytes = unpacked_bytes
        self._directory = directory
        self._keys = keys
        self._starts = starts

    @property
    def memory_bytes(self) -> int:
        """How much memory this takes, but for some hundred bytes."""
        return len(self._directory) + len(self.listing) + _KEY_BYTES * (len(self._keys) + len(self._starts))

    def find(self, name: str) -> CentralHeader | None:
        """Return what the directory tells of the file of a name; None if there is none."""
        key = _key(name, 0)
        for at in range(bisect_left(self._keys, key), bisect_right(self._keys, key | _POSITION)):
            header = header_at(self._directory, self._keys[at] & _POSITION)
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
        if data.stop > self._starts[bisect_right(self._starts, header.offset)]:
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
        UnsafeEntry: Two entries overlap or have one name, or a name escapes.
        CorruptData: There is no directory, or it is broken, in several pieces, or not behind its entries.
        UnpackedTooLarge: It passes the limit.
    """
    found = find_directory(file)
    length = found.end - found.start
    if length > most_bytes:
        raise UnpackedTooLarge("a directory that is too long")
    file.seek(found.start)
    directory = file.read(length)
    if len(directory) < length:
        raise CutOff
    listing = _Listing(most_bytes - length)
    headers = read_headers(io.BytesIO(directory), found._replace(start=0, end=length), max_entries=0)
    while batch := [*islice(headers, _BATCH)]:
        listing.add(batch)
        pause()
    keys, starts = listing.sorted_keys(directory), listing.sorted_starts(found.start)
    return ZipContents(directory, keys, starts, b",".join(listing.blocks), listing.unpacked_bytes)


class _Listing:
    """Takes the headers of a directory in their order.

    Args:
        most_bytes: The limit on the blocks and what is searched, together.

    Attributes:
        blocks: The files, as in `ZipContents`, in several pieces.
        unpacked_bytes: The sum of their sizes.
    """

    def __init__(self, most_bytes: int) -> None:
        self.blocks: list[bytes] = []
        self.unpacked_bytes = 0
        self._left_bytes = most_bytes
        self._position = 0
        self._files = 0
        self._keys: list[list[int]] = [[] for _ in range(1 << _BUCKET_BITS)]
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._dates: dict[int, str] = {}

    def add(self, headers: list[CentralHeader]) -> None:
        """Take the next headers; raises as `read_contents`."""
        # Column by column, since a loop over headers takes twice as long.
        _, flags, methods, times, crcs, packed, unpacked, attributes, offsets, raw_names, unicode_names, _, lengths = (
            zip(*headers, strict=True)
        )
        for pair in set(zip(flags, methods, strict=True)):
            refuse_encryption(*pair)
        names = None if any(unicode_names) else _utf8_names(raw_names)
        if names is None:
            names = [header.text_name() for header in headers]
        text = "\n".join(["", *names, ""])
        if _may_escape(names, text):
            for name in names:
                split_name(name)
        self._starts += offsets
        data = zip(offsets, raw_names, packed, strict=True)
        self._ends += [offset + LOCAL_HEADER.size + len(name) + size for offset, name, size in data]
        positions = [*accumulate(lengths, initial=self._position)]
        self._position = positions.pop()
        are_files = [True] * len(names)
        one_of_each = dict(zip(attributes, headers, strict=True)).values()
        if "/\n" in text or "\\" in text or any(header.says_folder for header in one_of_each):
            are_files = [not header.is_folder(name) for header, name in zip(headers, names, strict=True)]
        dates = [self._dates.get(time) or self._dates.setdefault(time, _date(time)) for time in times]
        for key in compress(map(_key, names, positions), are_files):
            self._keys[key >> 64 - _BUCKET_BITS].append(key)
        self._files += sum(are_files)
        self.unpacked_bytes += sum(compress(unpacked, are_files))
        rows = [*compress(zip(map(encode_basestring, names), unpacked, packed, crcs, dates, strict=True), are_files)]
        if rows:
            text = ",".join([_LISTED] * len(rows)) % tuple(chain.from_iterable(rows))
            self.blocks.append(text.encode())
            self._left_bytes -= len(self.blocks[-1]) + 1
        if self._left_bytes < _KEY_BYTES * (self._files + len(self._starts)):
            raise UnpackedTooLarge("more entries than can be listed")

    def sorted_keys(self, directory: bytes) -> array[int]:
        """Return the keys as in `ZipContents`.

        Raises:
            UnsafeEntry: Two files have one name.
        """
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
        """Return where the local headers are, as in `ZipContents`.

        Raises:
            UnsafeEntry: Two entries overlap.
            CorruptData: The directory is not behind its entries.
        """
        starts, ends = self._starts, self._ends
        if any(map(gt, starts, islice(starts, 1, None))):
            order = sorted(range(len(starts)), key=starts.__getitem__)
            starts, ends = ([*map(column.__getitem__, order)] for column in (starts, ends))
        if ends and max(ends) > directory_start:
            raise CorruptData("a directory that does not follow its entries")
        if any(map(gt, ends, islice(starts, 1, None))):
            raise UnsafeEntry("overlapping entries")
        return array("Q", [*starts, directory_start])


def _utf8_names(raw_names: Sequence[bytes]) -> list[str] | None:
    """Return names that have no Unicode path, read at once; `None` if they are not all UTF-8, or one holds NUL."""
    with suppress(UnicodeDecodeError):
        names = b"\0".join(raw_names).decode().split("\0")
        if len(names) == len(raw_names):
            return names
    return None


def _may_escape(names: list[str], text: str) -> bool:
    """Return whether one of the names may break a rule of `split_name`, which takes longer.

    Args:
        text: All of them, each after a line break.
    """
    # What is shorter breaks none without one of these.
    return max(map(len, names)) > _MOST_HARMLESS or any(part in text for part in ("\n/", "..", "\\", ":", "\0"))


def _key(name: str, position: int) -> int:
    # Hashes of texts differ from process to process, so no archive can have many names of one hash.
    return (hash(name) & _POSITION) << _POSITION_BITS | position


def _date(time: int) -> str:
    """Return date and time of MS-DOS (section 4.4.6) in JSON."""
    days, minutes = time >> 16, time >> 5 & 0x7FF
    try:
        moment = datetime(
            1980 + (days >> 9), days >> 5 & 0xF, days & 0x1F, minutes >> 6, minutes & 0x3F, (time & 0x1F) * 2
        )
    except ValueError:
        return "null"
    return f'"{moment.isoformat()}"'
