"""`GET` and `HEAD /contents/…` in the OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field

from open_workshop_storage.api.documents.downloads import (
    CACHE_CONTROL,
    CONTENT_RANGE,
    FILE_ERRORS,
    FILE_PARAMETERS,
    OTHER_REFUSALS,
    POLICY,
    PRECONDITION,
    RANGE_PARAMETERS,
    STORED_TYPES,
    VALIDATORS,
    binary_bodies,
)
from open_workshop_storage.api.documents.openapi import (
    Responses,
    RouteDocument,
    header,
    parameter,
    plain_text_responses,
    text_example,
)
from open_workshop_storage.core import errors
from open_workshop_storage.services.downloads.plan import RANGE_NOT_SATISFIABLE


class ArchiveEntry(BaseModel):
    """One file in an archive."""

    name: Annotated[str, Field(description="With the folders that it is in; what `entry` asks for.")]
    bytes: Annotated[int, Field(description="Size when unpacked.")]
    compressed_bytes: Annotated[int, Field(description="Size in the archive.")]
    crc32: Annotated[str, Field(description="CRC-32 of the unpacked file, as 8 hexadecimal digits.")]
    modified: Annotated[
        str | None, Field(description="Local time of whoever packed it, ISO 8601 without a zone; null if it is none.")
    ]


class ArchiveContents(BaseModel):
    """The files in an archive."""

    path: Annotated[str, Field(description="Where the archive is, relative to the storage root.")]
    bytes: Annotated[int, Field(description="Size of the archive.")]
    unpacked_bytes: Annotated[int, Field(description="The sum of all files' sizes.")]
    entries: Annotated[list[ArchiveEntry], Field(description="In the order of the archive's directory.")]


_EXAMPLE = ArchiveContents(
    path="archive/mods/7/main.zip",
    bytes=20000,
    unpacked_bytes=65536,
    entries=[
        ArchiveEntry(
            name="mod/descriptor.mod",
            bytes=65536,
            compressed_bytes=19800,
            crc32="0a1b2c3d",
            modified="2026-01-06T12:00:00",
        )
    ],
)
_VARY = header("Vary", "For a file that Deflate has packed.", "accept-encoding")
_CRC = header("X-Entry-CRC32", "For a file in the archive: its CRC-32, as 8 hexadecimal digits.", "0a1b2c3d")
_SENT = (
    VALIDATORS
    | CACHE_CONTROL
    | POLICY
    | _VARY
    | _CRC
    | header("Accept-Ranges", "`bytes` for a file that is stored without compression, else `none`.", "none")
    | header("Content-Encoding", "`gzip` for a file that Deflate has packed, if the client takes it.", "gzip")
    | header("Content-Length", "Bytes of the body.", 20000)
)
_JSON = "application/json"
_FILES = [kind for kind in STORED_TYPES if kind != _JSON]
_FOR_BOTH: Responses = {
    304: {
        "description": "The client has this version already.",
        "headers": VALIDATORS | CACHE_CONTROL | POLICY | _VARY,
    },
    **plain_text_responses(*FILE_ERRORS, errors.EntryMissing, errors.UnsupportedFormat()),
    412: PRECONDITION | {"headers": CACHE_CONTROL | POLICY | _VARY},
    "default": OTHER_REFUSALS,
}
_FOR_GET: Responses = {
    200: {
        "description": "The listing; with `entry`, the whole file, which may be JSON too.",
        "model": ArchiveContents | Any,
        "content": {_JSON: {"example": _EXAMPLE.model_dump(mode="json")}, **binary_bodies(*_FILES)},
        "headers": _SENT,
    },
    206: {
        "description": "The parts of the file that `Range` asks for; several come as `multipart/byteranges`.",
        "content": binary_bodies(*STORED_TYPES, "multipart/byteranges"),
        "headers": _SENT | CONTENT_RANGE,
    },
    416: {
        "description": "The file has none of the bytes that `Range` asks for.",
        **text_example(RANGE_NOT_SATISFIABLE),
        "headers": VALIDATORS
        | CACHE_CONTROL
        | POLICY
        | header("Accept-Ranges", "Always `bytes`.", "bytes")
        | header("Content-Range", "The file's size.", "bytes */20000"),
    },
    **_FOR_BOTH,
}
_FOR_HEAD: Responses = {
    200: {"description": "What GET would send.", "headers": _SENT},
    **_FOR_BOTH,
}
_PARAMETERS = [
    *FILE_PARAMETERS,
    parameter("query", "entry", "Name of the file to send, as in the listing.", "mod/descriptor.mod"),
    parameter("header", "Accept-Encoding", "Whether gzip is taken (RFC 9110, section 12.5.3).", "gzip"),
]

HEAD_CONTENTS: RouteDocument = {
    "summary": "Look at what is in an archive",
    "operation_id": "head_contents",
    "responses": _FOR_HEAD,
    "openapi_extra": {"parameters": _PARAMETERS},
}
GET_CONTENTS: RouteDocument = {
    "summary": "Look into an archive",
    "operation_id": "get_contents",
    "responses": _FOR_GET,
    "openapi_extra": {"parameters": [*_PARAMETERS, *RANGE_PARAMETERS]},
}
