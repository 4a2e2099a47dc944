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
    """A URL that cannot be used; the text completes the sentence "the URL …" and holds nothing of the URL."""


@dataclass(frozen=True)
class SentinelUrl:
    """A Redis that sentinels know.

    Attributes:
        sentinels: Host and port of each, in the order of the URL.
        primary: What the sentinels call the primary.
        options: Of redis-py's connections to the primary: user, password, database and those of the query.
        sentinel_options: Of its connections to the sentinels: user and password of their own, and those of TLS.
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
        ValueError: It cannot read it, or does not know one of its options.
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
