"""The folders of the storage root that hold permanent files."""

from __future__ import annotations

from enum import StrEnum


class StorageType(StrEnum):
    """What a stored file is: the first part of its path below the storage root (docs/API.md, "Answers")."""

    ARCHIVE = "archive"
    RESOURCE = "resource"
    AVATAR = "avatar"
