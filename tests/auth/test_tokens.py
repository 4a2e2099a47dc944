"""Reading transfer tokens and signing callback tokens, apart from what needs a running service."""

from __future__ import annotations

import time

import jwt
import pytest

from open_workshop_storage.utils.auth.tokens import InvalidTokenError, read_transfer_token, sign_callback_token

SECRET = "a secret of at least thirty-two bytes"


def signed(**claims: object) -> str:
    return jwt.encode({"aud": "storage", "exp": int(time.time()) + 60, **claims}, SECRET, algorithm="HS256")


@pytest.mark.parametrize(
    "claims",
    [
        pytest.param({"iat": int(time.time()) + 600}, id="a clock ahead of ours"),
        pytest.param({"sub": 7}, id="a number as subject"),
        pytest.param({"jti": 7}, id="a number as token id"),
    ],
)
def test_a_token_is_judged_by_signature_audience_and_expiry_alone(claims: dict[str, object]) -> None:
    read = read_transfer_token(signed(job_id="job-12345678", **claims), SECRET)
    assert read["job_id"] == "job-12345678"


@pytest.mark.parametrize("missing", ["exp", "aud"])
def test_a_token_without_expiry_or_audience_is_refused(missing: str) -> None:
    claims = {"aud": "storage", "exp": int(time.time()) + 60, "job_id": "job-12345678"}
    del claims[missing]
    with pytest.raises(InvalidTokenError):
        read_transfer_token(jwt.encode(claims, SECRET, algorithm="HS256"), SECRET)


def test_a_callback_token_expires_after_its_time_to_live() -> None:
    token = sign_callback_token({"job_id": "job-12345678"}, "end-1", SECRET, 600)
    claims = jwt.decode(token, SECRET, algorithms=["HS256"], audience="manager", issuer="storage")
    assert claims["exp"] - claims["iat"] == 600
    assert claims["jti"] == "end-1"
