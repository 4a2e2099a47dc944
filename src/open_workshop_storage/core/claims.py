"""What a transfer token asks for (docs/API.md, "Transfer tokens")."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NoReturn

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import from_json

from open_workshop_storage.core.errors import BadRequest, UnsupportedFormat

JOB_ID = re.compile(r"[A-Za-z0-9_-]{8,128}")
"""The form of a job's id (docs/API.md, "Transfer tokens")."""

# RFC 7519 section 4.1: these speak of the token itself and mean nothing in another token.
_TOKEN_CLAIMS = frozenset({"iss", "aud", "exp", "nbf", "iat", "jti"})
# The Manager knows these already, and a download URL may carry a secret of its origin; `reason` is ours to say.
_NOT_CARRIED = frozenset({"download_url", "filename", "max_bytes", "keep_condition", "reason"})
# What a stored record may have around the claims.
_LEVELS_ABOVE = 10


USUAL_PACK_LEVEL = 3
"""Where a token names no level."""


class TransferKind(StrEnum):
    """What a transfer carries."""

    ARCHIVE = "archive"
    IMAGE = "img"


class TransferClaims(BaseModel):
    """The claims of one transfer token, judged. Read with `parse_claims`.

    Attributes:
        pack_level: Deflate level of a repack, 0 to 9.
        expires_at: Unix time, in seconds, from which on the token counts as expired.
        max_bytes: Limit on the received bytes that replaces `TRANSFER_MAX_BYTES`; 0 for none, `None` to keep it.
        carried: What goes through to the callback, claims that this code does not know included.
    """

    model_config = ConfigDict(frozen=True)

    job_id: str
    transfer_kind: TransferKind = TransferKind.ARCHIVE
    pack_level: int = USUAL_PACK_LEVEL
    expires_at: float = 0
    max_bytes: int | None = None
    download_url: str | None = None
    filename: str | None = None
    carried: dict[str, Any] = Field(default_factory=dict)

    @property
    def packed_format(self) -> str:
        """The format of the packed file: `zip` or `webp`."""
        return "webp" if self.transfer_kind is TransferKind.IMAGE else "zip"


def check_job_id(job_id: object) -> str:
    """Return the job id if it is one.

    Raises:
        BadRequest: It is no text of 8 to 128 letters, digits, `_` and `-`.
    """
    if isinstance(job_id, str) and JOB_ID.fullmatch(job_id):
        return job_id
    raise BadRequest("Invalid job id")


def clamp_level(level: int) -> int:
    """Return the Deflate level from 0 to 9 that is nearest to this one."""
    return min(max(level, 0), 9)


def parse_claims(claims: Mapping[str, Any], expires_at: float = 0) -> TransferClaims:
    """Judge the claims of a token whose signature has been checked.

    Raises:
        BadRequest: A claim is malformed, or names what does not exist.
        UnsupportedFormat: `pack_format` is not `zip`.
    """
    job_id = check_job_id(claims.get("job_id"))
    _check_storable(claims)
    kind = claims.get("transfer_kind") or TransferKind.ARCHIVE
    if kind not in list(TransferKind):
        _invalid("transfer kind")
    kind = TransferKind(kind)
    carried = {name: value for name, value in claims.items() if name not in _TOKEN_CLAIMS | _NOT_CARRIED}
    carried["update_only"] = True in (claims.get("update_only"), claims.get("keep_condition"))
    level = USUAL_PACK_LEVEL
    if kind is TransferKind.ARCHIVE:
        pack_format = claims.get("pack_format")
        if pack_format is not None and pack_format != "zip":
            raise UnsupportedFormat
        level = clamp_level(_whole_number(claims, "pack_level", USUAL_PACK_LEVEL))
        carried |= {"pack_format": "zip", "pack_level": level}
    else:
        if claims.get("storage_type") not in ("resource", "avatar"):
            _invalid("storage type")
        if claims.get("file_kind") not in (None, TransferKind.IMAGE):
            _invalid("file kind")
        carried["file_kind"] = TransferKind.IMAGE.value
    if not isinstance(claims.get("callback_context"), dict | None):
        _invalid("callback context")
    max_bytes = None if claims.get("max_bytes") is None else _whole_number(claims, "max_bytes", 0)
    if max_bytes is not None and max_bytes < 0:
        _invalid("max bytes")
    return TransferClaims(
        job_id=job_id,
        transfer_kind=kind,
        pack_level=level,
        expires_at=expires_at,
        max_bytes=max_bytes,
        download_url=_optional_text(claims, "download_url", "download URL"),
        filename=_optional_text(claims, "filename", "file name"),
        carried=carried,
    )


def _invalid(what: str) -> NoReturn:
    raise BadRequest(f"Invalid {what}")


def _check_storable(claims: Mapping[str, Any]) -> None:
    # The token's own parser accepts what a stored record could not be read with again: NaN, halves of characters, and
    # values in hundreds of others.
    try:
        from_json("[" * _LEVELS_ABOVE + json.dumps(claims) + "]" * _LEVELS_ABOVE, allow_inf_nan=False)
    except (ValueError, RecursionError):
        _invalid("claims")


def _whole_number(claims: Mapping[str, Any], name: str, default: int) -> int:
    value = claims.get(name)
    if value is None:
        return default
    if isinstance(value, str) and re.fullmatch(r"[+-]?[0-9]{1,18}", value):
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
        _invalid(name.replace("_", " "))
    return int(value)


def _optional_text(claims: Mapping[str, Any], name: str, label: str) -> str | None:
    value = claims.get(name)
    if value is not None and not isinstance(value, str):
        _invalid(label)
    return value
