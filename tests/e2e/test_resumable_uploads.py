"""Uploads over tus: created, paused, gone on with, ended (docs/API.md, "Resumable uploads")."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

import httpx
import pytest

from tests.support.archives import SMALL_MOD, entries_of, zip_of
from tests.support.client import InterruptedBody, watching
from tests.support.digests import field_of
from tests.support.manager import Answer
from tests.support.services import Services, Ticket
from tests.support.tus import BYTES, VERSION, TusUpload, checksum, metadata

pytestmark = pytest.mark.anyio


@pytest.fixture
def ticket(services: Services) -> Ticket:
    return services.ticket()


@pytest.fixture
def tus(services: Services, http: httpx.AsyncClient, ticket: Ticket) -> TusUpload:
    return TusUpload(http, services.loader, ticket.token, ticket.job_id)


def upload_of(services: Services, http: httpx.AsyncClient, **claims: object) -> tuple[Ticket, TusUpload]:
    ticket = services.ticket(**claims)
    return ticket, TusUpload(http, services.loader, ticket.token, ticket.job_id)


async def held_after_10_bytes(
    services: Services, ticket: Ticket, tus: TusUpload, content: bytes
) -> tuple[InterruptedBody, asyncio.Task[httpx.Response]]:
    """Begin an upload by a request that is held up once the loader has 10 bytes of its body."""
    await tus.create(len(content))
    body = InterruptedBody(content)
    request = asyncio.create_task(tus.patch(0, aiter(body)))
    async with watching(services.loader, ticket.job_id, ticket.token) as watcher:
        await watcher.until(bytes=10)
    return body, request


async def test_an_upload_in_pieces_ends_as_one_in_a_single_body_does(
    services: Services, http: httpx.AsyncClient, ticket: Ticket, tus: TusUpload
) -> None:
    sent = zip_of(SMALL_MOD)
    created = await tus.create(len(sent))
    assert created.status_code == 201
    assert created.headers["location"] == f"/transfer/tus/{ticket.job_id}?token={ticket.token}"
    assert created.headers["upload-offset"] == "0" and created.headers["upload-expires"].endswith("GMT")
    assert created.headers["tus-resumable"] == "1.0.0"
    half = len(sent) // 2
    first = await tus.patch(0, sent[:half])
    assert (first.status_code, first.headers["upload-offset"]) == (204, str(half))
    assert first.headers["upload-expires"].endswith("GMT")
    asked = await tus.head()
    assert asked.status_code == 200 and asked.headers["cache-control"] == "no-store"
    assert (asked.headers["upload-offset"], asked.headers["upload-length"]) == (str(half), str(len(sent)))
    assert asked.headers["upload-metadata"] == metadata(filename="mod.zip")
    last = await tus.patch(half, sent[half:])
    assert (last.status_code, last.headers["upload-offset"]) == (204, str(len(sent)))
    (callback,) = services.manager.wait_for_callbacks(ticket.job_id)
    assert callback.claims["status"] == "success" and callback.claims["bytes"] == len(sent)
    assert callback.answered, "the last answer left before the callback's first attempt had ended"
    assert (services.main_dir / ticket.path).read_bytes() == sent
    ended = await tus.head()
    assert ended.status_code == 200 and ended.headers["upload-offset"] == ended.headers["upload-length"]
    assert not (services.main_dir / "temp" / ticket.job_id).exists()


async def test_options_tell_version_extensions_and_algorithms(services: Services, http: httpx.AsyncClient) -> None:
    for path in ("/transfer/tus/", "/transfer/tus/job-12345678"):
        answer = await http.options(services.loader + path)
        assert answer.status_code == 200
        assert answer.headers["tus-version"] == "1.0.0" and answer.headers["tus-resumable"] == "1.0.0"
        assert set(answer.headers["tus-extension"].split(",")) == {
            "creation",
            "creation-with-upload",
            "creation-defer-length",
            "termination",
            "expiration",
            "checksum",
        }
        assert answer.headers["tus-checksum-algorithm"] == "sha256,sha1"
        assert "tus-max-size" not in answer.headers


async def test_a_request_without_the_version_is_refused_but_for_head(
    services: Services, http: httpx.AsyncClient, tus: TusUpload
) -> None:
    await tus.create(10)
    query = {"token": tus.token}
    for version in ({}, {"Tus-Resumable": "0.2.2"}):
        answers = [
            await http.post(
                f"{services.loader}/transfer/tus/", params=query, headers={"Upload-Length": "3", **version}
            ),
            await http.patch(tus.url, params=query, headers={"Upload-Offset": "0", **BYTES, **version}, content=b"a"),
            await http.delete(tus.url, params=query, headers=version),
        ]
        for answer in answers:
            assert answer.status_code == 412 and answer.headers["tus-version"] == "1.0.0"
            assert answer.headers["tus-resumable"] == "1.0.0"
    asked = await http.head(tus.url, params=query)
    assert (asked.status_code, asked.headers["upload-offset"]) == (200, "0")


@pytest.mark.parametrize("first", [100, None], ids=["the first", "all"])
async def test_bytes_may_come_with_the_creation(
    first: int | None, services: Services, ticket: Ticket, tus: TusUpload
) -> None:
    sent = zip_of(SMALL_MOD)
    created = await tus.create(len(sent), sent[:first])
    assert (created.status_code, created.headers["upload-offset"]) == (201, str(len(sent[:first])))
    if first is not None:
        assert (await tus.patch(first, sent[first:])).status_code == 204
    assert (services.main_dir / ticket.path).read_bytes() == sent


async def test_a_file_with_another_digest_is_refused_for_good(
    services: Services, ticket: Ticket, tus: TusUpload
) -> None:
    sent = zip_of(SMALL_MOD)
    malformed = await tus.create(len(sent), None, **{"Repr-Digest": "sha-256=7"})
    assert (malformed.status_code, malformed.text) == (400, "Malformed upload header")
    assert (await tus.create(len(sent), None, **{"Repr-Digest": field_of(sent[1:])})).status_code == 201
    assert (await tus.patch(0, sent[:50])).status_code == 204
    last = await tus.patch(50, sent[50:])
    assert (last.status_code, last.text) == (400, "Digest mismatch")
    assert (await tus.head()).status_code == 410
    (callback,) = services.manager.wait_for_callbacks(ticket.job_id)
    assert (callback.claims["status"], callback.claims["reason"]) == ("error", "exception")


async def test_the_length_may_come_later(services: Services, ticket: Ticket, tus: TusUpload) -> None:
    sent = zip_of(SMALL_MOD)
    assert (await tus.create(None)).status_code == 201
    asked = await tus.head()
    assert asked.headers["upload-defer-length"] == "1" and "upload-length" not in asked.headers
    assert (await tus.patch(0, sent[:50])).status_code == 204
    last = await tus.patch(50, sent[50:], **{"Upload-Length": str(len(sent))})
    assert last.status_code == 204
    assert (services.main_dir / ticket.path).read_bytes() == sent


async def test_a_length_that_was_told_cannot_change(tus: TusUpload) -> None:
    await tus.create(None)
    assert (await tus.patch(0, b"abc", **{"Upload-Length": "10"})).status_code == 204
    assert (await tus.patch(3, b"abc", **{"Upload-Length": "11"})).status_code == 400
    assert (await tus.head()).headers["upload-length"] == "10"


async def test_asking_again_without_a_length_gives_the_upload_whose_length_came_later(tus: TusUpload) -> None:
    await tus.create(None)
    assert (await tus.patch(0, b"abc", **{"Upload-Length": "10"})).status_code == 204
    again = await tus.create(None)
    assert (again.status_code, again.headers["upload-offset"]) == (201, "3")


async def test_an_empty_upload_is_an_empty_file(services: Services, ticket: Ticket, tus: TusUpload) -> None:
    created = await tus.create(0, name="nothing.txt")
    assert created.status_code == 201
    # The creation brought the last byte, or an empty PATCH does: clients do either.
    assert (await tus.patch(0, b"")).status_code == 204
    services.manager.wait_for_callbacks(ticket.job_id)
    assert entries_of((services.main_dir / ticket.path).read_bytes()) == {"nothing.txt": b""}


async def test_asking_again_for_an_unfinished_upload_gives_the_same(tus: TusUpload) -> None:
    created = await tus.create(10)
    await tus.patch(0, b"abc")
    again = await tus.create(10)
    assert again.status_code == 201 and again.headers["location"] == created.headers["location"]
    assert again.headers["upload-offset"] == "3"
    assert (await tus.create(11)).status_code == 409
    assert (await tus.head()).headers["upload-offset"] == "3"


async def test_asking_again_for_a_finished_upload_is_refused(ticket: Ticket, tus: TusUpload) -> None:
    sent = zip_of(SMALL_MOD)
    await tus.create(len(sent), sent)
    again = await tus.create(len(sent))
    assert (again.status_code, again.text) == (409, "Upload already finished")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Upload-Length": "-1"},
        {"Upload-Length": "a"},
        {"Upload-Defer-Length": "2"},
        {"Upload-Length": "3", "Upload-Defer-Length": "1"},
        {"Upload-Length": "3", "Upload-Metadata": "filename ***"},
    ],
)
async def test_a_malformed_creation_is_refused_and_creates_nothing(
    headers: dict[str, str], services: Services, http: httpx.AsyncClient, tus: TusUpload
) -> None:
    url = f"{services.loader}/transfer/tus/"
    answer = await http.post(url, params={"token": tus.token}, headers=VERSION | headers)
    assert answer.status_code == 400 and answer.headers["content-type"].startswith("text/plain")
    assert (await tus.head()).status_code == 404


async def test_empty_metadata_is_none(tus: TusUpload) -> None:
    assert (await tus.create(3, None, **{"Upload-Metadata": ""})).status_code == 201
    assert "upload-metadata" not in (await tus.head()).headers


async def test_an_upload_that_was_not_created_is_unknown(tus: TusUpload) -> None:
    assert (await tus.head()).status_code == 404
    assert (await tus.patch(0, b"abc")).status_code == 404
    assert (await tus.delete()).status_code == 404


async def test_another_offset_or_media_type_is_refused_and_changes_nothing(
    services: Services, http: httpx.AsyncClient, tus: TusUpload
) -> None:
    await tus.create(10)
    await tus.patch(0, b"abc")
    assert (await tus.patch(0, b"abc")).status_code == 409
    assert (await tus.patch(4, b"abc")).status_code == 409
    query = {"token": tus.token}
    wrong = await http.patch(tus.url, params=query, headers={**VERSION, "Upload-Offset": "3"}, content=b"abc")
    assert wrong.status_code == 415
    missing = await http.patch(tus.url, params=query, headers={**VERSION, **BYTES}, content=b"abc")
    assert missing.status_code == 400
    assert (await tus.head()).headers["upload-offset"] == "3"


async def test_more_than_the_length_is_refused_and_the_upload_lives_on(ticket: Ticket, tus: TusUpload) -> None:
    await tus.create(10)
    refused = await tus.patch(0, b"a" * 11)
    assert 400 <= refused.status_code < 500 and refused.status_code not in (409, 423)


async def test_after_the_end_only_an_empty_request_is_taken(tus: TusUpload) -> None:
    sent = zip_of(SMALL_MOD)
    await tus.create(len(sent), sent)
    assert (await tus.patch(len(sent), b"")).status_code == 204
    more = await tus.patch(len(sent), b"abc")
    assert (more.status_code, more.text) == (400, "More bytes than the upload has")


@pytest.mark.parametrize("algorithm", ["sha256", "sha1"])
async def test_a_checksum_that_does_not_match_leaves_none_of_the_bytes(
    algorithm: str, services: Services, ticket: Ticket, tus: TusUpload
) -> None:
    sent = zip_of(SMALL_MOD)
    await tus.create(len(sent))
    right = await tus.patch(0, sent[:60], **{"Upload-Checksum": checksum(sent[:60], algorithm)})
    assert right.status_code == 204
    wrong = await tus.patch(60, b"x" * 40, **{"Upload-Checksum": checksum(sent[60:100], algorithm)})
    assert wrong.status_code == 460
    assert (await tus.head()).headers["upload-offset"] == "60"
    for header in ("md5 CY9rzUYh03PK3k6DJie09g==", "sha256 ***"):
        assert (await tus.patch(60, sent[60:], **{"Upload-Checksum": header})).status_code == 400
    assert (await tus.patch(60, sent[60:])).status_code == 204
    assert (services.main_dir / ticket.path).read_bytes() == sent


async def test_what_came_before_a_cut_counts(tus: TusUpload, services: Services, ticket: Ticket) -> None:
    sent = zip_of({"large": bytes(range(256)) * 20_000, **SMALL_MOD}, 0)
    _, cut = await held_after_10_bytes(services, ticket, tus, sent)
    cut.cancel()
    with suppress(asyncio.CancelledError):
        await cut
    assert (await tus.head()).headers["upload-offset"] == "10"
    assert (await tus.patch(10, sent[10:])).status_code == 204
    services.manager.wait_for_callbacks(ticket.job_id)


async def test_asking_ends_a_request_that_still_holds_on(services: Services, ticket: Ticket, tus: TusUpload) -> None:
    sent = zip_of(SMALL_MOD)
    body, stale = await held_after_10_bytes(services, ticket, tus, sent)
    asked = await tus.head()
    assert (asked.status_code, asked.headers["upload-offset"]) == (200, "10")
    assert (await tus.patch(10, sent[10:])).status_code == 204
    body.go_on.set()
    with suppress(httpx.TransportError):
        assert (await stale).status_code in (409, 423)
    assert (services.main_dir / ticket.path).read_bytes() == sent


async def test_a_second_patch_ends_the_first(services: Services, ticket: Ticket, tus: TusUpload) -> None:
    sent = zip_of(SMALL_MOD)
    body, first = await held_after_10_bytes(services, ticket, tus, sent)
    second = await tus.patch(10, sent[10:])
    # It may have to ask first: the loser of two hears 409 or 423.
    if second.status_code in (409, 423):
        second = await tus.patch(int((await tus.head()).headers["upload-offset"]), sent[10:])
    assert second.status_code == 204
    body.go_on.set()
    with suppress(httpx.TransportError):
        assert (await first).status_code in (409, 423)
    assert (services.main_dir / ticket.path).read_bytes() == sent


async def test_an_upload_is_given_up(services: Services, ticket: Ticket, tus: TusUpload) -> None:
    await tus.create(10, b"abc")
    async with watching(services.loader, ticket.job_id, ticket.token) as watcher:
        assert (await tus.delete()).status_code == 204
        messages = await watcher.finish()
    assert messages[-1]["event"] == "error" and messages[-1]["message"] == "Upload cancelled"
    (callback,) = services.manager.wait_for_callbacks(ticket.job_id)
    assert (callback.claims["status"], callback.claims["reason"]) == ("error", "exception")
    assert (await tus.head()).status_code == 410
    assert (await tus.patch(3, b"abc")).status_code == 410
    assert not (services.main_dir / "temp" / ticket.job_id).exists()


async def test_after_an_error_a_new_upload_begins_afresh(services: Services, ticket: Ticket, tus: TusUpload) -> None:
    # A Manager that takes the second attempt, too.
    services.manager.script(ticket.job_id, Answer(), Answer())
    await tus.create(10, b"abc")
    await tus.delete()
    sent = zip_of(SMALL_MOD)
    assert (await tus.create(len(sent), sent)).status_code == 201
    services.manager.wait_for_callbacks(ticket.job_id, 2)
    assert (services.main_dir / ticket.path).read_bytes() == sent


async def test_a_paused_upload_is_uploading_and_its_socket_stays_open(
    services: Services, http: httpx.AsyncClient, ticket: Ticket, tus: TusUpload
) -> None:
    sent = zip_of(SMALL_MOD)
    await tus.create(len(sent), sent[:40])
    async with watching(services.loader, ticket.job_id, ticket.token) as watcher:
        snapshot = watcher.messages[0]
        assert (snapshot["event"], snapshot["status"], snapshot["stage"]) == ("progress", "uploading", "uploading")
        assert (snapshot["bytes"], snapshot["total"]) == (40, len(sent))
        assert (await tus.patch(40, sent[40:])).status_code == 204
        messages = await watcher.finish()
    assert messages[-1]["event"] == "complete"
    other = await http.post(f"{services.loader}/transfer/upload", params={"token": ticket.token}, content=sent)
    assert other.status_code == 409


async def test_a_plain_upload_does_not_disturb_a_paused_one(
    services: Services, http: httpx.AsyncClient, ticket: Ticket, tus: TusUpload
) -> None:
    await tus.create(10, b"abc")
    other = await http.post(f"{services.loader}/transfer/upload", params={"token": ticket.token}, content=b"x")
    assert (other.status_code, other.text) == (409, "Upload already in progress")
    assert (await tus.head()).headers["upload-offset"] == "3"


@pytest.mark.parametrize("is_told_later", [False, True])
async def test_a_length_over_the_limit_is_refused_before_the_bytes_come(
    is_told_later: bool, services: Services, http: httpx.AsyncClient
) -> None:
    ticket, tus = upload_of(services, http, max_bytes=100)
    refused = await tus.create(None if is_told_later else 101)
    if is_told_later:
        refused = await tus.patch(0, b"abc", **{"Upload-Length": "101"})
    assert (refused.status_code, refused.text) == (413, "File too large")
    (callback,) = services.manager.wait_for_callbacks(ticket.job_id)
    assert callback.claims["reason"] == "size_limit"


async def test_more_bytes_than_the_limit_end_an_upload_of_unknown_length(
    services: Services, http: httpx.AsyncClient
) -> None:
    ticket, tus = upload_of(services, http, max_bytes=100)
    await tus.create(None)
    assert (await tus.patch(0, b"a" * 60)).status_code == 204
    refused = await tus.patch(60, b"a" * 60)
    assert (refused.status_code, refused.text) == (413, "File too large")
    assert (await tus.head()).status_code == 410


async def test_a_refused_archive_is_refused_to_the_last_request(
    services: Services, ticket: Ticket, tus: TusUpload
) -> None:
    sent = zip_of(SMALL_MOD)[:-30]
    await tus.create(len(sent))
    refused = await tus.patch(0, sent)
    assert (refused.status_code, refused.text) == (400, "Corrupt archive")
    (callback,) = services.manager.wait_for_callbacks(ticket.job_id)
    assert callback.claims["reason"] == "corrupt_archive"
    assert (await tus.head()).status_code == 410


async def test_an_upload_that_the_manager_refuses_is_told_so(
    services: Services, ticket: Ticket, tus: TusUpload
) -> None:
    services.manager.script(ticket.job_id, Answer(403, move=False))
    sent = zip_of(SMALL_MOD)
    await tus.create(len(sent))
    refused = await tus.patch(0, sent)
    assert (refused.status_code, refused.text) == (422, "Upload not accepted")
    assert (await tus.head()).status_code == 410


async def test_tokens_are_judged_as_for_other_uploads(services: Services, http: httpx.AsyncClient) -> None:
    ticket, tus = upload_of(services, http)
    nothing = await http.post(f"{services.loader}/transfer/tus/", headers={**VERSION, "Upload-Length": "3"})
    assert (nothing.status_code, nothing.text) == (401, "Token not found")
    tus.token = "nonsense"
    assert (await tus.create(3)).status_code == 403
    other, _ = upload_of(services, http)
    tus.token = ticket.token
    await tus.create(3)
    tus.token = other.token
    assert (await tus.head()).status_code == 403
    assert (await tus.patch(0, b"abc")).status_code == 403
    bearer = {"Authorization": f"Bearer {ticket.token}"}
    assert (await http.head(tus.url, headers=bearer)).status_code == 200


async def test_an_expired_token_goes_on_with_what_it_began_and_begins_nothing(
    services: Services, http: httpx.AsyncClient
) -> None:
    # Leeway is 30 seconds.
    expired = services.manager.transfer_token("job-begun-by-none", mod_id=5, exp=int(time.time()) - 100)
    nothing = TusUpload(http, services.loader, expired, "job-begun-by-none")
    assert (await nothing.create(3)).status_code == 403
    ticket, tus = upload_of(services, http)
    sent = zip_of(SMALL_MOD)
    await tus.create(len(sent), sent[:10])
    tus.token = services.manager.transfer_token(ticket.job_id, mod_id=ticket.mod_id, exp=int(time.time()) - 100)
    assert (await tus.create(len(sent))).status_code == 201
    assert (await tus.head()).headers["upload-offset"] == "10"
    assert (await tus.patch(10, sent[10:])).status_code == 204
    assert (await tus.head()).headers["upload-offset"] == str(len(sent))


async def test_the_method_may_stand_in_a_header(services: Services, http: httpx.AsyncClient, tus: TusUpload) -> None:
    await tus.create(10)
    headers = {**VERSION, **BYTES, "Upload-Offset": "0", "X-HTTP-Method-Override": "PATCH"}
    answer = await http.post(tus.url, params={"token": tus.token}, headers=headers, content=b"abc")
    assert (answer.status_code, answer.headers["upload-offset"]) == (204, "3")


async def test_pages_of_other_origins_may_read_all_headers_of_tus(tus: TusUpload) -> None:
    created = await tus.create(10)
    exposed = {name.strip().lower() for name in created.headers["access-control-expose-headers"].split(",")}
    assert {"location", "tus-resumable", "upload-offset", "upload-length", "upload-expires"} <= exposed


async def test_an_encrypted_first_entry_is_refused_by_the_first_request(
    services: Services, http: httpx.AsyncClient, ticket: Ticket, tus: TusUpload
) -> None:
    encrypted = bytearray(zip_of({"a": bytes(2_000_000)}, 0))
    encrypted[6] |= 1
    await tus.create(len(encrypted))
    refused = await tus.patch(0, bytes(encrypted[:1_000_000]))
    assert (refused.status_code, refused.text) == (400, "Encrypted zip not allowed")
    assert (await tus.head()).status_code == 410


async def test_paused_uploads_hold_no_slot(services: Services, http: httpx.AsyncClient) -> None:
    uploads = [upload_of(services, http)[1] for _ in range(6)]
    for tus in uploads:
        assert (await tus.create(10, b"abc")).status_code == 201
    for tus in uploads:
        assert (await tus.patch(3, b"defg")).status_code == 204
