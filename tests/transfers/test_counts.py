"""What a worker's transfers add up to."""

from __future__ import annotations

from open_workshop_storage.core.job import Stage
from open_workshop_storage.services.transfers.counts import TransferCounts
from tests.support.jobs import new_job


def test_what_is_counted_is_told_once() -> None:
    metrics = TransferCounts()
    metrics.begun()
    metrics.begun()
    metrics.received(70)
    metrics.received(30)
    metrics.ended(new_job())
    metrics.ended(new_job(reason="malware"))
    metrics.left_stage(new_job(stage=Stage.EXTRACTING), 1.5)
    metrics.left_stage(new_job(stage=Stage.EXTRACTING), 0.25)
    assert metrics.take() == {
        "begun": 2,
        "received": 100,
        "outcome success": 1,
        "outcome malware": 1,
        "left extracting": 2,
        "milliseconds extracting": 1750,
    }
    assert metrics.take() == {}


def test_what_could_not_be_told_is_told_later() -> None:
    metrics = TransferCounts()
    metrics.begun()
    taken = metrics.take()
    metrics.begun()
    metrics.give_back(taken)
    assert metrics.take() == {"begun": 2}


def test_bytes_that_are_fetched_anew_take_nothing_back() -> None:
    metrics = TransferCounts()
    metrics.received(100)
    metrics.received(-100)
    metrics.received(40)
    assert metrics.take() == {"received": 140}
