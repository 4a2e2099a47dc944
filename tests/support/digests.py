"""Digests of files, as clients see them."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from pathlib import Path

from open_workshop_storage.services.storage.files import Facts
from open_workshop_storage.services.storage.local_file import keep_facts


def field_of(content: bytes) -> str:
    """Return the digest field of some content (RFC 9530)."""
    return f"sha-256=:{b64encode(sha256(content).digest()).decode()}:"


def give_digest(file: Path) -> str:
    """Keep a stored file's digest with it; return the digest field."""
    content = file.read_bytes()
    with file.open("rb") as opened:
        assert keep_facts(opened.fileno(), Facts(sha256=sha256(content).hexdigest()))
    return field_of(content)
