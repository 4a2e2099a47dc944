"""Presigned URLs of S3-compatible stores.

Rules: AWS, "Authenticating Requests: Using Query Parameters (AWS Signature Version 4)".
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import quote, urlsplit

_ALGORITHM = "AWS4-HMAC-SHA256"
_UNRESERVED = "-_.~"


class S3Key(NamedTuple):
    """A key of an S3-compatible store, and the store's region."""

    access_key_id: str
    secret_access_key: str
    region: str


def signed_url(
    key: S3Key,
    method: str,
    url: str,
    seconds: int,
    query: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    now: float | None = None,
) -> str:
    """Return a URL that allows one request for so many seconds, to all who have it.

    Args:
        url: The object's or the bucket's, percent-encoded, without a query.
        query: Parameters that the request must have.
        headers: Headers that the request must have, besides `Host`; names in lower case.
        now: Unix time in seconds at which the permission begins; `None` for the present.
    """
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    day = stamp[:8]
    scope = f"{day}/{key.region}/s3/aws4_request"
    parts = urlsplit(url)
    signed_headers = {"host": parts.netloc, **(headers or {})}
    names = ";".join(sorted(signed_headers))
    parameters = {
        **(query or {}),
        "X-Amz-Algorithm": _ALGORITHM,
        "X-Amz-Credential": f"{key.access_key_id}/{scope}",
        "X-Amz-Date": stamp,
        "X-Amz-Expires": str(seconds),
        "X-Amz-SignedHeaders": names,
    }
    query_string = "&".join(
        f"{quote(name, safe=_UNRESERVED)}={quote(value, safe=_UNRESERVED)}"
        for name, value in sorted(parameters.items())
    )
    header_lines = [f"{name}:{value}" for name, value in sorted(signed_headers.items())]
    request = "\n".join([method, parts.path, query_string, *header_lines, "", names, "UNSIGNED-PAYLOAD"])
    secret = f"AWS4{key.secret_access_key}".encode()
    for part in (day, key.region, "s3", "aws4_request"):
        secret = hmac.digest(secret, part.encode(), "sha256")
    to_sign = "\n".join([_ALGORITHM, stamp, scope, hashlib.sha256(request.encode()).hexdigest()])
    return f"{url}?{query_string}&X-Amz-Signature={hmac.digest(secret, to_sign.encode(), 'sha256').hex()}"


def encoded_path(path: str) -> str:
    """Return a path percent-encoded as signatures need it."""
    return quote(path, safe=f"/{_UNRESERVED}")
