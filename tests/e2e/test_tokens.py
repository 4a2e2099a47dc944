"""Which transfers a token allows: JWTs of every kind, and where they may stand."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time

import httpx
import jwt
import pytest

from tests.support.archives import entries_of
from tests.support.client import upload
from tests.support.services import Services

# A token is judged before the store is asked.
pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("services", ["memory"], indirect=True)]

LATER = int(time.time()) + 3600
OTHER_SECRET = "another secret of more than thirty-two bytes"


def encoded(part: object) -> str:
    raw = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def signed(secret: str, header: object, payload: object) -> str:
    """Return a token of exactly these parts with an HMAC-SHA-256 signature."""
    text = f"{encoded(header)}.{encoded(payload)}"
    return f"{text}.{encoded(hmac.digest(secret.encode(), text.encode(), hashlib.sha256))}"


HS256 = {"alg": "HS256", "typ": "JWT"}


def bad_tokens(services: Services) -> dict[str, str]:
    secret = services.secrets.jwt_secret
    ticket = services.ticket(download_url="http://127.0.0.1:1/")
    claims = {"job_id": ticket.job_id, "aud": "storage", "exp": LATER, "download_url": "http://127.0.0.1:1/"}

    def without(name: str) -> dict[str, object]:
        return {key: value for key, value in claims.items() if key != name}

    return {
        "no signature": f"{encoded({'alg': 'none'})}.{encoded(claims)}.",
        "alg none, signed": signed(secret, {"alg": "none"}, claims),
        "no alg": signed(secret, {"typ": "JWT"}, claims),
        "HS384": jwt.encode(claims, secret, algorithm="HS384"),
        "HS512": jwt.encode(claims, secret, algorithm="HS512"),
        "RS256": signed(secret, {"alg": "RS256"}, claims),
        "another secret": jwt.encode(claims, OTHER_SECRET, algorithm="HS256"),
        "no audience": signed(secret, HS256, without("aud")),
        "another audience": signed(secret, HS256, claims | {"aud": "manager"}),
        "other audiences": signed(secret, HS256, claims | {"aud": ["manager", "browser"]}),
        "audience of another type": signed(secret, HS256, claims | {"aud": 7}),
        "no expiry": signed(secret, HS256, without("exp")),
        "null expiry": signed(secret, HS256, claims | {"exp": None}),
        "expiry in words": signed(secret, HS256, claims | {"exp": "tomorrow"}),
        "endless expiry": signed(secret, HS256, json.dumps(claims | {"exp": float("inf")}).encode()),
        "expired": signed(secret, HS256, claims | {"exp": int(time.time()) - 31}),
        "not yet valid": signed(secret, HS256, claims | {"nbf": LATER}),
        "payload is a list": signed(secret, HS256, [1]),
        "payload is no JSON": signed(secret, HS256, b"{"),
        "deep payload": signed(secret, HS256, b"[" * 2_000),
        "header is a list": f"{encoded([1])}.{encoded(claims)}.x",
        "cut off": ticket.token[:-2],
        "lengthened": ticket.token + "AA",
        "two parts": ".".join(ticket.token.split(".")[:2]),
        "words": "nonsense",
        "dots": "..",
        "not ASCII": "täken.täken.täken",
        "blank": " ",
    }


async def test_a_token_that_is_not_the_managers_is_denied(services: Services, http: httpx.AsyncClient) -> None:
    start = f"{services.loader}/transfer/start"
    for name, token in bad_tokens(services).items():
        for answer in (
            await upload(http, services.loader, token, b"any"),
            await http.get(start, params={"token": token}),
            await http.post(start, data={"token": token}),
        ):
            assert (answer.status_code, answer.text) == (403, "Access denied"), name
            assert answer.headers["content-type"].startswith("text/plain"), name


@pytest.mark.parametrize(
    "claims",
    [
        pytest.param({"aud": ["browser", "storage"]}, id="one of several audiences"),
        pytest.param({"iss": "manager", "sub": "user", "jti": "x", "iat": 1, "nbf": 1}, id="registered claims"),
    ],
)
async def test_other_registered_claims_are_none_of_our_business(
    claims: dict[str, object], services: Services, http: httpx.AsyncClient
) -> None:
    secret = services.secrets.jwt_secret
    ticket = services.ticket()
    token = signed(secret, HS256, {"job_id": ticket.job_id, "aud": "storage", "exp": LATER, "mod_id": 1} | claims)
    assert (await upload(http, services.loader, token, b"any")).status_code == 200
    (callback,) = services.manager.wait_for_callbacks(ticket.job_id)
    assert (callback.claims["iss"], callback.claims["aud"]) == ("storage", "manager")
    assert callback.claims["jti"] != claims.get("jti")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Authorization": "Bearer {token}"}, 200),
        ({"Authorization": "bearer   {token}"}, 200),
        ({"Authorization": "Bearer"}, 401),
        ({"Authorization": "Basic {token}"}, 401),
        ({"Authorization": "{token}"}, 401),
        ({"Cookie": "token={token}"}, 401),
        ({"Authorization": "Bearer nonsense"}, 403),
        ({}, 401),
    ],
)
async def test_an_upload_may_have_its_token_in_the_authorization_header(
    headers: dict[str, str], status: int, services: Services, http: httpx.AsyncClient
) -> None:
    given = {name: value.format(token=services.ticket().token) for name, value in headers.items()}
    answer = await http.post(f"{services.loader}/transfer/upload", headers=given, content=b"any")
    assert answer.status_code == status
    assert status == 200 or answer.text == {401: "Token not found", 403: "Access denied"}[status]


@pytest.mark.parametrize(
    ("query", "headers", "name"),
    [
        ({"filename": "query.txt"}, {"X-File-Name": "header.txt"}, "query.txt"),
        ({"filename": ""}, {"X-File-Name": "header.txt"}, "header.txt"),
        ({}, {"X-File-Name": "%C3%BCber%20uns.txt"}, "über uns.txt"),
        ({}, {"X-File-Name": "über uns.txt"}, "über uns.txt"),
        ({}, {"X-File-Name": b"\xfcber uns.txt"}, "über uns.txt"),
        ({"filename": "über uns.txt"}, {}, "über uns.txt"),
        ({"filename": "../../etc/passwd"}, {}, "passwd"),
        ({"filename": "-o/-tzip"}, {}, "-tzip"),
        ({"filename": "@list"}, {}, "@list"),
        ({}, {}, "file"),
    ],
)
async def test_a_file_name_comes_from_query_or_header_and_is_made_safe(
    query: dict[str, str], headers: dict[str, str | bytes], name: str, services: Services, http: httpx.AsyncClient
) -> None:
    ticket = services.ticket()
    answer = await http.post(
        f"{services.loader}/transfer/upload",
        params={"token": ticket.token, **query},
        headers=[
            (header.encode(), value.encode() if isinstance(value, str) else value) for header, value in headers.items()
        ],
        content=b"no archive",
    )
    assert answer.status_code == 200
    assert entries_of((services.main_dir / ticket.path).read_bytes()) == {name: b"no archive"}


@pytest.mark.parametrize("value", ["", "many", "-5", "1e3", "0x10", "9" * 40, "١٢"])
async def test_a_size_hint_that_is_no_number_is_ignored(
    value: str, services: Services, http: httpx.AsyncClient
) -> None:
    answer = await http.post(
        f"{services.loader}/transfer/upload",
        params={"token": services.ticket(max_bytes=100).token, "size": value},
        headers=httpx.Headers({"X-File-Size": value, "X-Upload-Size": value}, "utf-8"),
        content=b"any",
    )
    assert (answer.status_code, answer.json()["total"]) == (200, 3)
