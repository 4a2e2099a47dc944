"""bcrypt hashes of random tokens that tell a wrong token in microseconds.

Any bcrypt library can check such a hash. In place of a random salt it has a mark and the beginning of the token's
SHA-256. That makes no token easier to find: 32 random bytes cannot be searched for, whatever the hash.
"""

from __future__ import annotations

import base64
import hashlib
import hmac

import bcrypt

# A high cost protects texts that can be guessed, which 32 random bytes cannot. 4 is the lowest cost.
_BEGINNING = b"$2b$04$OWtoken/"
_DIGEST_BYTES = 10
# The alphabet of base64, and that of bcrypt.
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
    """Return whether `hash_random_token` made a hash of this token; only the right one takes a millisecond.

    Args:
        token: At most 72 bytes without a NUL, as bcrypt takes them.
    """
    salt = _salt(token)
    return hmac.compare_digest(salt, hashed[: len(salt)]) and bcrypt.checkpw(token, hashed)


def _salt(token: bytes) -> bytes:
    digest = hashlib.sha256(token).digest()[:_DIGEST_BYTES]
    return _BEGINNING + base64.b64encode(digest).rstrip(b"=").translate(_LETTERS)
