"""bcrypt hashes of random tokens."""

from __future__ import annotations

import secrets

import bcrypt
import pytest

from open_workshop_storage.utils.auth.random_tokens import (
    hash_random_token,
    is_hash_of_random_token,
    is_random_token,
)

TOKEN = secrets.token_urlsafe(32).encode()
HASH = hash_random_token(TOKEN)


def test_any_bcrypt_compares_with_the_hash() -> None:
    assert bcrypt.checkpw(TOKEN, HASH)
    assert not bcrypt.checkpw(TOKEN + b"x", HASH)


def test_the_right_token_is_told_from_others_and_others_without_bcrypt(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_random_token(TOKEN, HASH)
    monkeypatch.delattr(bcrypt, "checkpw")
    assert not any(is_random_token(token, HASH) for token in (b"", TOKEN[:-1], TOKEN + b"x", TOKEN[::-1]))


def test_bcrypt_has_the_last_word() -> None:
    of_other_text = bcrypt.hashpw(b"another", HASH[:29])
    assert of_other_text.startswith(HASH[:29])
    assert not is_random_token(TOKEN, of_other_text)


def test_hashes_with_random_salts_are_told_apart() -> None:
    assert is_hash_of_random_token(HASH)
    assert not is_hash_of_random_token(bcrypt.hashpw(TOKEN, bcrypt.gensalt(4)))
