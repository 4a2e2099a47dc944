"""Reads the markers of a JPEG (ITU-T T.81, annex B): how many scans it has, how its rows lie, and whether it ends."""

from __future__ import annotations

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
_ALL_BITS = 16
_BLOCK_SIDE = 8


@dataclass(frozen=True)
class Layout:
    """What the markers of a JPEG tell.

    Attributes:
        scans: How often its coefficients are gone through; progressive ones usually have about 10 scans.
        ends: Whether it has an end marker.
        all_scans: Whether there is a last scan for each coefficient of each component, be it complete or not.
        lacks_one_bit: Whether all scans are there and complete but one, which adds one bit to coefficients that the
            scans before it have told.
        unit_height: How many rows of pixels are coded together.
        end: How many bytes are whole; behind them is the beginning of a marker or its parameters.
    """

    scans: int
    ends: bool
    all_scans: bool
    lacks_one_bit: bool
    unit_height: int
    end: int


def layout_of(content: bytes) -> Layout:
    """Read the markers of a JPEG, as far as they go."""
    scans, ends, refines = 0, False, False
    unit_height, end = _BLOCK_SIDE, len(content)
    # How many bits of the first and the last coefficient of each component no scan has told.
    missing: dict[tuple[int, int], int] = {}
    for marker, start, segment in _segments(content):
        if segment is None:
            end = start
        elif marker == _END_OF_IMAGE:
            ends = True
            break
        elif marker in _STARTS_OF_FRAME:
            unit_height = _BLOCK_SIDE * max((factors & 0x0F for factors in segment[7::3]), default=1)
            missing = {
                (component, number): _ALL_BITS for component in segment[6::3] for number in (0, _LAST_COEFFICIENT)
            }
        elif marker == _START_OF_SCAN:
            scans += 1
            *components_and_tables, first, last, bits = segment or b"\0\0\0\0"
            refines = bits >> 4 > 0
            told = ((component, number) for component in components_and_tables[1::2] for number in {first, last})
            missing |= {coefficient: bits & 0x0F for coefficient in told if coefficient in missing}
    all_scans = scans > 0 and not any(missing.values())
    lacking = {component if number else None for (component, number), bits in missing.items() if bits}
    is_one_scan = len(lacking) == 1 and max(missing.values()) == 1
    return Layout(scans, ends, all_scans, refines if all_scans else is_one_scan, unit_height, end)


def _segments(content: bytes) -> Iterator[tuple[int, int, bytes | None]]:
    """Yield each marker with its position and its parameters, without their length; `None` if they are cut off."""
    position = len(MAGIC)
    while match := _MARKER.search(content, position):
        marker, position = match[1][0], match.end()
        if marker == _END_OF_IMAGE:
            yield marker, match.start(), b""
        elif marker not in _WITHOUT_LENGTH:
            length = int.from_bytes(content[position : position + 2], "big")
            is_whole = position + max(length, 2) <= len(content)
            yield marker, match.start(), content[position + 2 : position + length] if is_whole else None
            position += length


def endings(content: bytes) -> Iterator[bytes]:
    """Yield a JPEG without an end marker, and without zeros at its end, with several ends.

    If its last scan is complete, decoders skip what stands before the end marker, and all give the same picture. Else
    they take noise for coefficients, and the pictures differ from where the scan was cut; noise behind restart markers
    finds one that was cut at one of these. What is missing is blank in the first.
    """
    # A zero at the end may have been taken for padding, and belong to a stuffed byte.
    content += b"\0" * content.endswith(b"\xff")
    yield content + END
    # A decoder that waits for one of the two markers before the first takes what it waits for as lost.
    for factor, first_byte, first in ((73, 0b10110101, 0), (151, 0b01100101, 4)):
        # Bits that are 0 at its start would end blocks, as a blank does.
        noise = bytes((position * factor + first_byte - 1) % 251 + 1 for position in range(256))
        numbers = ((first + count) % 8 for count in range(8))
        yield content + noise + b"".join(b"\xff%c" % (0xD0 + number) + noise for number in numbers) + END
