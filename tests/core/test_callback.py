"""What the Manager is told of an attempt's end."""

from __future__ import annotations

from open_workshop_storage.core.callback import callback_of
from open_workshop_storage.core.job import Inner, Stage
from tests.support.jobs import SHA256, job_in, new_job


def test_a_packed_job_is_a_success_without_a_reason() -> None:
    job = new_job({"target_path": "mods/7/main.zip", "sha256": "theirs"}, stage=Stage.PACKED, bytes=70, total=70)
    job = job.model_copy(update={"unpacked_bytes": 900, "packed_bytes": 60, "sha256": SHA256})
    claims = callback_of(job).claims
    assert (claims["job_id"], claims["status"], claims["packed_format"]) == (job.job_id, "success", "zip")
    assert (claims["bytes"], claims["total"], claims["unpacked_bytes"]) == (70, 70, 900)
    assert (claims["packed_bytes"], claims["sha256"]) == (60, SHA256)
    assert (claims["mod_id"], claims["target_path"]) == (7, "mods/7/main.zip")
    assert "reason" not in claims


def test_a_failed_job_tells_its_reason() -> None:
    claims = callback_of(new_job(stage=Stage.ERROR, reason="size_limit")).claims
    assert (claims["status"], claims["reason"]) == ("error", "size_limit")


def test_claims_that_the_token_did_not_have_are_null() -> None:
    claims = callback_of(job_in(Stage.PACKED)).claims
    assert {claims[name] for name in ("callback_action", "callback_context", "target_path", "storage_type")} == {None}


def test_one_end_has_one_name_from_any_worker_and_another_attempt_another() -> None:
    job = job_in(Stage.ERROR)
    taken = job.model_copy(update={"owner": "another", "version": 12, "updated_at": job.updated_at + 5})
    again = job.model_copy(update={"attempt": 2})
    namesake = job_in(Stage.ERROR).model_copy(update={"job_id": job.job_id, "created_at": job.created_at + 1})
    assert callback_of(taken).jti == callback_of(job).jti
    assert len({callback_of(other).jti for other in (job, again, namesake)}) == 3


def test_a_move_keeps_the_name_of_its_jobs_end() -> None:
    packed = job_in(Stage.PACKED)
    moved = job_in(Inner.MOVED).model_copy(update={"job_id": packed.job_id, "created_at": packed.created_at})
    assert callback_of(moved).jti == callback_of(packed).jti
