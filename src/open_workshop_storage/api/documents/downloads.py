"""`GET` and `HEAD /download/…` and `/contents/…` in the OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field

from open_workshop_storage.api.documents.openapi import (
    Responses,
    RouteDocument,
    answer,
    header,
    operation,
    parameter,
)
from open_workshop_storage.core import errors
from open_workshop_storage.services.downloads.plan import PRECONDITION_FAILED, RANGE_NOT_SATISFIABLE
from open_workshop_storage.services.storage.files import StorageType
from open_workshop_storage.utils.http.media_types import DEFAULT_MEDIA_TYPE, SAFE_MEDIA_TYPES


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


_ENTRY = "mod/descriptor.mod"
_ARCHIVE = ArchiveContents(
    path="archive/mods/7/main.zip",
    bytes=20000,
    unpacked_bytes=65536,
    entries=[
        ArchiveEntry(name=_ENTRY, bytes=65536, compressed_bytes=19800, crc32="0a1b2c3d", modified="2026-01-06T12:00:00")
    ],
)
_DATE = "Tue, 06 Jan 2026 12:00:00 GMT"
_SIGNED = "https://store.example.org/bucket/archive/mods/7/main.zip?X-Amz-Signature=5e5e"

_CACHING = header(
    "Cache-Control", "By kind of file; `private, no-cache` below `archive/mods/`.", "public, max-age=300"
) | header("Content-Security-Policy", "Keeps the file from running as a page.", "default-src 'none'; sandbox")
_VERSION = (
    header("ETag", "Strong tag of this version of the file.", '"6b09fb59-4e20"')
    | header("Last-Modified", "When the file was stored.", _DATE)
    | _CACHING
)
_LENGTH = header("Content-Length", "Bytes of the body.", 20000)
_RANGES_TAKEN = header("Accept-Ranges", "Always `bytes`.", "bytes")
_DIGEST = "sha-256=:n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg=:"
_FILE_HEADERS = (
    _VERSION
    | _LENGTH
    | _RANGES_TAKEN
    | header("Repr-Digest", "SHA-256 of the whole file, if it is known (RFC 9530).", _DIGEST)
    | header("Content-Disposition", "Only if `filename` was usable.", 'attachment; filename="my_mod.zip"')
)
_VARY = header("Vary", "For a file that Deflate has packed.", "accept-encoding")
_CONTENTS_HEADERS = (
    _VERSION
    | _LENGTH
    | _VARY
    | header("X-Entry-CRC32", "For a file in the archive: its CRC-32, as 8 hexadecimal digits.", "0a1b2c3d")
    | header("Accept-Ranges", "`bytes` for a file that is stored without compression, else `none`.", "none")
    | header("Content-Encoding", "`gzip` for a file that Deflate has packed, if the client takes it.", "gzip")
)
_UNPACKED_BYTES = header(
    "X-Unpacked-Bytes", "For an archive below `archive/mods/`: bytes when unpacked, if that can be told.", 65536
)
_ACCEL_REDIRECT = header(
    "X-Accel-Redirect",
    "Only with `ACCEL_REDIRECT_PREFIX` set, and never seen by clients: where nginx finds the file, which it sends in "
    "place of this answer. That has no body then, and some of the other headers are left to nginx.",
    "/stored-files/archive/mods/7/main.zip",
)
_TYPES = (DEFAULT_MEDIA_TYPE, *sorted({kind.partition(";")[0] for kind in SAFE_MEDIA_TYPES.values()}))


def _bodies(*media_types: str) -> dict[str, Any]:
    """Describe bodies of these types, the most common first: some generators of clients look no further."""
    body = {"schema": {"type": "string", "format": "binary"}, "example": "the bytes of the file"}
    return dict.fromkeys(media_types, body)


def _parts(description: str, headers: dict[str, Any]) -> Responses:
    """Describe what `Range` leads to."""
    described = answer(
        f"{description}; several come as `multipart/byteranges`.",
        headers=headers
        | header("Content-Range", "Which bytes these are; absent if there are several parts.", "bytes 0-9/20000"),
    )
    size = header("Content-Range", "The file's size.", "bytes */20000")
    return {
        206: described | {"content": _bodies(*_TYPES, "multipart/byteranges")},
        416: answer(
            "The file has none of the bytes that `Range` asks for.",
            RANGE_NOT_SATISFIABLE,
            _VERSION | _RANGES_TAKEN | size,
        ),
    }


def _operation(
    summary: str,
    operation_id: str,
    answers: Responses,
    *refusals: type[errors.StorageError] | errors.StorageError,
    vary: dict[str, Any],
    parameters: list[dict[str, Any]],
) -> RouteDocument:
    """Describe what looking a stored file up may lead to, and who may have it.

    Args:
        vary: The header that answers without content have besides the usual ones.
    """
    return operation(
        summary,
        operation_id,
        {
            304: answer("The client has this version already.", headers=_VERSION | vary),
            412: answer(
                "The file is not the version that `If-Match` or `If-Unmodified-Since` asks for.",
                PRECONDITION_FAILED,
                _CACHING | vary,
            ),
            "default": answer(
                "Any other error of the access service, passed on with its status and its message.", "Unauthorized"
            ),
            **answers,
        },
        errors.InvalidType,
        errors.AccessDenied,
        errors.AccessDenied("The reason that the access service gave"),
        errors.FileMissing,
        errors.PathOutsideStorage,
        errors.AccessServiceConfused,
        errors.AccessServiceUnavailable,
        errors.ServiceUnavailable,
        *refusals,
        parameters=[*_FILE_PARAMETERS, *parameters],
    )


_PATH = "Path below the type's folder. Its slashes may be sent as they are, or as `%2F`."
_TAG = '"18c5a2f0d3b1a400-4e20-1a"'
_FILE_PARAMETERS = [
    parameter("path", "type", "Kind of file.", "archive", required=True, choices=StorageType),
    parameter("path", "path", _PATH, "mods/7/main.zip", required=True),
    parameter("cookie", "accessToken", "Passed on to the access service.", "eyJhbGciOiJIUzI1NiJ9.e30.x"),
    parameter("cookie", "refreshToken", "Passed on to the access service.", "eyJhbGciOiJIUzI1NiJ9.e30.y"),
    parameter("header", "If-None-Match", "Send only if the version is another.", _TAG),
    parameter("header", "If-Modified-Since", "Send only if newer.", _DATE),
    parameter("header", "If-Match", "Send only this version.", _TAG),
    parameter("header", "If-Unmodified-Since", "Send only if not newer.", _DATE),
]
_RANGE_PARAMETERS = [
    parameter("header", "Range", "Which bytes to send.", "bytes=0-9,-5"),
    parameter("header", "If-Range", "Obey `Range` only for this version.", _TAG),
]
_USABLE = "Name to save the file as, without extension; ignored unless it matches `[A-Za-z0-9_-]+`."
_FILENAME = parameter("query", "filename", _USABLE, "my_mod")
_CONTENTS_PARAMETERS = [
    parameter("query", "entry", "Name of the file to send, as in the listing.", _ENTRY),
    parameter("header", "Accept-Encoding", "Whether gzip is taken (RFC 9110, section 12.5.3).", "gzip"),
]
_CONTENTS_ERRORS = (errors.EntryMissing, errors.UnsupportedFormat())

HEAD_DOWNLOAD = _operation(
    "Look at a file",
    "head_file",
    {200: answer("The file exists.", headers=_FILE_HEADERS | _UNPACKED_BYTES)},
    vary={},
    parameters=[_FILENAME],
)
GET_DOWNLOAD = _operation(
    "Download a file",
    "download_file",
    {
        200: answer("The whole file.", headers=_FILE_HEADERS | _ACCEL_REDIRECT) | {"content": _bodies(*_TYPES)},
        302: answer(
            'Where the store itself has the file, for 300 seconds; only with `S3_DOWNLOADS = "redirect"`.',
            headers=header("Location", "An address with a signature; whoever has it can read this file.", _SIGNED)
            | header("Cache-Control", "Always `no-store`.", "no-store"),
        ),
        **_parts("The parts that `Range` asks for", _FILE_HEADERS),
    },
    vary={},
    parameters=[_FILENAME, *_RANGE_PARAMETERS],
)
HEAD_CONTENTS = _operation(
    "Look at what is in an archive",
    "head_contents",
    {200: answer("What GET would send.", headers=_CONTENTS_HEADERS)},
    *_CONTENTS_ERRORS,
    vary=_VARY,
    parameters=_CONTENTS_PARAMETERS,
)
GET_CONTENTS = _operation(
    "Look into an archive",
    "get_contents",
    {
        200: {
            "description": "The listing; with `entry`, the whole file, which may be JSON too.",
            "model": ArchiveContents | Any,
            "content": {
                "application/json": {"example": _ARCHIVE.model_dump(mode="json")},
                **_bodies(*(kind for kind in _TYPES if kind != "application/json")),
            },
            "headers": _CONTENTS_HEADERS,
        },
        **_parts("The parts of the file that `Range` asks for", _CONTENTS_HEADERS),
    },
    *_CONTENTS_ERRORS,
    vary=_VARY,
    parameters=[*_CONTENTS_PARAMETERS, *_RANGE_PARAMETERS],
)
