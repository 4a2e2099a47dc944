"""Addresses that carry their own permission."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

from open_workshop_storage.utils.auth.s3_signatures import S3Key, encoded_path, signed_url

# The example of AWS's "Authenticating Requests: Using Query Parameters (AWS Signature Version 4)".
KEY = S3Key("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "us-east-1")
OBJECT = "https://examplebucket.s3.amazonaws.com/test.txt"
MOMENT = 1369353600.0
SIGNATURE = "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"


def signature_of(url: str) -> str:
    (signature,) = parse_qs(urlsplit(url).query)["X-Amz-Signature"]
    return signature


def test_the_signature_is_that_of_the_published_example() -> None:
    url = signed_url(KEY, "GET", OBJECT, 86400, now=MOMENT)
    assert signature_of(url) == SIGNATURE
    assert url.startswith(f"{OBJECT}?X-Amz-Algorithm=AWS4-HMAC-SHA256&")


def test_nothing_else_has_the_same_signature() -> None:
    others = [
        signed_url(KEY, "PUT", OBJECT, 86400, now=MOMENT),
        signed_url(KEY, "GET", f"{OBJECT}x", 86400, now=MOMENT),
        signed_url(KEY, "GET", OBJECT, 86401, now=MOMENT),
        signed_url(KEY, "GET", OBJECT, 86400, now=MOMENT + 1),
        signed_url(KEY, "GET", OBJECT, 86400, {"response-content-type": "text/plain"}, now=MOMENT),
        signed_url(KEY, "GET", OBJECT, 86400, {}, {"x-amz-meta-a": "b"}, now=MOMENT),
        signed_url(KEY._replace(secret_access_key="other"), "GET", OBJECT, 86400, now=MOMENT),
        signed_url(KEY._replace(region="eu-west-1"), "GET", OBJECT, 86400, now=MOMENT),
    ]
    signatures = {SIGNATURE, *map(signature_of, others)}
    assert len(signatures) == len(others) + 1


def test_only_unreserved_characters_and_slashes_stand_for_themselves() -> None:
    assert encoded_path("/b/a b+ö%2F~-_.c") == "/b/a%20b%2B%C3%B6%252F~-_.c"
