"""Digest fields (RFC 9530)."""

from __future__ import annotations

import pytest

from open_workshop_storage.utils.http.digest_fields import digest_field, sha256_in

# Of RFC 9530, appendix B.1.
FIELD = "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:"
SHA256 = "44aff4ab2d7c3250525675a08f0cfa9591168cffe51791c5f5bbc417c15a6c38"
OTHER = "sha-256=:d435Qo+nKZ+gLcUHn7GQtQ72hiBVAgqoLsZnZPiTGPk=:"


def test_a_digest_is_written_as_it_is_read() -> None:
    assert digest_field(SHA256) == FIELD
    assert sha256_in([FIELD]) == SHA256


@pytest.mark.parametrize(
    "fields",
    [
        [FIELD, FIELD],
        [f"sha-512=:AAAA:, {FIELD}"],
        [f"unixsum=7;why=no, {FIELD};a=1, id-sha-256=?0"],
        ["sha-512=:AAAA:", "", f" {FIELD} "],
    ],
)
def test_other_algorithms_and_a_digest_said_twice_change_nothing(fields: list[str]) -> None:
    assert sha256_in(fields) == SHA256


@pytest.mark.parametrize("fields", [[], [""], ["sha-512=:AAAA:"], ["md5=:AAAA:", "sha=:AAAA:"]])
def test_without_a_sha_256_there_is_none(fields: list[str]) -> None:
    assert sha256_in(fields) is None


@pytest.mark.parametrize(
    "fields",
    [
        ["sha-256"],
        ["sha-256=44aff4ab"],
        [f'sha-256="{SHA256}"'],
        ["sha-256=:AAAA:"],
        ["sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg!:"],
        [f"sha-256=({FIELD.removeprefix('sha-256=')})"],
        [FIELD, OTHER],
        [FIELD, "\xff"],
        [f"{FIELD},"],
        [FIELD.upper()],
        pytest.param([*["sha-512=:AAAA:"] * 70, FIELD], id="longer than any that is meant"),
    ],
)
def test_what_is_malformed_or_contradicts_itself_is_told(fields: list[str]) -> None:
    with pytest.raises(ValueError):
        sha256_in(fields)
