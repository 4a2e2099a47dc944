"""The folders of the storage root that hold permanent files."""

from __future__ import annotations

from enum import StrEnum

from open_workshop_storage.core.errors import InvalidType


class StorageType(StrEnum):
    """What a stored file is: the first part of its path below the storage root (docs/API.md, "Answers")."""

    ARCHIVE = "archive"
    RESOURCE = "resource"
    AVATAR = "avatar"


_TYPES_BY_NAME = {str(storage_type): storage_type for storage_type in StorageType}


def known_type(name: str) -> StorageType:
    """Return the type of that name.

    Raises:
        InvalidType: There is none.
    """
    storage_type = _TYPES_BY_NAME.get(name)
    if storage_type is None:
        raise InvalidType
    return storage_type
