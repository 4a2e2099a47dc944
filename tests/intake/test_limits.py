"""Size and time limits of bodies."""

from __future__ import annotations

from dataclasses import replace

import pytest

from open_workshop_storage.core.changes import Pace
from open_workshop_storage.core.errors import UploadTimedOut
from open_workshop_storage.services.intake.limits import ReceiveLimits

UNLIMITED = ReceiveLimits(
    max_bytes=0, total_seconds=0, idle_seconds=0, min_bytes_per_second=0, reserve_bytes=0, timed_out=UploadTimedOut
)


def test_a_sender_must_keep_its_average_rate_after_a_minute() -> None:
    limits = replace(UNLIMITED, min_bytes_per_second=1000)
    assert limits.patience(0, Pace()) == 60
    assert limits.patience(59, Pace(59, 1)) == 1
    assert limits.patience(100, Pace(100, 120_000)) == 20
    assert limits.patience(500, Pace(10, 0)) == 50, "a slow disk is not the sender's fault"
    assert limits.patience(0, Pace(100, 120_000)) == 20, "earlier bodies count"
    with pytest.raises(UploadTimedOut):
        limits.patience(61, Pace(61, 60_999))
    assert replace(limits, idle_seconds=5, total_seconds=70).patience(66, Pace(66, 90_000)) == 4
    assert UNLIMITED.patience(10**6, Pace(10**6, 1)) is None


def test_four_waits_that_are_cut_off_as_idle_cost_the_first_minute() -> None:
    limits = replace(UNLIMITED, min_bytes_per_second=1000, idle_seconds=60)
    pace = Pace()
    for _ in range(3):
        limits.count_wait(pace, 60)
        assert not limits.is_too_slow(pace)
    limits.count_wait(pace, 60)
    assert limits.is_too_slow(pace)
    limits.count_wait(dripping := Pace(), 59.9)
    assert dripping == Pace(59.9)


def test_a_wait_that_is_cut_off_as_idle_costs_its_whole_length_of_what_was_sent() -> None:
    limits = replace(UNLIMITED, min_bytes_per_second=1000, idle_seconds=60)
    pace = Pace(100, 300_000)
    limits.count_wait(pace, 60)
    assert limits.patience(0, replace(pace)) == 60 and pace == Pace(115, 255_000)
    for _ in range(3):
        limits.count_wait(pace, 60)
    assert limits.is_too_slow(pace)


def test_no_number_of_bytes_pays_for_more_than_ten_minutes_of_waiting() -> None:
    limits = replace(UNLIMITED, min_bytes_per_second=1000)
    limits.count_bytes(pace := Pace(30), 10**9)
    assert limits.patience(0, pace) == 600
    UNLIMITED.count_bytes(pace := Pace(30), 10**9)
    assert UNLIMITED.patience(0, pace) is None
