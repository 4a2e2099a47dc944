"""Types of stored files by their names."""

from __future__ import annotations

import pytest

from open_workshop_storage.core.errors import InvalidType
from open_workshop_storage.core.storage_types import StorageType, known_type


@pytest.mark.parametrize("storage_type", StorageType)
def test_a_type_is_known_by_its_name(storage_type: StorageType) -> None:
    assert known_type(str(storage_type)) is storage_type


@pytest.mark.parametrize("name", ["", "temp", "Archive", "archive/"])
def test_a_name_that_is_no_type_is_refused(name: str) -> None:
    with pytest.raises(InvalidType):
        known_type(name)
