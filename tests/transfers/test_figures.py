"""What a worker's transfers add up to."""

from __future__ import annotations

from open_workshop_storage.core.job import Stage
from open_workshop_storage.services.transfers.figures import Figures
from tests.support.jobs import new_job


def test_what_is_counted_is_told_once() -> None:
    figures = Figures()
    figures.begun()
    figures.begun()
    figures.received(70)
    figures.received(30)
    figures.ended(new_job(), "success")
    figures.ended(new_job(), "malware")
    figures.left_stage(new_job(stage=Stage.EXTRACTING), 1.5)
    figures.left_stage(new_job(stage=Stage.EXTRACTING), 0.25)
    assert figures.take() == {
        "begun": 2,
        "received": 100,
        "outcome success": 1,
        "outcome malware": 1,
        "left extracting": 2,
        "milliseconds extracting": 1750,
    }
    assert figures.take() == {}


def test_what_could_not_be_told_is_told_later() -> None:
    figures = Figures()
    figures.begun()
    taken = figures.take()
    figures.begun()
    figures.give_back(taken)
    assert figures.take() == {"begun": 2}


def test_bytes_that_are_fetched_anew_take_nothing_back() -> None:
    figures = Figures()
    figures.received(100)
    figures.received(-100)
    figures.received(40)
    assert figures.take() == {"received": 140}
