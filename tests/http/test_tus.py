"""The headers of tus, read (tus.io, "Resumable upload protocol 1.0.x")."""

from __future__ import annotations

import hashlib
from base64 import b64encode

import pytest

from open_workshop_storage.utils.http.tus import Checksum, parse_checksum, parse_metadata, parse_number


def encoded(text: str) -> str:
    return b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    "value, pairs",
    [
        ("", {}),
        (" ", {}),
        (f"filename {encoded('мод.zip')}", {"filename": "мод.zip"}),
        (f"filename {encoded('a.zip')},is_confidential", {"filename": "a.zip", "is_confidential": ""}),
        (f"a {encoded('1')}, b {encoded('2')}", {"a": "1", "b": "2"}),
        ("empty ", {"empty": ""}),
        ("filename /w==", {"filename": "�"}),
    ],
)
def test_metadata_is_read_as_pairs(value: str, pairs: dict[str, str]) -> None:
    assert parse_metadata(value) == pairs


@pytest.mark.parametrize("value", ["filename a", "filename ***", "a,a", ",", "ключ YQ=="])
def test_malformed_metadata_is_refused(value: str) -> None:
    with pytest.raises(ValueError):
        parse_metadata(value)


@pytest.mark.parametrize("algorithm", ["sha256", "sha1"])
def test_a_checksum_is_read_with_its_algorithm(algorithm: str) -> None:
    digest = hashlib.new(algorithm, b"bytes").digest()
    assert parse_checksum(f"{algorithm} {b64encode(digest).decode()}") == Checksum(algorithm, digest)


@pytest.mark.parametrize("value", ["", "sha256", "md5 CY9rzUYh03PK3k6DJie09g==", "sha256 YQ==", "sha256 ***"])
def test_other_checksums_are_refused(value: str) -> None:
    with pytest.raises(ValueError):
        parse_checksum(value)


def test_a_number_has_digits_only() -> None:
    assert parse_number("0") == 0 and parse_number("123456789012345678") == 123456789012345678
    assert parse_number(None) is None
    for value in ("", "-1", "+1", "1.0", " 1", "1" * 19, "٣"):
        with pytest.raises(ValueError):
            parse_number(value)
