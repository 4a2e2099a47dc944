"""Claims of tokens that are remembered between requests."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import cast

import jwt
import pytest

from open_workshop_storage.api.dependencies import claims_of_upload
from open_workshop_storage.core.errors import AccessDenied
from open_workshop_storage.services.runtime import Runtime

SECRET = "a secret of at least thirty-two bytes"


def test_a_token_that_is_remembered_grows_old_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = SimpleNamespace(transfer_jwt_secret=SECRET, transfer_resume_seconds=600)
    runtime = cast(Runtime, SimpleNamespace(settings=settings))
    now = time.time()
    token = jwt.encode({"aud": "storage", "exp": int(now) + 60, "job_id": "job-12345678"}, SECRET, algorithm="HS256")
    for later, is_expired in ((0, False), (80, False), (120, True), (600, True)):
        monkeypatch.setattr(time, "time", lambda seconds=later: now + seconds)
        claims, told = claims_of_upload(token, runtime)
        assert (claims.job_id, told) == ("job-12345678", is_expired)
    monkeypatch.setattr(time, "time", lambda: now + 1000)
    with pytest.raises(AccessDenied):
        claims_of_upload(token, runtime)


def test_a_token_that_was_remembered_for_one_secret_is_worth_nothing_with_another() -> None:
    token = jwt.encode({"aud": "storage", "exp": 2**33, "job_id": "job-12345678"}, SECRET, algorithm="HS256")
    for secret, is_right in ((SECRET, True), (SECRET + "!", False), (SECRET, True)):
        settings = SimpleNamespace(transfer_jwt_secret=secret, transfer_resume_seconds=600)
        runtime = cast(Runtime, SimpleNamespace(settings=settings))
        if is_right:
            assert claims_of_upload(token, runtime)[0].job_id == "job-12345678"
        else:
            with pytest.raises(AccessDenied):
                claims_of_upload(token, runtime)
