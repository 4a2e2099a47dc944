"""ICC profiles for tests (ICC.1:2001-04), since no machine is sure to have any."""

from __future__ import annotations

import struct
from collections.abc import Sequence

_D50 = (0.9642, 1.0, 0.8249)

# Primaries of Display P3, adapted to D50.
_P3_PRIMARIES = {
    b"rXYZ": (0.515102, 0.241182, -0.001050),
    b"gXYZ": (0.291965, 0.692236, 0.041882),
    b"bXYZ": (0.157153, 0.066582, 0.784378),
}


def display_p3() -> bytes:
    """Return a wide-gamut RGB profile: the primaries of Display P3 with a gamma of 2.2."""
    tags = {name: _xyz(value) for name, value in _P3_PRIMARIES.items()}
    curves = {name: _gamma(2.2) for name in (b"rTRC", b"gTRC", b"bTRC")}
    return _profile(b"mntr", b"RGB ", b"XYZ ", {b"wtpt": _xyz(_D50), **tags, **curves})


def linear_grey() -> bytes:
    """Return a grey profile without a gamma curve."""
    return _profile(b"mntr", b"GRAY", b"XYZ ", {b"wtpt": _xyz(_D50), b"kTRC": _gamma(1.0)})


def green_magenta() -> bytes:
    """Return a CMYK profile of odd inks: full magenta prints a green, all other mixtures print white."""
    white, green = (255, 128, 128), (128, 64, 192)
    grid = [green if corner == 0b0100 else white for corner in range(16)]
    identity = bytes(range(256))
    matrix = b"".join(map(_fixed, (1, 0, 0, 0, 1, 0, 0, 0, 1)))
    table = b"mft1" + bytes(4) + bytes((4, 3, 2, 0)) + matrix + 4 * identity + b"".join(map(bytes, grid)) + 3 * identity
    return _profile(b"prtr", b"CMYK", b"Lab ", {b"wtpt": _xyz(_D50), b"A2B0": table})


def _fixed(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))


def _xyz(values: Sequence[float]) -> bytes:
    return b"XYZ " + bytes(4) + b"".join(map(_fixed, values))


def _gamma(value: float) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(value * 256)) + bytes(2)


def _profile(device: bytes, space: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    offset = 128 + 4 + 12 * len(tags)
    table, content = struct.pack(">I", len(tags)), b""
    for name, tag in tags.items():
        table += name + struct.pack(">II", offset + len(content), len(tag))
        content += tag + bytes(-len(tag) % 4)
    size = struct.pack(">I", offset + len(content))
    header = size + bytes(4) + struct.pack(">I", 0x02100000) + device + space + connection + bytes(12) + b"acsp"
    header = header.ljust(68, b"\0") + b"".join(map(_fixed, _D50))
    return header.ljust(128, b"\0") + table + content
