"""bcrypt hashes of random tokens, by which a wrong token is known in microseconds.

Any bcrypt compares with such a hash. Its salt, which is random in others, is a mark and the beginning of the token's
SHA-256. That helps no search: there is none for 32 random bytes, whatever the hash.
"""

from __future__ import annotations

import base64
import hashlib
import hmac

import bcrypt

# A high cost protects texts that can be guessed, which 32 random bytes cannot. 4 is the lowest there is.
_BEGINNING = b"$2b$04$OWtoken/"
_DIGEST_BYTES = 10
# The letters of base64, and those that bcrypt has in their place.
_LETTERS = bytes.maketrans(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
    b"./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
)


def hash_random_token(token: bytes) -> bytes:
    """Return the hash of a token of at least 32 random bytes, written as text of at most 72 bytes."""
    return bcrypt.hashpw(token, _salt(token))


def is_hash_of_random_token(hashed: bytes) -> bool:
    """Return whether `hash_random_token` made a hash."""
    return hashed.startswith(_BEGINNING)


def is_random_token(token: bytes, hashed: bytes) -> bool:
    """Return whether a token is the one that `hash_random_token` made a hash of; only the right one takes a ms.

    Args:
        token: At most 72 bytes without a NUL, as bcrypt takes them.
    """
    salt = _salt(token)
    return hmac.compare_digest(salt, hashed[: len(salt)]) and bcrypt.checkpw(token, hashed)


def _salt(token: bytes) -> bytes:
    digest = hashlib.sha256(token).digest()[:_DIGEST_BYTES]
    return _BEGINNING + base64.b64encode(digest).rstrip(b"=").translate(_LETTERS)
