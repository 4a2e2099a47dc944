"""Reads local files to be sent, and writes received ones, block by block in threads."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import IO

import anyio
from anyio.to_thread import run_sync

BLOCK_BYTES = 1 << 20


async def blocks_of(file: Path, begin: int, end: int) -> AsyncIterator[bytes]:
    """Yield a file's bytes from one offset to another.

    Raises:
        EOFError: The file has become shorter.
    """
    async with await anyio.open_file(file, "rb") as opened:
        await opened.seek(begin)
        while begin < end:
            block = await opened.read(min(BLOCK_BYTES, end - begin))
            if not block:
                raise EOFError(f"{file} has become shorter")
            begin += len(block)
            yield block


@asynccontextmanager
async def replacing(target: Path) -> AsyncIterator[IO[bytes]]:
    """Open a new file beside the target, which it replaces if the block ends well; missing folders are made."""
    partial = target.with_name(f".{secrets.token_hex(8)}.part")

    def begin() -> IO[bytes]:
        target.parent.mkdir(parents=True, exist_ok=True)
        return partial.open("xb")

    def discard() -> None:
        with suppress(OSError):
            file.close()
        partial.unlink(missing_ok=True)

    file = await run_sync(begin)
    try:
        yield file
        await run_sync(file.close)
        await run_sync(os.replace, partial, target)
    except BaseException:
        with anyio.CancelScope(shield=True):
            await run_sync(discard)
        raise


def digest_field(file: Path) -> str:
    """Return the SHA-256 of a file, as a digest field (RFC 9530, section 2)."""
    with file.open("rb") as opened:
        return f"sha-256=:{b64encode(hashlib.file_digest(opened, 'sha256').digest()).decode()}:"


def sha256_in(digest_fields: Iterable[str]) -> str | None:
    """Return the SHA-256 in digest fields, as hex digits; `None` without one."""
    found = re.search("sha-256=:([A-Za-z0-9+/]+=*):", ", ".join(digest_fields))
    return b64decode(found[1]).hex() if found else None
