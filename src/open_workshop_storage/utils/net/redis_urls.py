"""What the URL of a Redis says (docs/CONFIGURATION.md, "Redis")."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from redis.asyncio.connection import BlockingConnectionPool, parse_url
from redis.exceptions import RedisError

_SCHEMES = {"redis+sentinel": "redis", "rediss+sentinel": "rediss"}
_USUAL_PORT = "26379"
_OF_THE_SENTINELS = {"sentinel_username": "username", "sentinel_password": "password"}


class RedisUrlError(ValueError):
    """A URL cannot be used; the text, which quotes nothing of it, completes the sentence "the URL …"."""


@dataclass(frozen=True)
class SentinelUrl:
    """A Redis whose primary is asked of sentinels.

    Attributes:
        sentinels: Host and port of each, in the order of the URL.
        primary: The name that the sentinels have for the primary.
        options: For redis-py's connections to the primary: user, password, database, and the options in the query.
        sentinel_options: For its connections to the sentinels: their own user and password, and the options of TLS.
    """

    sentinels: tuple[tuple[str, int], ...]
    primary: str
    uses_tls: bool
    options: Mapping[str, Any] = field(repr=False)
    sentinel_options: Mapping[str, Any] = field(repr=False)


def is_sentinel_url(url: str) -> bool:
    """Return whether the URL names sentinels instead of a Redis."""
    return url.partition("://")[0] in _SCHEMES


def parse_sentinel_url(url: str) -> SentinelUrl:
    """Read a URL for which `is_sentinel_url` is true.

    Raises:
        RedisUrlError: It cannot be used.
    """
    scheme, _, rest = url.partition("://")
    rest, _, query = rest.partition("?")
    authority, _, path = rest.partition("/")
    user, at, hosts = authority.rpartition("@")
    primary, _, database = path.partition("/")
    if not primary:
        raise RedisUrlError("names no primary after its sentinels")
    if database and not (database.isascii() and database.isdecimal()):
        raise RedisUrlError("has a database that is not a number")
    try:
        options: dict[str, Any] = {**parse_url(f"{_SCHEMES[scheme]}://{user}{at}sentinel/{database}?{query}")}
        own = {name: options.pop(of_url) for of_url, name in _OF_THE_SENTINELS.items() if of_url in options}
        _check(options)
    except ValueError:
        raise RedisUrlError("has a user, a password or an option that cannot be read") from None
    tls = {name: value for name, value in options.items() if name.startswith("ssl_")}
    for name in ("host", "connection_class"):
        options.pop(name, None)
    sentinels = tuple(map(_host_and_port, hosts.split(",")))
    return SentinelUrl(sentinels, unquote(primary), scheme == "rediss+sentinel", options, {**own, **tls})


def redis_options(url: str) -> dict[str, Any]:
    """Return what redis-py reads in a redis://, rediss:// or unix:// URL.

    Raises:
        ValueError: The URL is malformed, or has an unknown option.
    """
    options: dict[str, Any] = {**parse_url(url)}
    _check(options)
    return options


def _check(options: Mapping[str, Any]) -> None:
    """Raise ValueError for an option that would fail with the first command."""
    try:
        # Nothing is connected.
        BlockingConnectionPool(**options).make_connection()  # type: ignore[no-untyped-call]
    except (TypeError, RedisError) as error:
        raise ValueError from error


def _host_and_port(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, _USUAL_PORT
    if not host.strip("[]"):
        raise RedisUrlError("names no sentinel, or has a comma too many")
    if not (port.isascii() and port.isdecimal() and 0 < int(port) < 65536):
        raise RedisUrlError("has a sentinel whose port is not a number from 1 to 65535")
    return host.strip("[]"), int(port)
