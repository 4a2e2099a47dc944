"""Reading transfer tokens and signing callback tokens, apart from what needs a running service."""

from __future__ import annotations

import time

import jwt
import pytest

from open_workshop_storage.utils.auth.json_web_tokens import InvalidTokenError, read_transfer_token, sign_callback_token

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
    assert read.claims["job_id"] == "job-12345678"
    assert read.expired_seconds == 0


@pytest.mark.parametrize("missing", ["exp", "aud"])
def test_a_token_without_expiry_or_audience_is_refused(missing: str) -> None:
    claims = {"aud": "storage", "exp": int(time.time()) + 60, "job_id": "job-12345678"}
    del claims[missing]
    with pytest.raises(InvalidTokenError):
        read_transfer_token(jwt.encode(claims, SECRET, algorithm="HS256"), SECRET)


@pytest.mark.parametrize(("name", "offset"), [("exp", -25), ("nbf", 25)])
def test_clocks_may_differ_by_half_a_minute(name: str, offset: int) -> None:
    assert read_transfer_token(signed(**{name: int(time.time()) + offset}), SECRET).expired_seconds == 0


def test_a_token_that_is_not_valid_yet_is_refused() -> None:
    with pytest.raises(InvalidTokenError):
        read_transfer_token(signed(nbf=int(time.time()) + 60), SECRET)


def test_an_expired_token_is_told_from_an_invalid_one() -> None:
    expired = {"exp": int(time.time()) - 600, "job_id": "job-12345678"}
    read = read_transfer_token(signed(**expired), SECRET)
    assert read.claims["job_id"] == "job-12345678"
    assert 600 <= read.expired_seconds < 700
    with pytest.raises(InvalidTokenError):
        read_transfer_token(signed(**expired | {"aud": "manager"}), SECRET)
    with pytest.raises(InvalidTokenError):
        read_transfer_token(signed(**expired), SECRET + "!")


def test_a_manager_whose_clock_is_behind_accepts_a_callback_token() -> None:
    token = sign_callback_token({}, "end-1", SECRET, 600)
    claims = jwt.decode(token, SECRET, algorithms=["HS256"], audience="manager", issuer="storage")
    assert claims["iat"] <= time.time() - 60


def test_a_callback_token_expires_after_its_time_to_live() -> None:
    token = sign_callback_token({"job_id": "job-12345678"}, "end-1", SECRET, 600)
    claims = jwt.decode(token, SECRET, algorithms=["HS256"], audience="manager", issuer="storage")
    assert 590 < claims["exp"] - time.time() <= 600
    assert claims["jti"] == "end-1"
