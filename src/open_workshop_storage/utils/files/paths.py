"""The one place that turns names from outside into paths, and into file names.

A name is judged twice: as text, in every form in which a server between here and the client may read it, and as the
real path that it leads to, with symbolic links resolved.
"""

from __future__ import annotations

import os
import posixpath
import re
import secrets
import stat
import unicodedata
from pathlib import Path
from urllib.parse import unquote

_MAX_NAME_BYTES = 4095
_MAX_PART_BYTES = 255
_MAX_DECODINGS = 3
_MAX_PARTS = 64
_UNFIT_FOR_KEYS = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\\]")
_MAX_PERCENTS = 100
_PARTIAL_NAME = re.compile(r"\.ow-[0-9a-f]{32}\.part")
# Almost all names match. No part of them begins with a dot, is encoded or too long.
_PLAIN_NAME = re.compile(r"(?:[A-Za-z0-9_-][A-Za-z0-9_.-]{0,254}/){0,7}[A-Za-z0-9_-][A-Za-z0-9_.-]{0,254}")
_FALLBACK_NAME = "file"
_MAX_SAFE_BYTES = 200
# Besides the separators.
_FORBIDDEN_BY_WINDOWS = re.compile(r'[<>:"|?*]')
# Windows takes these for devices, whatever follows a dot.
_DEVICE = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9\u00b9\u00b2\u00b3]) *(\.|$)", re.IGNORECASE)
# Invisible characters that Persian words, many emoji and flags such as Scotland's are spelled with.
_SPELLING = "\u200c\u200d" + "".join(map(chr, range(0xE0020, 0xE0080)))


class PathEscapes(ValueError):
    """The name leads out of its folder."""


class PathUnusable(ValueError):
    """The name stays inside, but cannot be that of a file."""


def resolve_inside(real_folder: str, name: str) -> str:
    """Return the real path of a file below a folder; the file need not exist.

    A name may use `..` as long as it never climbs above the folder, not even to come back. It is judged both
    literally and percent-decoded up to three times, with a backslash as a separator too, so that no name passes which
    another server takes for a traversal. The path is that of the literal name.

    Args:
        real_folder: The absolute path of the folder that the name starts in, without symbolic links.
        name: A relative path with `/` as its separator, as it came from outside.

    Raises:
        PathEscapes: The name is absolute, climbs out of the folder, or a symbolic link in it leads out.
        PathUnusable: The name is empty, names a folder (`a/`, `a/..`), is too long, has more than 64 parts or 100 `%`,
            has a NUL, cannot be encoded, or is one that `partial_path` gives to unfinished files.
    """
    _judge(name)
    real_path = os.path.realpath(os.path.join(real_folder, name))
    if not is_inside(real_path, real_folder):
        raise PathEscapes(name)
    # No `Path`: Python 3.12 before 3.12.7 keeps the parts of each for ever.
    return real_path


def normal_name(name: str) -> str:
    """Return a name without `..`, judged as `resolve_inside` judges it, but as text alone.

    Raises:
        PathEscapes: The name is absolute, or climbs out of its folder.
        PathUnusable: As for `resolve_inside`; or it has a backslash, a part that is empty or `.`, or a control
            character, or cannot be written in UTF-8: stores of objects take some of these for others, or none.
    """
    _judge(name)
    if _UNFIT_FOR_KEYS.search(name) or not {"", "."}.isdisjoint(name.split("/")):
        raise PathUnusable(name)
    return posixpath.normpath(name)


def find_inside(real_folder: str, name: str) -> tuple[str, os.stat_result]:
    """Return the real path of an existing file below a folder, and its status.

    The result is that of `resolve_inside` and `os.stat`, with fewer system calls for a plain name without symbolic
    links.

    Raises:
        PathEscapes: As for `resolve_inside`.
        PathUnusable: As for `resolve_inside`.
        OSError: There is nothing of that name.
    """
    if is_plain(name):
        path = real_folder
        for part in name.split("/"):
            path = f"{path}/{part}"
            status = os.lstat(path)
            if stat.S_ISLNK(status.st_mode):
                break
        else:
            return path, status
    path = resolve_inside(real_folder, name)
    return path, os.stat(path)


def is_plain(name: str) -> bool:
    """Return whether a name is so plain that only symbolic links can make it lead out of its folder."""
    return _PLAIN_NAME.fullmatch(name) is not None


def is_inside(real_path: str, real_folder: str) -> bool:
    """Return whether a real path is a real folder or lies below it."""
    return real_path == real_folder or real_path.startswith(real_folder.rstrip("/") + "/")


def partial_path(target: Path) -> Path:
    """Return a path beside the target for a file that is still being written; no name from outside reaches it."""
    return target.with_name(f".ow-{secrets.token_hex(16)}.part")


def is_partial(name: str) -> bool:
    """Return whether a file's name is one that `partial_path` gives."""
    return _PARTIAL_NAME.fullmatch(name) is not None


def _judge(name: str) -> None:
    # Judging such a name would take milliseconds, and no file can have it.
    if len(name) > _MAX_NAME_BYTES or name.count("%") > _MAX_PERCENTS:
        raise PathUnusable(name)
    if any(_climbs(form) for form in _forms(name)):
        raise PathEscapes(name)
    if not _can_name_a_file(name):
        raise PathUnusable(name)


def _forms(name: str) -> list[str]:
    forms = [name]
    while len(forms) <= _MAX_DECODINGS and (decoded := unquote(forms[-1])) != forms[-1]:
        forms.append(decoded)
    return forms


def _climbs(name: str) -> bool:
    name = name.replace("\\", "/")
    if name.startswith("/"):
        return True
    depth = 0
    for part in name.split("/"):
        if part == "..":
            depth -= 1
            if depth < 0:
                return True
        elif part not in ("", "."):
            depth += 1
    return False


def _can_name_a_file(name: str) -> bool:
    try:
        encoded = os.fsencode(name)
    except UnicodeEncodeError:
        return False
    parts = encoded.split(b"/")
    return (
        b"\0" not in encoded
        and len(encoded) <= _MAX_NAME_BYTES
        and len(parts) <= _MAX_PARTS
        and parts[-1] not in (b"", b".", b"..")
        and all(len(part) <= _MAX_PART_BYTES for part in parts)
        and not any(is_partial(part) for part in name.split("/"))
    )


def safe_file_name(name: str) -> str:
    """Return the last part of a path-like name, safe for any file system and for any ZIP reader.

    The result is at most 200 bytes of UTF-8 and never empty, `.` or `..`.
    """
    last = re.split(r"[/\\]", name.encode(errors="replace").decode())[-1]
    visible = "".join(char for char in last if unicodedata.category(char) not in ("Cc", "Cf") or char in _SPELLING)
    safe = _FORBIDDEN_BY_WINDOWS.sub("_", visible).lstrip(" ").rstrip(" .")
    if not safe.strip(_SPELLING):
        return _FALLBACK_NAME
    if _DEVICE.match(safe):
        safe = f"_{safe}"
    stem, dot, extension = safe.rpartition(".")
    if dot and len(extension.encode()) <= 20:
        room = _MAX_SAFE_BYTES - len(extension.encode()) - 1
        safe = stem.encode()[:room].decode(errors="ignore") + dot + extension
    return safe.encode()[:_MAX_SAFE_BYTES].decode(errors="ignore").rstrip(" .")
