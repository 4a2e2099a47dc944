"""What downloads remember of earlier requests."""

from __future__ import annotations

from typing import TypeVar

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


def remember(known: dict[_Key, _Value], key: _Key, value: _Value, most: int) -> None:
    """Remember a value as the latest of at most so many, and forget the one that was remembered first.

    A plain dictionary holds them, since looking something up in one of `cachetools` takes four times as long.
    """
    known.pop(key, None)
    if len(known) >= most:
        del known[next(iter(known))]
    known[key] = value
