"""Reads the markers of a JPEG (ITU-T T.81, annex B): how many scans it has, how its rows lie, and whether it ends."""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator
from dataclasses import dataclass

MAGIC = b"\xff\xd8"
END = b"\xff\xd9"

# Not what stands in the middle of a scan: stuffed bytes and restart markers.
_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")
_END_OF_IMAGE, _START_OF_SCAN = 0xD9, 0xDA
_WITHOUT_LENGTH = frozenset({0x01, 0xD8})
_STARTS_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_LAST_COEFFICIENT = 63
_BLOCK_SIDE = 8


@dataclass(frozen=True)
class Layout:
    """What the markers of a JPEG tell.

    Attributes:
        scans: How often its coefficients are gone through; progressive ones usually have about 10 scans.
        ends: Whether it has an end marker.
        all_scans: Whether there is a last scan for each coefficient of each component, be it complete or not.
        unit_height: How many rows of pixels are coded together.
    """

    scans: int
    ends: bool
    all_scans: bool
    unit_height: int


def layout_of(content: bytes | mmap.mmap) -> Layout:
    """Read the markers of a JPEG, as far as they go."""
    scans = 0
    unit_height = _BLOCK_SIDE
    missing: set[tuple[int, int]] = set()
    for marker, segment in _segments(content):
        if marker == _END_OF_IMAGE:
            return Layout(scans, True, not missing, unit_height)
        if marker in _STARTS_OF_FRAME:
            components = segment[6::3]
            unit_height = _BLOCK_SIDE * max((factors & 0x0F for factors in segment[7::3]), default=1)
            missing = {(component, coefficient) for component in components for coefficient in (0, _LAST_COEFFICIENT)}
        elif marker == _START_OF_SCAN:
            scans += 1
            *components_and_tables, first, last, bits = segment or b"\0\0\0\0"
            if bits & 0x0F == 0:
                components = bytes(components_and_tables[1::2])
                missing -= {(component, coefficient) for component in components for coefficient in (first, last)}
    return Layout(scans, False, scans > 0 and not missing, unit_height)


def _segments(content: bytes | mmap.mmap) -> Iterator[tuple[int, bytes]]:
    """Yield each marker with its parameters, without their length."""
    position = len(MAGIC)
    while match := _MARKER.search(content, position):
        marker, position = match[1][0], match.end()
        if marker == _END_OF_IMAGE:
            yield marker, b""
        elif marker not in _WITHOUT_LENGTH:
            length = int.from_bytes(content[position : position + 2], "big")
            yield marker, content[position + 2 : position + length]
            position += length


def endings(content: bytes) -> Iterator[bytes]:
    """Yield a JPEG without an end marker with several ends.

    If its last scan is complete, decoders skip what stands before the end marker, and all give the same picture. Else
    they take noise for coefficients, and the pictures differ from where the scan was cut; noise behind restart markers
    finds one that was cut at one of these. What is missing is blank in the first.
    """
    # Programs that set aside space for a file fill it with zeros. One may belong to a stuffed byte.
    content = content.rstrip(b"\0")
    content += b"\0" * content.endswith(b"\xff")
    yield content + END
    # A decoder that waits for one of the two markers before the first takes what it waits for as lost.
    for factor, first_byte, first in ((73, 0b10110101, 0), (151, 0b01100101, 4)):
        # Bits that are 0 at its start would end blocks, as a blank does.
        noise = bytes((position * factor + first_byte - 1) % 251 + 1 for position in range(256))
        numbers = ((first + count) % 8 for count in range(8))
        yield content + noise + b"".join(b"\xff%c" % (0xD0 + number) + noise for number in numbers) + END
