"""Malformed requests are refused with a short plain text, by whichever layer."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from open_workshop_storage import distributor, loader
from tests.support.client import raw_request
from tests.support.documents import operations
from tests.support.services import Services

# They do not get as far as a store.
pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("services", ["memory"], indirect=True)]

DOCUMENTS = {"distributor": distributor.app.openapi(), "loader": loader.app.openapi()}
OPERATIONS = {
    operation.id: (name, operation) for name, document in DOCUMENTS.items() for operation in operations(document)
}
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE", "BREW"]

URLENCODED = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=x"

UNREADABLE_FORMS = [
    (MULTIPART, b"no form"),
    (MULTIPART, b"--x\r\n\r\n\r\n--x--\r\n"),
    (MULTIPART, b'--x\r\nContent-Disposition: form-data; name="token"\r\n\r\ncut off'),
    (MULTIPART, b'--x\r\nContent-Disposition: form-data; name="\xff"\r\n\r\na\r\n--x--\r\n'),
    (MULTIPART, b'--x\r\nContent-Disposition: form-data; name="token"\r\n\r\n\xff\r\n--x--\r\n'),
    (MULTIPART, b"--x\r\n" + b"A: b\r\n" * 5000 + b"\r\n\r\n--x--\r\n"),
    ("multipart/form-data", b"--x--\r\n"),
    ("multipart/form-data; boundary=", b"--x--\r\n"),
    ("multipart/form-data; boundary=" + "x" * 300, b"--x--\r\n"),
    (URLENCODED, b"token=\xff"),
    (URLENCODED, b"token=%ff"),
    (URLENCODED, b"&".join(b"a=1" for _ in range(100))),
    (URLENCODED, b"token=" + b"a" * 100_000),
]
FORMS_WITHOUT_TOKEN = [
    (URLENCODED, b""),
    (URLENCODED, b"token"),
    (URLENCODED, b"&&&"),
    ("application/json", b'{"token": "x"}'),
    ("text/plain", b"token=x"),
    ("\xff", b"token=x"),
    (MULTIPART, b"--x--\r\n"),
]
FORM_CALLS = ["upload_file", "delete_file", "start_transfer_by_form", "repack_transfer", "move_transfer"]


def is_short_plain_text(answer: httpx.Response) -> bool:
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    return len(answer.text) < 80 and not set(answer.text) & set("{}[]<>\n")


async def refusal(services: Services, http: httpx.AsyncClient, operation_id: str, **sent: Any) -> tuple[int, str]:
    """Call an operation; return the status and the text of its answer, which must be a documented refusal."""
    name, operation = OPERATIONS[operation_id]
    path = sent.pop("path", operation.path)
    answer = await http.request(operation.method, services.servers[name].url + path, **sent)
    assert 400 <= answer.status_code < 500, answer.text
    assert is_short_plain_text(answer)
    operation.check(answer)
    return answer.status_code, answer.text


@pytest.mark.parametrize("name", DOCUMENTS)
async def test_a_method_that_a_path_does_not_know_is_told_those_that_it_knows(
    name: str, services: Services, http: httpx.AsyncClient
) -> None:
    for path, item in DOCUMENTS[name]["paths"].items():
        known = [method for method in METHODS if method.lower() in item]
        for method in set(METHODS) - set(known):
            answer = await http.request(
                method, services.servers[name].url + path.format(type="resource", path="x", job_id="x", jti="x")
            )
            assert answer.status_code == 405
            assert answer.headers["allow"] == ", ".join([*known, "OPTIONS"])
            assert method == "HEAD" or (is_short_plain_text(answer) and answer.text == "Method Not Allowed")


@pytest.mark.parametrize(
    ("name", "targets"),
    [
        (
            "distributor",
            [
                "/download",
                "/download/",
                "/download/resource",
                "//download/resource/x",
                "/blurhashes/",
                "/distributor",
                "/docs/oauth2-redirect",
                "/%",
                "/%ff",
                "*",
            ],
        ),
        (
            "loader",
            [
                "/upload/",
                "/transfer",
                "/transfer/ws",
                "/transfer/ws/job-7f3a9c21",
                "/transfer/ws/job-7f3a9c21?token=x",
                "/loader/swagger/nothing.js",
            ],
        ),
    ],
)
async def test_a_path_that_does_not_exist_is_told_so(name: str, targets: list[str], services: Services) -> None:
    for target in targets:
        for method in ("GET", "POST"):
            request = f"{method} {target} HTTP/1.1\r\nHost: storage\r\n\r\n"
            answer = await raw_request(services.servers[name].url, request.encode())
            assert (answer.status, answer.body) == (404, b"Not Found"), target
            assert answer.headers["content-type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize("operation_id", FORM_CALLS)
async def test_a_form_that_cannot_be_read_is_refused(
    operation_id: str, services: Services, http: httpx.AsyncClient
) -> None:
    for content_type, body in UNREADABLE_FORMS:
        told = await refusal(services, http, operation_id, headers={"Content-Type": content_type}, content=body)
        assert told in [(400, "Malformed form"), (400, "Request body too large")], (content_type, body[:100])


@pytest.mark.parametrize("operation_id", FORM_CALLS)
async def test_a_form_without_a_token_is_refused(
    operation_id: str, services: Services, http: httpx.AsyncClient
) -> None:
    for content_type, body in FORMS_WITHOUT_TOKEN:
        headers = {"Content-Type": content_type.encode("latin-1")}
        told = await refusal(services, http, operation_id, headers=headers, content=body)
        assert told == (401, "Token not found"), (content_type, body)


@pytest.mark.parametrize("operation_id", FORM_CALLS)
async def test_a_wrong_token_is_refused_before_any_other_field_is_judged(
    operation_id: str, services: Services, http: httpx.AsyncClient
) -> None:
    files = {"file": b"any"} if operation_id == "upload_file" else None
    for token in ("wrong", "x" * 200, services.secrets.jwt_secret):
        sent = {"token": token, "type": "nonsense", "job_id": "no job id", "format": "rar"}
        told = await refusal(services, http, operation_id, data=sent, files=files)
        assert told == (403, "Access denied"), token


async def test_a_faulty_move_is_refused(services: Services, http: httpx.AsyncClient) -> None:
    sound = {"job_id": "no-such-job", "type": "archive", "path": "mods/1/x.zip"}
    for fields, told in (
        ({}, (404, "Job not found")),
        *(({"job_id": job_id}, (400, "Invalid job id")) for job_id in ("", "short", "../../../etc/passwd", "x" * 129)),
        ({"type": "nonsense"}, (400, "Invalid type")),
    ):
        form = {"token": services.secrets.storage_manage_token, **sound, **fields}
        assert await refusal(services, http, "move_transfer", data=form) == told
    for missing in sound:
        form = {"token": services.secrets.storage_manage_token, **sound}
        del form[missing]
        assert (await refusal(services, http, "move_transfer", data=form))[0] == 400, missing


async def test_a_path_that_no_file_can_have_is_refused(services: Services, http: httpx.AsyncClient) -> None:
    secrets = services.secrets
    for path in ("", "/", "a/", "a\0b", "a" * 5000, "/".join("ab" * 3000)):
        form = {"type": "resource", "path": path}
        sent = {"data": {**form, "token": secrets.upload_file}, "files": {"file": b"content"}}
        assert (await refusal(services, http, "upload_file", **sent))[0] in (400, 423), path
        sent = {"data": {**form, "token": secrets.delete_file}}
        assert (await refusal(services, http, "delete_file", **sent))[0] in (400, 403, 404), path
        sent = {"data": {**form, "token": secrets.storage_manage_token, "job_id": "no-such-job"}}
        assert (await refusal(services, http, "move_transfer", **sent))[0] in (400, 404, 423), path


async def test_a_faulty_repack_is_refused(services: Services, http: httpx.AsyncClient) -> None:
    for fields, told in (
        ({}, (400, "Invalid job id")),
        ({"job_id": "short"}, (400, "Invalid job id")),
        ({"job_id": "../../../../etc"}, (400, "Invalid job id")),
        ({"job_id": "no-such-job", "format": "rar"}, (400, "Unsupported format")),
        ({"job_id": "no-such-job", "format": "7z"}, (400, "Unsupported format")),
        ({"job_id": "no-such-job", "compression_level": "high"}, (400, "Invalid compression level")),
        ({"job_id": "no-such-job", "compression_level": "3.5"}, (400, "Invalid compression level")),
        ({"job_id": "no-such-job", "compression_level": "9" * 5000}, (400, "Invalid compression level")),
        ({"job_id": "no-such-job", "compression_level": "", "format": ""}, (404, "Job not found")),
    ):
        form = {"token": services.secrets.storage_manage_token, **fields}
        assert await refusal(services, http, "repack_transfer", data=form) == told


@pytest.mark.parametrize("operation_id", ["start_transfer_by_query", "start_transfer_by_form", "upload_transfer"])
async def test_a_transfer_without_a_usable_token_is_refused(
    operation_id: str, services: Services, http: httpx.AsyncClient
) -> None:
    path = OPERATIONS[operation_id][1].path
    for query in ("", "token", "token=", "token=x&token=", "a" * 8000):
        assert await refusal(services, http, operation_id, path=f"{path}?{query}") == (401, "Token not found"), query
    for query in ("token=%ff", "token=a.b.c", "token=%00", "token=" + "a" * 8000):
        assert await refusal(services, http, operation_id, path=f"{path}?{query}") == (403, "Access denied"), query


async def test_an_authorization_without_a_usable_token_is_refused(services: Services, http: httpx.AsyncClient) -> None:
    for value, told in (
        ("", (401, "Token not found")),
        ("Bearer", (401, "Token not found")),
        ("Basic YTpi", (401, "Token not found")),
        ("x" * 9000, (401, "Token not found")),
        ("Bearer \xff", (403, "Access denied")),
        ("Bearer a b", (403, "Access denied")),
    ):
        headers = {"Authorization": value.encode("latin-1")}
        assert await refusal(services, http, "upload_transfer", headers=headers, content=b"any") == told, value


async def test_a_claim_of_the_wrong_kind_is_refused(services: Services, http: httpx.AsyncClient) -> None:
    faults: list[tuple[dict[str, object], str]] = [
        ({"job_id": None}, "Invalid job id"),
        ({"job_id": ["job-7f3a9c21"]}, "Invalid job id"),
        ({"mode": "\ud800"}, "Invalid claims"),
        ({"mode": float("nan")}, "Invalid claims"),
        ({"mode": json.loads("[" * 250 + "]" * 250)}, "Invalid claims"),
        ({"transfer_kind": "film"}, "Invalid transfer kind"),
        ({"transfer_kind": ["img"]}, "Invalid transfer kind"),
        ({"pack_level": "high"}, "Invalid pack level"),
        ({"pack_level": {}}, "Invalid pack level"),
        ({"pack_format": 1}, "Unsupported format"),
        ({"pack_format": "7z"}, "Unsupported format"),
        ({"transfer_kind": "img"}, "Invalid storage type"),
        ({"transfer_kind": "img", "storage_type": []}, "Invalid storage type"),
        ({"transfer_kind": "img", "storage_type": "avatar", "file_kind": {}}, "Invalid file kind"),
        ({"callback_context": "text"}, "Invalid callback context"),
        ({"max_bytes": -1}, "Invalid max bytes"),
        ({"max_bytes": "many"}, "Invalid max bytes"),
        ({"download_url": 7}, "Invalid download URL"),
        ({"filename": []}, "Invalid file name"),
    ]
    for claims, text in faults:
        token = services.manager.transfer_token(**{"job_id": "malformed-claims", **claims})  # type: ignore[arg-type]
        for operation_id in ("upload_transfer", "start_transfer_by_query"):
            assert await refusal(services, http, operation_id, params={"token": token}) == (400, text), claims


async def test_a_download_url_that_will_not_do_is_refused(services: Services, http: httpx.AsyncClient) -> None:
    for url in (
        "",
        "mod.zip",
        "//host/x",
        "ftp://host/x",
        "file:///etc/passwd",
        "http://",
        "http://[::1",
        "http://a b/",
        "http://host/\r\nHost: other",
    ):
        params = {"token": services.ticket(download_url=url).token}
        told = await refusal(services, http, "start_transfer_by_query", params=params)
        assert told == (400, "Invalid download URL" if url else "Download URL missing"), url


async def test_a_batch_that_is_none_is_refused(services: Services, http: httpx.AsyncClient) -> None:
    bodies = [b"", b"{", b"null", b"NaN", b"[]", b"{}", b'{"paths": "x"}', b'{"paths": [1]}', b'{"paths": ["\xff"]}']
    for body in (*bodies, b"[" * 9999):
        for content_type in ("application/json", URLENCODED, "\xff"):
            headers = {"Content-Type": content_type.encode("latin-1")}
            told = await refusal(services, http, "compute_blurhashes", headers=headers, content=body)
            assert told == (400, "Invalid body: a list of at most 1000 paths expected"), body[:100]


async def test_a_download_that_cannot_be_is_refused(services: Services, http: httpx.AsyncClient) -> None:
    for target, status, text in (
        ("%ff/x", 400, "Invalid type"),
        ("temp/x", 400, "Invalid type"),
        ("resource/", 404, "File not found"),
        ("resource/%ff", 404, "File not found"),
        ("resource/%zz", 404, "File not found"),
        ("resource/a%00b", 404, "File not found"),
        ("archive/mods/seven/main.zip", 404, "File not found"),
        ("resource/" + "a" * 9000, 404, "File not found"),
        ("resource/" + "a/" * 9000, 404, "File not found"),
        ("resource/x?filename=%ff&filename=%00", 404, "File not found"),
        ("resource/..%2f..%2fx", 423, "Access denied"),
        ("resource/%2fetc/passwd", 423, "Access denied"),
    ):
        assert await refusal(services, http, "download_file", path=f"/download/{target}") == (status, text), target


async def test_a_header_without_sense_is_ignored(services: Services) -> None:
    services.stored("resource/plain.txt", b"plain")
    for header in (
        "Range: bytes=\xff",
        "Range: lines=1-2",
        "If-None-Match: \xff",
        "If-Modified-Since: \xff",
        "Cookie: \xff",
    ):
        request = f"GET /download/resource/plain.txt HTTP/1.1\r\nHost: storage\r\n{header}\r\n\r\n"
        answer = await raw_request(services.distributor, request.encode("latin-1"))
        assert (answer.status, answer.body) == (200, b"plain"), header
