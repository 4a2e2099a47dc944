"""Headers of tus (tus.io, "Resumable upload protocol 1.0.x")."""

from __future__ import annotations

import hashlib
import re
from base64 import b64decode
from typing import NamedTuple

VERSION = "1.0.0"
EXTENSIONS = (
    "creation",
    "creation-with-upload",
    "creation-defer-length",
    "termination",
    "expiration",
    "checksum",
)
CHECKSUM_ALGORITHMS = ("sha256", "sha1")
MEDIA_TYPE = "application/offset+octet-stream"
"""The type of a body with bytes of an upload."""

_NUMBER = re.compile(r"[0-9]{1,18}")
_METADATA_KEY = re.compile(r"[!-+\--~]+")


class Checksum(NamedTuple):
    """What the bytes of one request must hash to.

    Attributes:
        algorithm: One of `CHECKSUM_ALGORITHMS`, which `hashlib` knows by the same names.
    """

    algorithm: str
    digest: bytes


def parse_number(value: str | None) -> int | None:
    """Return a number of bytes, `None` for no header.

    Raises:
        ValueError: The header is no whole number of at most 18 digits.
    """
    if value is None:
        return None
    if not _NUMBER.fullmatch(value):
        raise ValueError
    return int(value)


def parse_metadata(value: str) -> dict[str, str]:
    """Return the pairs of `Upload-Metadata`; bytes that are not UTF-8 are replaced.

    Raises:
        ValueError: A pair is malformed, or a key stands twice.
    """
    pairs: dict[str, str] = {}
    for item in value.split(",") if value.strip() else []:
        key, _, encoded = item.strip().partition(" ")
        if not _METADATA_KEY.fullmatch(key) or key in pairs:
            raise ValueError
        pairs[key] = b64decode(encoded.strip(), validate=True).decode(errors="replace")
    return pairs


def parse_checksum(value: str) -> Checksum:
    """Return what `Upload-Checksum` asks for.

    Raises:
        ValueError: The header is malformed, or its algorithm is none of `CHECKSUM_ALGORITHMS`.
    """
    algorithm, _, encoded = value.strip().partition(" ")
    digest = b64decode(encoded.strip(), validate=True)
    if algorithm not in CHECKSUM_ALGORITHMS or len(digest) != hashlib.new(algorithm).digest_size:
        raise ValueError
    return Checksum(algorithm, digest)
