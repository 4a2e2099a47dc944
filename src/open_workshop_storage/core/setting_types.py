"""The values that settings may have: their types, and what an operator reads where a value is not valid."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from open_workshop_storage.utils.net.clamd import parse_address
from open_workshop_storage.utils.net.redis_urls import RedisUrlError, is_sentinel_url, parse_sentinel_url, redis_options

NAMED_FAULT = "named_fault"
"""Type of the errors whose message may be shown, since it holds nothing of the value."""

# A cost of 4 to 31, 22 characters of salt, of which the last holds 2 bits only, and 31 of hash.
_BCRYPT_HASH = r"\$2[abxy]\$(0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}"
_URL_PATH = r"(/[A-Za-z0-9_-][A-Za-z0-9._~-]*)+/?"
_BUCKET_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{1,62}"
_OBJECT_PREFIX = r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*/?"
_WORD = r"[A-Za-z0-9-]+"
USUAL_REGION = "us-east-1"
"""What stores without regions take."""
_SPAN_KINDS = frozenset({"receive", "send", "operation"})


def listed(value: str) -> list[str]:
    """Return the items of a setting that holds several, separated by commas."""
    return [item.strip() for item in value.split(",") if item.strip()]


def _optional(check: Callable[[str], str]) -> AfterValidator:
    """Let the value be empty."""
    return AfterValidator(lambda value: check(value) if value else value)


def _of_form(pattern: str) -> Callable[[str], str]:
    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError
        return value

    return check


def _path_of_form(pattern: str) -> Callable[[str], str]:
    return lambda value: _of_form(pattern)(value).rstrip("/")


def _http_url(value: str) -> str:
    parts = urlsplit(value)
    # Reading the port raises if it is not valid.
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
        raise ValueError
    if " " in value or not value.isprintable():
        raise ValueError
    return value


def _base_url(value: str) -> str:
    if "?" in value or "#" in value:
        raise ValueError
    return _http_url(value).rstrip("/")


def _redis_url(value: str) -> str:
    try:
        if is_sentinel_url(value):
            parse_sentinel_url(value)
        elif value:
            redis_options(value)
    except RedisUrlError as error:
        raise PydanticCustomError(NAMED_FAULT, "{fault}", {"fault": str(error)}) from None
    return value


def _scanner_address(value: str) -> str:
    parse_address(value)
    return value


def _jwt_secret(value: str) -> str:
    if len(value.encode()) < 32:
        raise ValueError
    return value


def _header_value(value: str) -> str:
    if not value.isascii() or not value.isprintable() or value != value.strip():
        raise ValueError
    return value


def _networks(value: str) -> str:
    for item in listed(value):
        ipaddress.ip_network(item)
    return value


def _patterns(value: str) -> str:
    try:
        for pattern in listed(value):
            re.compile(pattern)
    except re.error:
        raise ValueError from None
    return value


def _span_kinds(value: str) -> str:
    if not _SPAN_KINDS.issuperset(listed(value)):
        raise ValueError
    return value


def _no_empty_path(value: object) -> object:
    # An empty path would be the current folder.
    if value == "":
        raise ValueError
    return value


def _no_bool(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError
    return value


Count = Annotated[int, Field(ge=0, description="a whole number, 0 for no limit"), BeforeValidator(_no_bool)]
Bytes = Annotated[int, Field(ge=0, description="a whole number of bytes, 0 for no limit"), BeforeValidator(_no_bool)]
Seconds = Annotated[
    float, Field(gt=0, allow_inf_nan=False, description="a number of seconds above 0"), BeforeValidator(_no_bool)
]
OptionalSeconds = Annotated[
    float,
    Field(ge=0, allow_inf_nan=False, description="a number of seconds, 0 for no time limit"),
    BeforeValidator(_no_bool),
]
FolderPath = Annotated[Path, BeforeValidator(_no_empty_path)]
BaseUrl = Annotated[str, AfterValidator(_base_url)]
OptionalHttpUrl = Annotated[str, _optional(_http_url), Field(description="a full http(s) URL, or empty")]
OptionalBaseUrl = Annotated[str, _optional(_base_url)]
BucketName = Annotated[str, _optional(_of_form(_BUCKET_NAME))]
ObjectPrefix = Annotated[str, _optional(_path_of_form(_OBJECT_PREFIX))]
Region = Annotated[str, AfterValidator(lambda value: _of_form(_WORD)(value or USUAL_REGION))]
RedisUrl = Annotated[str, AfterValidator(_redis_url)]
ScannerAddress = Annotated[str, _optional(_scanner_address)]
UrlPath = Annotated[str, _optional(_path_of_form(_URL_PATH))]
CacheControl = Annotated[
    str, AfterValidator(_header_value), Field(description="the value of a Cache-Control header, or empty for none")
]
JwtSecret = Annotated[str, AfterValidator(_jwt_secret)]
BcryptHash = Annotated[
    str, AfterValidator(_of_form(_BCRYPT_HASH)), Field(description="a bcrypt hash, as token_gen.py prints it")
]
Networks = Annotated[str, AfterValidator(_networks)]
Patterns = Annotated[
    str, AfterValidator(_patterns), Field(description="regular expressions separated by commas, or empty")
]
SpanKinds = Annotated[
    str, AfterValidator(_span_kinds), Field(description="receive, send or operation, separated by commas, or empty")
]
