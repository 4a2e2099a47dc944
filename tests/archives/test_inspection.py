"""Archives that are refused, each with the exact error."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from open_workshop_storage.core.errors import StorageError
from tests.archives.refused import REFUSED
from tests.archives.workbench import Workbench

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("build", "error"),
    [
        pytest.param(build, error, id=f"{error.reason}: {case}")
        for error, builders in REFUSED.items()
        for case, build in builders.items()
    ],
)
async def test_it_is_refused_and_nothing_is_left(
    build: Callable[[], bytes], error: type[StorageError], workbench: Workbench
) -> None:
    with pytest.raises(StorageError) as refusal:
        await workbench.accept(build())
    assert refusal.type is error
    assert [path.name for path in workbench.folder.iterdir()] == ["source"]
