"""Claims of tokens that are remembered between requests."""

from __future__ import annotations

import time
from pathlib import Path

import jwt
import pytest

from open_workshop_storage.api.dependencies import claims_of_upload
from open_workshop_storage.core.errors import AccessDenied
from open_workshop_storage.services.runtime import open_runtime
from tests.support.configs import Secrets
from tests.support.in_process import make_settings

pytestmark = pytest.mark.anyio


async def test_a_token_that_is_remembered_grows_old_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = Secrets()
    now = time.time()
    claims = {"aud": "storage", "exp": int(now) + 60, "job_id": "job-12345678"}
    token = jwt.encode(claims, secrets.jwt_secret, algorithm="HS256")
    settings = make_settings(tmp_path, secrets, transfer_resume_seconds=600)
    async with open_runtime(settings, loads=False) as runtime:
        for later, is_expired in ((0, False), (80, False), (120, True), (600, True)):
            monkeypatch.setattr(time, "time", lambda seconds=later: now + seconds)
            read, told = claims_of_upload(token, runtime)
            assert (read.job_id, told) == ("job-12345678", is_expired)
        monkeypatch.setattr(time, "time", lambda: now + 1000)
        with pytest.raises(AccessDenied):
            claims_of_upload(token, runtime)
