"""Configurations for services under test."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import bcrypt

_CHEAPEST_BCRYPT_COST = 4


@dataclass(frozen=True)
class Secrets:
    """What the Manager and the storage share: the JWT secret, and the plain tokens of the form calls."""

    jwt_secret: str = field(default_factory=lambda: secrets.token_urlsafe(48))
    upload_file: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    delete_file: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    storage_manage_token: str = field(default_factory=lambda: secrets.token_urlsafe(24))

    def settings(self) -> dict[str, str]:
        """Return the settings that match them: the JWT secret, and a hash of each token."""
        return {
            "TRANSFER_JWT_SECRET": self.jwt_secret,
            "upload_file": cheap_hash(self.upload_file),
            "delete_file": cheap_hash(self.delete_file),
            "storage_manage_token": cheap_hash(self.storage_manage_token),
        }


@cache
def cheap_hash(token: str) -> str:
    """Return a bcrypt hash at the lowest cost there is; too weak for anything but tests."""
    return bcrypt.hashpw(token.encode(), bcrypt.gensalt(_CHEAPEST_BCRYPT_COST)).decode()


def write_config(folder: Path, settings: Mapping[str, object]) -> Path:
    """Write an `ow_config.py` and return its path."""
    path = folder / "ow_config.py"
    path.write_text("".join(f"{name} = {value!r}\n" for name, value in settings.items()))
    return path
