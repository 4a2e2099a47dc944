"""Digest fields (RFC 9530)."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Iterable

import http_sf

_ALGORITHM = "sha-256"
# Twice what all registered algorithms take (RFC 9530, section 7.2). 16 KiB take up to 18 ms to read.
_MAX_CHARACTERS = 1024


def digest_field(sha256: str) -> str:
    """Return the value of a digest field for a SHA-256 in hex digits."""
    return f"{_ALGORITHM}=:{b64encode(bytes.fromhex(sha256)).decode()}:"


def sha256_in(fields: Iterable[str]) -> str | None:
    """Return the SHA-256 in digest fields, as 64 lower-case hex digits; `None` without one.

    Args:
        fields: The values of all digest fields of a request, which has one content.

    Raises:
        ValueError: One is malformed, two of them differ, or all together are longer than 1 KiB.
    """
    fields = list(fields)
    if sum(map(len, fields)) > _MAX_CHARACTERS:
        raise ValueError
    found: set[str] = set()
    for field in fields:
        parsed = http_sf.parse(field.encode("latin-1"), tltype="dictionary")
        match parsed.get(_ALGORITHM) if isinstance(parsed, dict) else None:
            case None:
                pass
            case (bytes(digest), _) if len(digest) == hashlib.sha256().digest_size:
                found.add(digest.hex())
            case _:
                raise ValueError
    if len(found) > 1:
        raise ValueError
    return next(iter(found), None)
