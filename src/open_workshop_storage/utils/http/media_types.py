"""Types and names under which stored files are sent, so that no browser runs their content."""

from __future__ import annotations

import os.path
import re
from collections.abc import Mapping
from types import MappingProxyType
from urllib.parse import quote

DEFAULT_MEDIA_TYPE = "application/octet-stream"

SAFE_MEDIA_TYPES: Mapping[str, str] = MappingProxyType(
    {
        ".7z": "application/x-7z-compressed",
        ".avif": "image/avif",
        ".bmp": "image/bmp",
        ".bz2": "application/x-bzip2",
        ".gif": "image/gif",
        ".gz": "application/gzip",
        ".jpeg": "image/jpeg",
        ".jpg": "image/jpeg",
        ".json": "application/json",
        ".mp4": "video/mp4",
        ".png": "image/png",
        ".rar": "application/vnd.rar",
        ".tar": "application/x-tar",
        ".txt": "text/plain; charset=utf-8",
        ".webm": "video/webm",
        ".webp": "image/webp",
        ".xz": "application/x-xz",
        ".zip": "application/zip",
        ".zst": "application/zstd",
    }
)
"""Types without script; SVG, HTML, XML and PDF are left out on purpose."""

_ATTACHMENT_NAME = re.compile(r"[A-Za-z0-9_-]{1,200}")
_UNSAFE_IN_EXTENSION = re.compile(r"[^A-Za-z0-9_-]")


def media_type(path: str) -> str:
    """Return the `Content-Type` for a file, by its extension."""
    return SAFE_MEDIA_TYPES.get(os.path.splitext(path)[1].lower(), DEFAULT_MEDIA_TYPE)


def attachment_name(text: str | None) -> str | None:
    """Return a name from outside, without extension, to save a file as.

    Returns:
        `None` without a name, or if it is not 1 to 200 characters of `[A-Za-z0-9_-]`.
    """
    return text if text is not None and _ATTACHMENT_NAME.fullmatch(text) else None


def content_disposition(filename: str, path: str) -> str:
    """Return the `Content-Disposition` that saves a file under another name, with its own extension.

    Args:
        filename: As `attachment_name` returns it.
    """
    extension = os.path.splitext(path)[1]
    plain = _UNSAFE_IN_EXTENSION.sub("", extension)
    disposition = f'attachment; filename="{filename}{"." if plain else ""}{plain}"'
    if extension in ("", f".{plain}") or not extension.isprintable():
        return disposition
    # The extended form can hold what a quoted string cannot (RFC 6266, section 4.3).
    return f"{disposition}; filename*=UTF-8''{filename}{quote(os.fsencode(extension), safe='')}"
