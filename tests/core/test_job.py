"""Which step may follow which, and what a record says of itself."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from open_workshop_storage.core.changes import (
    Advanced,
    Counted,
    Failed,
    MoveBegun,
    Moved,
    MoveUndone,
    Owned,
    Packed,
    Unpacked,
)
from open_workshop_storage.core.job import NEXT, Change, Inner, Job, Stage, State, WrongStep, check_step
from tests.support.jobs import MOVED_TO, SHA256, job_in, new_job

STATES: Sequence[State] = [*Stage, *Inner]


def step(job: Job, after: State) -> Job:
    """Change a record to another state, as the code does that makes such a step."""
    packed = Packed("run/packed.zip", 5, 9, SHA256)
    changes: dict[State, Sequence[Change]] = {
        Inner.PAUSED: [Owned(None)],
        Inner.MOVING: [MoveBegun(MOVED_TO, "me")],
        Inner.MOVED: [MoveBegun(MOVED_TO, "me"), Moved(5)],
        Stage.PACKED: [MoveUndone()] if job.state is Inner.MOVING else [packed],
        Stage.ERROR: [Failed("Upload failed", "exception")],
    }
    stage = Stage.PACKED if after in (Inner.MOVING, Inner.MOVED) else after
    if after is Inner.PAUSED:
        stage = Stage.UPLOADING
    assert isinstance(stage, Stage)
    return job.changed(*changes.get(after, [Owned("me")]), stage=stage)


@pytest.mark.parametrize("after", STATES)
@pytest.mark.parametrize("before", STATES)
def test_a_step_is_taken_or_refused_as_the_table_says(before: State, after: State) -> None:
    job = job_in(before)
    assert job.state is before
    if before is Inner.MOVED and after is not before:
        # No fact leads out of the end.
        with pytest.raises(WrongStep):
            check_step(before, after)
        return
    if after in NEXT[before] or after == before:
        assert step(job, after).state is after
    else:
        with pytest.raises(WrongStep):
            step(job, after)


@pytest.mark.parametrize("state", STATES)
def test_a_job_begins_in_the_states_of_the_table_only(state: State) -> None:
    if state in (Stage.PENDING, Stage.UPLOADING, Inner.PAUSED):
        check_step(None, state)
    else:
        with pytest.raises(WrongStep):
            check_step(None, state)


def test_every_state_can_be_reached_and_only_a_moved_job_stays_as_it_is() -> None:
    assert set().union(*NEXT.values()) == set(STATES)
    assert [state for state, after in NEXT.items() if not after] == [Inner.MOVED]


@pytest.mark.parametrize("state", STATES)
def test_a_worker_is_needed_until_the_end_but_not_by_a_paused_upload(state: State) -> None:
    needless = (Inner.PAUSED, Stage.PACKED, Inner.MOVED, Stage.ERROR)
    assert job_in(state).needs_worker is (state not in needless)


def test_a_paused_upload_is_uploading_to_clients() -> None:
    paused = job_in(Inner.PAUSED)
    assert (paused.stage, paused.status, paused.owner) == (Stage.UPLOADING, "uploading", None)


@pytest.mark.parametrize(
    ("stage", "percent"), [(Stage.EXTRACTING, 0.0), (Stage.REPACKING, 0.0), (Stage.PROCESSING, None)]
)
def test_progress_of_one_stage_is_not_that_of_the_next(stage: Stage, percent: float | None) -> None:
    job = job_in(Stage.REPACKING).model_copy(update={"stage": Stage.UPLOADED}).changed(Advanced(40))
    assert job.changed(stage=stage).percent == percent


def test_facts_add_what_they_say_and_the_latest_counts() -> None:
    job = job_in(Stage.EXTRACTING).changed(Counted(3), Counted(5), Unpacked(9))
    assert (job.bytes, job.unpacked_bytes) == (5, 9)


def test_an_end_has_no_owner_and_a_failed_one_no_file() -> None:
    packed = job_in(Stage.REPACKING).changed(Packed("run/packed.zip", 5, 9, SHA256), stage=Stage.PACKED)
    assert (packed.owner, packed.packed_bytes, packed.percent) == (None, 5, None)
    received = job_in(Stage.REPACKING).model_copy(update={"source_file": "run/source"})
    failed = received.changed(Failed("Repack failed", "repack_failed"), stage=Stage.ERROR)
    assert (failed.owner, failed.source_file, failed.reason) == (None, None, "repack_failed")


def test_a_change_is_marked_with_its_time_and_leaves_the_old_record() -> None:
    job = new_job(updated_at=1.0, owner="me")
    assert job.changed(Counted(5)).updated_at > 1.0
    assert (job.bytes, job.updated_at) == (0, 1.0)
