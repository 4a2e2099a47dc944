"""What a token asks for, judged by its claims alone."""

from __future__ import annotations

from typing import Any

import pytest

from open_workshop_storage.core.claims import parse_claims
from open_workshop_storage.core.errors import BadRequest, UnsupportedFormat

ARCHIVE = {"job_id": "job-12345678"}
IMAGE = {**ARCHIVE, "transfer_kind": "img", "storage_type": "avatar"}


@pytest.mark.parametrize(
    ("asked", "level"),
    [(None, 3), (0, 0), (9, 9), (10, 9), (99, 9), (-1, 0), (10**30, 9), ("7", 7), (4.0, 4)],
)
def test_the_pack_level_is_held_to_0_to_9(asked: object, level: int) -> None:
    claims = parse_claims({**ARCHIVE, "pack_level": asked})
    assert claims.pack_level == claims.carried["pack_level"] == level


@pytest.mark.parametrize(
    ("asked", "update_only"),
    [
        ({"update_only": True}, True),
        ({"keep_condition": True}, True),
        ({"keep_condition": False}, False),
        ({"update_only": False, "keep_condition": True}, True),
        ({"update_only": True, "keep_condition": False}, True),
        ({"update_only": None, "keep_condition": None}, False),
        ({"update_only": "no", "keep_condition": []}, False),
        (IMAGE, False),
        ({}, False),
    ],
)
def test_update_only_is_true_if_either_claim_is(asked: dict[str, Any], update_only: bool) -> None:
    assert parse_claims({**ARCHIVE, **asked}).carried["update_only"] is update_only


@pytest.mark.parametrize("job_id", ["1_-4aZ78", "x" * 128])
def test_job_ids_of_the_shortest_and_greatest_length_are_taken(job_id: str) -> None:
    assert parse_claims({"job_id": job_id}).job_id == job_id


@pytest.mark.parametrize(
    "job_id",
    [
        *(None, "", "1234567", "x" * 129, "job.12345", "../../../x", "job 12345", "jöb-12345", "٣" * 9, "job-12345\n"),
        *(12345678, ["job-12345"], {"job": 12345}),
    ],
)
def test_a_job_id_of_the_wrong_form_is_refused(job_id: object) -> None:
    with pytest.raises(BadRequest, match="^Invalid job id$"):
        parse_claims({"job_id": job_id})


@pytest.mark.parametrize("pack_format", ["7z", "rar", ""])
def test_an_archive_is_packed_as_a_zip_or_not_at_all(pack_format: str) -> None:
    with pytest.raises(UnsupportedFormat):
        parse_claims({**ARCHIVE, "pack_format": pack_format})


@pytest.mark.parametrize(
    ("claims", "message"),
    [
        ({"storage_type": None}, "Invalid storage type"),
        ({"storage_type": "archive"}, "Invalid storage type"),
        ({"storage_type": "temp"}, "Invalid storage type"),
        ({"storage_type": ["avatar"]}, "Invalid storage type"),
        ({"file_kind": "bin"}, "Invalid file kind"),
        ({"file_kind": ""}, "Invalid file kind"),
        ({"file_kind": 1}, "Invalid file kind"),
        ({"transfer_kind": "video"}, "Invalid transfer kind"),
    ],
)
def test_an_image_goes_to_a_folder_for_images_as_an_image(claims: dict[str, Any], message: str) -> None:
    with pytest.raises(BadRequest, match=f"^{message}$"):
        parse_claims({**IMAGE, **claims})
