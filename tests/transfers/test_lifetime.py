"""What a worker does for clients, and whether it is about to go."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from open_workshop_storage.services.transfers.lifetime import Lifetime
from tests.support.configs import Secrets
from tests.support.in_process import make_settings


def test_requests_and_sockets_are_counted_until_they_end(tmp_path: Path) -> None:
    lifetime = Lifetime(make_settings(tmp_path, Secrets()))
    with lifetime.attending():
        with pytest.raises(ConnectionError), lifetime.holding_socket("job"):
            assert (lifetime.attended, lifetime.open_sockets) == (2, 1)
            raise ConnectionError
        assert (lifetime.attended, lifetime.open_sockets) == (1, 0)
    assert lifetime.attended == 0


@pytest.mark.parametrize(("most", "most_per_job", "full"), [(2, 0, "another"), (0, 2, "job"), (0, 0, None)])
def test_sockets_are_limited_for_the_worker_and_for_each_job(
    most: int, most_per_job: int, full: str | None, tmp_path: Path
) -> None:
    limits = {"transfer_max_sockets": most, "transfer_max_sockets_per_job": most_per_job}
    lifetime = Lifetime(make_settings(tmp_path, Secrets(), **limits))
    with lifetime.holding_socket("job"):
        assert not lifetime.sockets_are_full("job")
        with lifetime.holding_socket("job"):
            assert lifetime.sockets_are_full("job") == (full is not None)
            assert lifetime.sockets_are_full("another") == (full == "another")
    assert not lifetime.sockets_are_full("job")


def test_a_stop_tells_sockets_of_which_each_may_end_in_that_call(tmp_path: Path) -> None:
    lifetime, told = Lifetime(make_settings(tmp_path, Secrets())), list[str]()

    def end(name: str) -> None:
        told.append(name)
        lifetime.when_stopping.discard(ends[name])

    ends = {name: partial(end, name) for name in ("first", "second")}
    lifetime.when_stopping |= set(ends.values())
    lifetime.stop()
    assert lifetime.stopping.is_set() and sorted(told) == ["first", "second"]
