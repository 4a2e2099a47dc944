"""`GET` and `HEAD /download/…` in the OpenAPI document."""

from __future__ import annotations

from typing import Any

from open_workshop_storage.api.documents.openapi import (
    Responses,
    RouteDocument,
    header,
    parameter,
    plain_text_responses,
    text_example,
)
from open_workshop_storage.core import errors
from open_workshop_storage.core.storage_types import StorageType
from open_workshop_storage.services.downloads.plan import PRECONDITION_FAILED, RANGE_NOT_SATISFIABLE
from open_workshop_storage.utils.http.media_types import DEFAULT_MEDIA_TYPE, SAFE_MEDIA_TYPES

VALIDATORS = header("ETag", "Strong tag of this version of the file.", '"6b09fb59-4e20"') | header(
    "Last-Modified", "When the file was stored.", "Tue, 06 Jan 2026 12:00:00 GMT"
)
_SIGNED = "https://store.example.org/bucket/archive/mods/7/main.zip?X-Amz-Signature=5e5e"
CACHE_CONTROL = header(
    "Cache-Control", "By kind of file; `private, no-cache` below `archive/mods/`.", "public, max-age=300"
)
_ACCEPT_RANGES = header("Accept-Ranges", "Always `bytes`.", "bytes")
POLICY = header("Content-Security-Policy", "Keeps the file from running as a page.", "default-src 'none'; sandbox")
_DIGEST = "sha-256=:n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg=:"
_FILE_HEADERS = (
    VALIDATORS
    | CACHE_CONTROL
    | POLICY
    | _ACCEPT_RANGES
    | header("Repr-Digest", "SHA-256 of the whole file, if it is known (RFC 9530).", _DIGEST)
    | header("Content-Length", "Bytes of the body.", 20000)
    | header("Content-Disposition", "Only if `filename` was usable.", 'attachment; filename="my_mod.zip"')
)
CONTENT_RANGE = header("Content-Range", "Which bytes these are; absent if there are several parts.", "bytes 0-9/20000")
_UNPACKED_BYTES = header(
    "X-Unpacked-Bytes", "For an archive below `archive/mods/`: bytes when unpacked, if that can be told.", 65536
)
_ACCEL_REDIRECT = header(
    "X-Accel-Redirect",
    "Only with `ACCEL_REDIRECT_PREFIX` set, and never seen by clients: where nginx finds the file, which it sends in "
    "place of this answer. That has no body then, and some of the other headers are left to nginx.",
    "/stored-files/archive/mods/7/main.zip",
)


def binary_bodies(*media_types: str) -> dict[str, object]:
    """Describe bodies of these types, the most common first: some generators of clients look no further."""
    body = {"schema": {"type": "string", "format": "binary"}, "example": "the bytes of the file"}
    return dict.fromkeys(media_types, body)


STORED_TYPES = (DEFAULT_MEDIA_TYPE, *sorted({kind.partition(";")[0] for kind in SAFE_MEDIA_TYPES.values()}))
FILE_ERRORS = (
    errors.InvalidType,
    errors.AccessDenied,
    errors.AccessDenied("The reason that the access service gave"),
    errors.FileMissing,
    errors.PathOutsideStorage,
    errors.AccessServiceConfused,
    errors.AccessServiceUnavailable,
    errors.ServiceUnavailable,
)
"""What looking up a stored file, and who may have it, may end in."""
PRECONDITION: dict[str, Any] = {
    "description": "The file is not the version that `If-Match` or `If-Unmodified-Since` asks for.",
    **text_example(PRECONDITION_FAILED),
    "headers": CACHE_CONTROL | POLICY,
}
OTHER_REFUSALS: dict[str, Any] = {
    "description": "Any other error of the access service, passed on with its status and its message.",
    **text_example("Unauthorized"),
}
_FOR_BOTH: Responses = {
    304: {"description": "The client has this version already.", "headers": VALIDATORS | CACHE_CONTROL | POLICY},
    **plain_text_responses(*FILE_ERRORS),
    412: PRECONDITION,
    "default": OTHER_REFUSALS,
}
_FOR_GET: Responses = {
    200: {
        "description": "The whole file.",
        "content": binary_bodies(*STORED_TYPES),
        "headers": _FILE_HEADERS | _ACCEL_REDIRECT,
    },
    302: {
        "description": 'Where the store itself has the file, for 300 seconds; only with `S3_DOWNLOADS = "redirect"`.',
        "headers": header("Location", "An address with a signature; whoever has it can read this file.", _SIGNED)
        | header("Cache-Control", "Always `no-store`.", "no-store"),
    },
    206: {
        "description": "The parts that `Range` asks for; several come as `multipart/byteranges`.",
        "content": binary_bodies(*STORED_TYPES, "multipart/byteranges"),
        "headers": _FILE_HEADERS | CONTENT_RANGE,
    },
    416: {
        "description": "The file has none of the bytes that `Range` asks for.",
        **text_example(RANGE_NOT_SATISFIABLE),
        "headers": VALIDATORS
        | CACHE_CONTROL
        | POLICY
        | _ACCEPT_RANGES
        | header("Content-Range", "The file's size.", "bytes */20000"),
    },
    **_FOR_BOTH,
}
_FOR_HEAD: Responses = {
    200: {"description": "The file exists.", "headers": _FILE_HEADERS | _UNPACKED_BYTES},
    **_FOR_BOTH,
}
FILE_PARAMETERS = [
    parameter("path", "type", "Kind of file.", "archive", required=True, choices=StorageType),
    parameter(
        "path",
        "path",
        "Path below the type's folder. Its slashes may be sent as they are, or as `%2F`.",
        "mods/7/main.zip",
        required=True,
    ),
    parameter("cookie", "accessToken", "Passed on to the access service.", "eyJhbGciOiJIUzI1NiJ9.e30.x"),
    parameter("cookie", "refreshToken", "Passed on to the access service.", "eyJhbGciOiJIUzI1NiJ9.e30.y"),
    parameter("header", "If-None-Match", "Send only if the version is another.", '"18c5a2f0d3b1a400-4e20-1a"'),
    parameter("header", "If-Modified-Since", "Send only if newer.", "Tue, 06 Jan 2026 12:00:00 GMT"),
    parameter("header", "If-Match", "Send only this version.", '"18c5a2f0d3b1a400-4e20-1a"'),
    parameter("header", "If-Unmodified-Since", "Send only if not newer.", "Tue, 06 Jan 2026 12:00:00 GMT"),
]
RANGE_PARAMETERS = [
    parameter("header", "Range", "Which bytes to send.", "bytes=0-9,-5"),
    parameter("header", "If-Range", "Obey `Range` only for this version.", '"18c5a2f0d3b1a400-4e20-1a"'),
]

_FILENAME = parameter(
    "query",
    "filename",
    "Name to save the file as, without extension; ignored unless it matches `[A-Za-z0-9_-]+`.",
    "my_mod",
)

HEAD_DOWNLOAD: RouteDocument = {
    "summary": "Look at a file",
    "operation_id": "head_file",
    "responses": _FOR_HEAD,
    "openapi_extra": {"parameters": [*FILE_PARAMETERS, _FILENAME]},
}
GET_DOWNLOAD: RouteDocument = {
    "summary": "Download a file",
    "operation_id": "download_file",
    "responses": _FOR_GET,
    "openapi_extra": {"parameters": [*FILE_PARAMETERS, _FILENAME, *RANGE_PARAMETERS]},
}
