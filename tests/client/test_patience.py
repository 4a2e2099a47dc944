"""What is tried again, and for how long."""

from __future__ import annotations

import pytest

from open_workshop_storage.client import StorageError
from open_workshop_storage.client.patience import Patience

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("status", [None, 429, 502, 503, 504])
async def test_what_passes_by_itself_is_borne_until_patience_ends(status: int | None) -> None:
    error = StorageError(status, "away")
    await Patience(60).bear(error)
    with pytest.raises(StorageError, match="away"):
        await Patience(0).bear(error)


@pytest.mark.parametrize("status", [400, 403, 404, 409, 413, 422, 500, 507])
async def test_a_refusal_is_not_borne_unless_it_passes_here(status: int) -> None:
    error = StorageError(status, "refused")
    with pytest.raises(StorageError, match="refused"):
        await Patience(60).bear(error)
    await Patience(60).bear(error, is_passing=True)


async def test_a_pause_that_would_outlast_the_patience_is_not_made() -> None:
    with pytest.raises(StorageError, match="busy"):
        await Patience(60).bear(StorageError(503, "busy", retry_after=61))


async def test_pauses_grow_and_begin_afresh_when_something_got_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr("anyio.sleep", sleep)
    patience = Patience(60)
    for _ in range(9):
        await patience.bear(StorageError(None, "cut"))
    patience.renew()
    await patience.bear(StorageError(None, "cut"))
    await patience.bear(StorageError(503, "busy", retry_after=5))
    *growing, last, first_again, told = pauses
    assert all(0.1 * 2**number <= pause <= 0.2 * 2**number for number, pause in enumerate(growing[:6]))
    assert 5 <= last <= 10 and 0.1 <= first_again <= 0.2 and told == 5
