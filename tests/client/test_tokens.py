"""Tokens that the client signs and reads, against what the services do with them."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import jwt
import pytest

from open_workshop_storage.api.documents import messages
from open_workshop_storage.client import Callback, InvalidToken, TransferClaims, sign_transfer_token, verify_callback
from open_workshop_storage.client.tokens import job_of
from open_workshop_storage.utils.auth.json_web_tokens import read_transfer_token, sign_callback_token

SECRET = "a secret that both sides know, of 32 bytes and more"
REPORTED = {"job_id": "job-12345678", "status": "success", "bytes": 7, "mod_id": 5, "own": [1]}


def reported(seconds: float = 60, **claims: object) -> str:
    return "Bearer " + sign_callback_token(REPORTED | claims, "an end", SECRET, seconds)


def names(kind: Any) -> set[str]:
    return {one.name for one in fields(kind)}


def test_claims_have_the_names_that_the_services_know() -> None:
    assert names(TransferClaims) - {"others"} == messages.TransferTokenClaims.model_fields.keys() - {"aud", "exp"}
    assert names(Callback) - {"claims"} == messages.CallbackClaims.model_fields.keys() - {"aud", "iss", "iat", "exp"}


def test_the_services_read_what_is_signed() -> None:
    claims = TransferClaims(job_id="job-12345678", mod_id=7, max_bytes=0, update_only=False, others={"own": None})
    read = read_transfer_token(sign_transfer_token(claims, SECRET), SECRET)
    assert read.expired_seconds == 0
    assert read.claims | {"exp": 0} == {
        "aud": "storage",
        "exp": 0,
        "job_id": "job-12345678",
        "transfer_kind": "archive",
        "mod_id": 7,
        "max_bytes": 0,
        "update_only": False,
        "own": None,
    }


def test_a_token_expires_when_it_is_told_to() -> None:
    token = sign_transfer_token(TransferClaims(job_id="job-12345678"), SECRET, -100)
    assert 99 <= read_transfer_token(token, SECRET).expired_seconds < 200


def test_a_callback_says_what_the_services_signed() -> None:
    callback = verify_callback(reported(), SECRET)
    assert (callback.jti, callback.job_id, callback.status, callback.bytes) == ("an end", "job-12345678", "success", 7)
    assert callback.claims["own"] == [1] and callback.mod_id == 5
    assert callback.reason is None and callback.packed_bytes is None


def test_a_callback_that_expired_within_the_leeway_is_taken() -> None:
    assert verify_callback(reported(-20), SECRET).job_id == "job-12345678"


SOUND = {**REPORTED, "aud": "manager", "iss": "storage", "iat": 1, "exp": 2**40, "jti": "an end"}


def signed(claims: dict[str, object], secret: str = SECRET, algorithm: str = "HS256") -> str:
    return "Bearer " + jwt.encode(claims, secret, algorithm=algorithm)


FORGED = {
    "nothing": "",
    "nonsense": "Bearer nonsense",
    "signed with another secret": signed(SOUND, SECRET + "!"),
    "signed by nobody": signed(SOUND, "", "none"),
    "signed by another algorithm": signed(SOUND, SECRET, "HS384"),
    "expired": reported(-100),
    "of the future": signed(SOUND | {"iat": 2**39}),
    "of another issuer": signed(SOUND | {"iss": "another"}),
    "for another audience": signed(SOUND | {"aud": "storage"}),
    "a transfer token": "Bearer " + sign_transfer_token(TransferClaims(job_id="job-12345678"), SECRET),
    **{
        f"without {name}": signed({claim: value for claim, value in SOUND.items() if claim != name})
        for name in ("aud", "iss", "iat", "exp", "jti", "job_id", "status")
    },
}


def test_the_tests_token_is_sound() -> None:
    assert verify_callback(signed(SOUND), SECRET).jti == "an end"


@pytest.mark.parametrize("authorization", FORGED.values(), ids=FORGED.keys())
def test_what_is_no_callback_of_the_storage_is_refused(authorization: str) -> None:
    with pytest.raises(InvalidToken):
        verify_callback(authorization, SECRET)


def test_a_transfer_token_tells_its_job() -> None:
    assert job_of(sign_transfer_token(TransferClaims(job_id="job-12345678"), SECRET)) == "job-12345678"
    for token in ("", "nonsense", reported()[7:-5] + "?", jwt.encode({"aud": "storage"}, SECRET)):
        with pytest.raises(InvalidToken):
            job_of(token)
