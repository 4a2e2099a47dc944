"""Forms that are refused before their file has come in."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import httpx
import pytest

from tests.support.client import eventually, raw_request
from tests.support.servers import Server
from tests.support.services import Services, running_services

LIMIT = 1_000_000
UNTRUSTED = 700_000
BEGINNING = (
    '--b\r\nContent-Disposition: form-data; name="token"\r\n\r\n{token}\r\n'
    '--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\nthe first bytes'
)


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    folder = tmp_path_factory.mktemp("limited")
    with running_services(
        folder, apps=["loader"], UPLOAD_MAX_BYTES=LIMIT, UPLOAD_UNTRUSTED_MAX_BYTES=UNTRUSTED
    ) as running:
        yield running


def answer_to_beginning(loader: Server, token: str, announced: int) -> str:
    """Send the beginning of a form and no more; return the answer that comes before its end."""
    head = (
        "POST /upload HTTP/1.1\r\nHost: storage\r\nContent-Type: multipart/form-data; boundary=b\r\n"
        f"Content-Length: {announced}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", loader.port), timeout=60) as connection:
        connection.sendall((head + BEGINNING.format(token=token)).encode())
        answer = b""
        while b"\r\n\r\n" not in answer or not answer.partition(b"\r\n\r\n")[2]:
            piece = connection.recv(65536)
            assert piece, f"closed after {answer!r}"
            answer += piece
    return answer.decode()


def test_a_wrong_token_is_refused_before_the_file_comes(limited: Services) -> None:
    answer = answer_to_beginning(limited.servers["loader"], "wrong", LIMIT)
    assert answer.startswith("HTTP/1.1 403 ")
    assert answer.endswith("\r\n\r\nAccess denied")


def test_an_announced_size_over_the_limit_is_refused_at_once(limited: Services) -> None:
    answer = answer_to_beginning(limited.servers["loader"], limited.secrets.upload_file, 10 * LIMIT)
    assert answer.startswith("HTTP/1.1 413 ")
    assert answer.endswith("\r\n\r\nFile too large")


def form_with_file_first(size: int, rest: bytes = b"") -> bytes:
    """Return a request whose form has so much of the file, and then the rest."""
    form = b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n' + bytes(size) + rest
    head = "POST /upload HTTP/1.1\r\nHost: storage\r\nContent-Type: multipart/form-data; boundary=b\r\n"
    return f"{head}Content-Length: {len(form) + (not rest)}\r\n\r\n".encode() + form


@pytest.mark.anyio
async def test_files_that_come_before_their_tokens_share_a_limit_and_silent_ones_make_room(
    limited: Services, http: httpx.AsyncClient
) -> None:
    url, temp = limited.loader, limited.main_dir / "temp"
    fields = {"token": limited.secrets.upload_file, "type": "resource", "path": "x"}
    rest = "".join(
        f'\r\n--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}' for name, value in fields.items()
    )
    whole = form_with_file_first(300_000, f"{rest}\r\n--b--\r\n".encode())
    reader, writer = await asyncio.open_connection("127.0.0.1", limited.servers["loader"].port)
    writer.write(form_with_file_first(600_000))
    silent = asyncio.create_task(reader.readuntil(b"Service unavailable"))

    stored = await http.post(f"{url}/upload", data=fields, files={"file": bytes(LIMIT - 1000)})
    assert stored.status_code == 201, "its token comes first"
    # Until the bytes of the silent one have arrived.
    while not silent.done():
        assert (await raw_request(url, whole)).status == 201
    refused = await silent
    assert refused.startswith(b"HTTP/1.1 503 ") and b"retry-after: " in refused.lower()
    writer.close()
    await eventually(lambda: not any(temp.iterdir()))
    too_large = await raw_request(url, form_with_file_first(UNTRUSTED + 1))
    assert (too_large.status, too_large.body) == (413, b"Send the token before the file")
    await eventually(lambda: not any(temp.iterdir()))
