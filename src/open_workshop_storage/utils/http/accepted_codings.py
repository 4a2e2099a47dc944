"""Content codings that a client takes (RFC 9110, section 12.5.3)."""

from __future__ import annotations

import re

_GZIP_NAMES = ("gzip", "x-gzip")
_IDENTITY, _ANY = "identity", "*"
# Browsers send 30 or so. 16 KiB of commas take 15 ms.
_MAX_CHARACTERS = 1024
_WEIGHT = re.compile(r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")


def prefers_gzip(accept_encoding: str) -> bool:
    """Return whether a client takes gzip at least as gladly as no coding.

    One that sends no `Accept-Encoding` would have to take any coding, but often knows none. A header of more than 1 KiB
    is not looked at.

    Args:
        accept_encoding: The header's value, empty if there is none.
    """
    if len(accept_encoding) > _MAX_CHARACTERS:
        return False
    weights: dict[str, float] = {}
    for item in accept_encoding.split(","):
        coding, *parameters = (part.strip(" \t").lower() for part in item.split(";"))
        weight = _weight(parameters)
        if coding and weight is not None:
            weights[coding] = weight
    gzip = max((weights[name] for name in _GZIP_NAMES if name in weights), default=weights.get(_ANY, 0.0))
    # Without a weight of its own, no coding is what is left when nothing else will do.
    return gzip > 0 and gzip >= weights.get(_IDENTITY, 0.0)


def _weight(parameters: list[str]) -> float | None:
    """Return the weight among an item's parameters, 1 if there is none; None if it is malformed."""
    if not parameters:
        return 1.0
    name, _, value = parameters[0].partition("=")
    if len(parameters) > 1 or name != "q" or not _WEIGHT.fullmatch(value):
        return None
    return float(value)
