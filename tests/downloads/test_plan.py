"""Decisions on answers to download requests, without any file (RFC 9110, sections 13 to 15)."""

from __future__ import annotations

import time
from http import HTTPStatus

import pytest

from open_workshop_storage.services.downloads.plan import Plan, plan_answer
from open_workshop_storage.services.storage.files import StorageType, StoredFile
from open_workshop_storage.utils.http.dates import parse_date

MODIFIED = 784111777
FILE = StoredFile("archive/a/x.zip", StorageType.ARCHIVE, 100, MODIFIED * 10**9, ("tag",), None)
ETAG = '"tag"'


def plan(
    requested: dict[str, str], method: str = "GET", filename: str | None = None, sha256: str | None = None
) -> Plan:
    return plan_answer(method, requested, FILE, filename, "no-cache", sha256)


def test_a_whole_file_comes_with_all_that_describes_it() -> None:
    answer = plan({}, filename="my_mod")
    assert (answer.status, answer.pieces) == (HTTPStatus.OK, [range(100)])
    assert dict(answer.headers) == {
        b"content-security-policy": b"default-src 'none'; sandbox",
        b"cache-control": b"no-cache",
        b"etag": ETAG.encode(),
        b"last-modified": b"Sun, 06 Nov 1994 08:49:37 GMT",
        b"accept-ranges": b"bytes",
        b"content-disposition": b'attachment; filename="my_mod.zip"',
        b"content-type": b"application/zip",
        b"content-length": b"100",
    }


def test_a_known_digest_is_told_with_the_file_and_with_parts_of_it_only() -> None:
    for method in ("GET", "HEAD"):
        assert dict(plan({}, method, sha256="00" * 32).headers)[b"repr-digest"] == b"sha-256=:" + b"A" * 43 + b"=:"
    for wanted in ("bytes=0-9", "bytes=0-9,20-29"):
        assert b"repr-digest" in dict(plan({"range": wanted}, sha256="00" * 32).headers)
    for requested in ({"if-none-match": ETAG}, {"if-match": '"other"'}, {"range": "bytes=100-"}):
        assert b"repr-digest" not in dict(plan(requested, sha256="00" * 32).headers)


def test_head_has_the_headers_of_get_and_no_body_and_ignores_ranges() -> None:
    assert plan({}, "HEAD") == plan({})._replace(pieces=[])
    assert plan({"range": "bytes=0-9"}, "HEAD") == plan({}, "HEAD")


@pytest.mark.parametrize(
    ("requested", "status"),
    [
        ({"if-none-match": ETAG}, HTTPStatus.NOT_MODIFIED),
        ({"if-match": '"other"'}, HTTPStatus.PRECONDITION_FAILED),
        ({"range": "bytes=100-"}, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE),
        ({"range": "bytes=0-9", "if-range": '"other"'}, HTTPStatus.OK),
        ({"range": "bytes=0-9", "if-range": ETAG}, HTTPStatus.PARTIAL_CONTENT),
    ],
)
def test_conditions_decide_before_ranges(requested: dict[str, str], status: HTTPStatus) -> None:
    assert plan(requested).status is status


def test_the_length_of_several_parts_is_that_of_all_pieces() -> None:
    answer = plan({"range": "bytes=0-9,20-29"})
    assert [piece for piece in answer.pieces if isinstance(piece, range)] == [range(0, 10), range(20, 30)]
    assert dict(answer.headers)[b"content-length"] == str(sum(map(len, answer.pieces))).encode()


def test_a_time_of_the_future_is_told_as_now() -> None:
    answer = plan_answer("GET", {}, FILE._replace(modified_ns=(int(time.time()) + 3600) * 10**9), None, "")
    told = parse_date(dict(answer.headers)[b"last-modified"].decode())
    assert told is not None and told <= time.time()
    assert b"cache-control" not in dict(answer.headers)
