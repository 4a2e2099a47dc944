"""Says what may be a download URL, and where a redirect leads (docs/API.md, "GET `/transfer/start`")."""

from __future__ import annotations

import re
import socket
import unicodedata

import httpx

from open_workshop_storage.core.errors import BadRequest, BlockedUrl, DownloadFailed

# All blanks, and what shows nothing and is pasted along, such as marks of byte order and direction.
_BLANKS = " \t\r\n\u00a0\u205f\u2060\u3000\ufeff" + "".join(map(chr, [*range(0x2000, 0x2010), *range(0x2028, 0x2030)]))
_UNUSABLE = frozenset({"Cc", "Cs", "Zl", "Zp"})
_SCHEMES = frozenset({"http", "https"})
_DOTTED_QUAD = re.compile(r"((?:https?:)?//(?:[^/?#]*@)?)([0-9]+(?:\.[0-9]+){3})(?=[:/?#]|$)", re.IGNORECASE)


def parse_url(url: str) -> httpx.URL:
    """Return a download URL: http or https, with a host, on one line. Blanks at its ends are dropped, others encoded.

    Raises:
        BadRequest: The text is no such URL.
    """
    url = url.strip(_BLANKS)
    # An exception of httpx quotes the URL, which may hold a password.
    refusal = BadRequest("Invalid download URL")
    if any(unicodedata.category(char) in _UNUSABLE for char in url):
        raise refusal
    try:
        parsed = httpx.URL(_with_decimal_address(url))
    except httpx.InvalidURL:
        raise refusal from None
    if parsed.scheme not in _SCHEMES or not _has_peer(parsed):
        raise refusal
    return parsed


def redirected(url: httpx.URL, location: str) -> httpx.URL:
    """Return where a redirect leads. Credentials of `url` stay only on its own scheme, host and port.

    Raises:
        BlockedUrl: The redirect leads to another scheme than http and https.
        DownloadFailed: The location is no URL.
    """
    try:
        target = url.join(_with_decimal_address(location))
    except (httpx.InvalidURL, ValueError):
        raise DownloadFailed("Invalid redirect") from None
    if target.scheme not in _SCHEMES:
        raise BlockedUrl
    if not _has_peer(target):
        raise DownloadFailed("Invalid redirect")
    if not target.userinfo and (target.scheme, target.netloc) == (url.scheme, url.netloc):
        return target.copy_with(userinfo=url.userinfo)
    return target


def _with_decimal_address(url: str) -> str:
    """Undo octal parts in an IPv4 address: httpx refuses them, but to a resolver they are an address to judge."""
    quad = _DOTTED_QUAD.match(url)
    try:
        return quad[1] + socket.inet_ntoa(socket.inet_aton(quad[2])) + url[quad.end() :] if quad else url
    except OSError:
        return url


def _has_peer(url: httpx.URL) -> bool:
    # Reading `host` makes httpx decode IDNA, and raises the codec's own errors.
    host = url.raw_host
    # httpx encodes what no host name may hold, such as a blank; an IPv6 address may have a zone behind a `%`.
    is_name = bool(host) and (b"%" not in host or b":" in host)
    return is_name and (url.port is None or 0 < url.port < 65536)
